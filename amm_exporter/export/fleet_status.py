"""What the page of many processes and its `/api/v1/status.json` say. Pure: from states to a document.

Names and fields of the JSON are public. Of a process there is its name, never its arguments nor its environment.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from amm_exporter.control.fleet import MemberState
from amm_exporter.model import CgroupMemory, HostMemory, Tier
from amm_exporter.probes.cgroups import SYSFS


def fleet_status(
    states: Sequence[MemberState],
    host: HostMemory | None,
    *,
    pattern: str,
    now_unix_seconds: float,
    version: str,
) -> dict[str, Any]:
    """The document: bytes, seconds, ratios 0 to 1, None where nothing is known. The worst process comes first."""
    tiers = Counter(state.tier for state in states)
    return {
        "amm_version": version,
        "unix_seconds": now_unix_seconds,
        "match": pattern,
        "host": asdict(host) if host else None,
        "count": len(states),
        "tiers": {tier.label: tiers[tier] for tier in Tier},
        "leaking": sum(state.leak.leaking for state in states),
        "rss_bytes": sum(state.memory.rss_bytes for state in states),
        "processes": [_process(state, now_unix_seconds) for state in sorted(states, key=_badness, reverse=True)],
    }


def _badness(state: MemberState) -> tuple[object, ...]:
    return state.tier, state.leak.leaking, state.worst_ratio, state.memory.rss_bytes, -state.memory.pid


def _process(state: MemberState, now_unix_seconds: float) -> dict[str, Any]:
    return {
        "pid": state.memory.pid,
        "name": state.name,
        "tier": state.tier.label,
        "uptime_seconds": max(0.0, now_unix_seconds - state.started_unix_seconds),
        "rss_bytes": state.memory.rss_bytes,
        "virtual_bytes": state.memory.virtual_bytes,
        "peak_bytes": state.peak_bytes,
        "limit_bytes": state.limit.size_bytes if state.limit else None,
        "limit_source": state.limit.source if state.limit else None,
        "usage_ratio": state.usage_ratio if state.limit else None,
        "growth": _growth(state),
        "cgroup": {**_cgroup(state.cgroup), "usage_ratio": state.cgroup_ratio} if state.cgroup else None,
    }


def _growth(state: MemberState) -> dict[str, Any]:
    """As the page of one process has it; `kind` is "unknown" while there are too few samples for more than a guess."""
    leak = state.leak
    slopes = {"slope": leak.slope, "lower": leak.lower, "upper": leak.upper}
    finite = {name: value if math.isfinite(value) else None for name, value in slopes.items()}
    return {"series": "rss", "leaking": leak.leaking, "kind": leak.kind, **finite}


def _cgroup(cgroup: CgroupMemory) -> dict[str, Any]:
    return {
        "path": _below_mount(cgroup),
        "usage_bytes": cgroup.usage_bytes,
        "working_set_bytes": cgroup.working_set_bytes,
        "limit_bytes": cgroup.limit_bytes,
    }


def _below_mount(cgroup: CgroupMemory) -> str:
    """The path as it can be seen from here, without where the hierarchy is mounted."""
    path = cgroup.path.removeprefix(str(SYSFS))
    return (path.removeprefix("/memory") if cgroup.version == 1 else path) or "/"
