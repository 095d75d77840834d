"""A fleet's metrics as Prometheus text, by the names of the one table, each series with its process's pid and name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from amm_exporter.control.fleet import Fleet, MemberState
from amm_exporter.export.exposition import GAUGE, Family, Labels, negotiate, render
from amm_exporter.export.names import METRICS

_Values = list[tuple[str, float | None]]
"""Values by their own label's value ("" where the metric has none); None is left out."""


def _usage(state: MemberState) -> _Values:
    cgroup = state.cgroup.working_set_bytes if state.cgroup else None
    return [("process", state.memory.rss_bytes), ("cgroup", cgroup)]


_SHOWN: dict[str, Callable[[MemberState], _Values]] = {
    "process.memory.usage": lambda state: [("", state.memory.rss_bytes)],
    "process.memory.virtual": lambda state: [("", state.memory.virtual_bytes)],
    "process.uptime": lambda state: [("", time.time() - state.started_unix_seconds)],
    "amm.memory.peak": lambda state: [("", state.peak_bytes)],
    "amm.memory.usage": _usage,
    "amm.memory.limit": lambda state: [(state.limit.source, state.limit.size_bytes)] if state.limit else [],
    "amm.memory.usage_ratio": lambda state: [("process", state.usage_ratio), ("cgroup", state.cgroup_ratio)],
    "amm.memory.tier": lambda state: [("", int(state.tier))],
    "amm.memory.leak.slope": lambda state: [("rss", state.leak.slope)],
    "amm.memory.leak.slope.lower": lambda state: [("rss", state.leak.lower)],
    "amm.memory.leak.detected": lambda state: [("rss", int(state.leak.leaking))],
}


def render_fleet(fleet: Fleet, accept: str = "") -> tuple[str, bytes]:
    """Content type and text of a reading made now."""
    content_type = negotiate(accept)
    return content_type, render(families(fleet.read()), content_type)


def families(states: Iterable[MemberState]) -> list[Family]:
    rows = [(METRICS[name], values) for name, values in _SHOWN.items()]
    found = [Family(name=metric.prometheus, kind=GAUGE, help=metric.help) for metric, _ in rows]
    for state in states:
        identity: Labels = (("process_executable_name", state.name), ("process_pid", str(state.memory.pid)))
        for family, (metric, values) in zip(found, rows, strict=True):
            for label, value in values(state):
                if value is not None:
                    family.series[(*identity, (metric.labels[0], label)) if label else identity] = value
    return found
