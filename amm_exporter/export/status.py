"""What the page and `/api/v1/status.json` say, worked out from the metrics and, after a leak, from its evidence. Pure.

So but for that evidence (evidence_view.py) the page can show nothing that a scrape does not, and works for a family of
processes and a process seen from outside alike. Names and fields of the JSON are public.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from copy import copy
from typing import Any

from amm_exporter.export.evidence_view import public
from amm_exporter.export.exposition import Buckets, Family, Labels, Value
from amm_exporter.export.group import WORKER_LABEL, plus
from amm_exporter.export.history import History
from amm_exporter.export.names import GROUP_METRICS, METRICS
from amm_exporter.model import Tier

_LONGEST = METRICS["amm.gc.pause.max"].prometheus
_ADDED_UP = frozenset(
    METRICS[name].prometheus.removesuffix("_total")
    for name in (
        "amm.gc.pause.duration", "amm.cache.requests", "amm.cache.entries", "amm.cache.max_entries", "amm.cache.size",
        "amm.cache.evictions", "amm.pool.objects", "amm.pool.requests",
    )
)  # fmt: skip
Series = list[tuple[dict[str, str], Value]]


class Facts:
    """Look-up by OpenTelemetry name and attributes, in the series of one process."""

    def __init__(self, families: Iterable[Family], pid: str = "") -> None:
        self._families = {family.name: family for family in families}
        self._pid = pid
        self._by_process: dict[str, dict[str | None, Series]] = {}

    def of(self, pid: str) -> Facts:
        """Those of another process. What is sorted by process serves both: a thousand need not look at all of all."""
        other = copy(self)
        other._pid = pid
        return other

    def series(self, name: str, /, **labels: str) -> Series:
        metric = METRICS.get(name) or GROUP_METRICS[name]
        by_process = self._sorted(metric.prometheus.removesuffix("_total"))
        found = (*by_process.get(None, ()), *by_process.get(self._pid, ()))
        return [(own, value) for own, value in found if labels.items() <= own.items()]

    def _sorted(self, name: str) -> dict[str | None, Series]:
        """By the process that a series is of; None where it is of no single one."""
        if name not in self._by_process:
            found = self._by_process[name] = {}
            family = self._families.get(name)
            for key, value in family.series.items() if family else ():
                own = dict(key)
                found.setdefault(own.get(WORKER_LABEL), []).append((own, value))
        return self._by_process[name]

    def one(self, name: str, /, **labels: str) -> float | None:
        """The value, None where it is absent or no finite number (JSON has no other)."""
        found = [value for _, value in self.series(name, **labels) if not isinstance(value, Buckets)]
        return found[0] if found and math.isfinite(found[0]) else None

    def by(self, name: str, label: str, /, **labels: str) -> dict[str, float]:
        """Values by one label."""
        return {
            own[label]: value
            for own, value in self.series(name, **labels)
            if label in own and not isinstance(value, Buckets) and math.isfinite(value)
        }

    def names(self, *metrics: str) -> list[str]:
        """Of the caches or pools that any of these metrics has."""
        return list(dict.fromkeys(own["name"] for metric in metrics for own, _ in self.series(metric) if "name" in own))


def added_up(families: Iterable[Family]) -> list[Family]:
    """Caches, pools and pauses of all processes that are shown, as of one: which of them serves the page is chance."""
    found = []
    for family in families:
        if family.name in _ADDED_UP or family.name == _LONGEST:
            series: dict[Labels, Value] = {}
            for labels, value in family.series.items():
                own = tuple(pair for pair in labels if pair[0] != WORKER_LABEL)
                series[own] = _both(family.name, series.get(own, 0), value)
            found.append(Family(family.name, family.kind, series=series))
    return found


def _both(name: str, one: Value, other: Value) -> Value:
    if isinstance(one, Buckets) or isinstance(other, Buckets) or name != _LONGEST:
        return plus(one, other)
    return max(one, other)


def status(
    families: list[Family],
    *,
    pid: int,
    now_unix_seconds: float,
    version: str,
    history: History | None = None,
    evidence: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The document of `/api/v1/status.json`: bytes, seconds, ratios 0 to 1, None where nothing is known."""
    pids = _pids(families)
    facts = Facts(families, str(pid) if pids else "")
    together = Facts(added_up(families)) if pids else facts
    return {
        "amm_version": version,
        "unix_seconds": now_unix_seconds,
        "pid": pid,
        "service": _service(families),
        "uptime_seconds": facts.one("process.uptime"),
        **_memory(facts),
        "growth": [_growth(facts, series) for series in facts.by("amm.memory.leak.slope", "series")],
        "gc": _gc(together),
        "caches": [_cache(together, name) for name in together.names("amm.cache.entries", "amm.cache.requests")],
        "pools": [_pool(together, name) for name in together.names("amm.pool.objects", "amm.pool.requests")],
        "settings": facts.by("amm.plan.value", "setting"),
        "self": _self(facts),
        "workers": [_worker(facts.of(worker), worker) for worker in pids] if len(pids) > 1 else [],
        "group_bytes": facts.of("").one("amm.group.memory.usage"),
        "evidence": public(evidence),
        "events": _events(history),
        "history": dict(history.columns()) if history else {},
    }


def starts(families: list[Family], pid: int, now_unix_seconds: float) -> dict[int, float]:
    """When each process that is shown began, by pid."""
    pids, facts = _pids(families), Facts(families)
    found = {}
    for worker in pids or [str(pid)]:
        uptime_seconds = facts.of(worker if pids else "").one("process.uptime")
        found[int(worker)] = now_unix_seconds - (uptime_seconds or 0.0)
    return found


def _pids(families: list[Family]) -> list[str]:
    """Of a family of processes those that live, if only one is left; none where there never was a family."""
    family = next((one for one in families if one.name == "amm_group_snapshot_age_seconds"), None)
    pids = [dict(labels).get(WORKER_LABEL, "") for labels in family.series] if family else []
    return sorted(pids, key=int)


def _service(families: list[Family]) -> str | None:
    target = next((one for one in families if one.name == "target"), None)
    name = next((dict(labels).get("service_name") for labels in target.series), None) if target else None
    return name.removeprefix("unknown_service:") if name else None  # what the SDK says where nobody has named it


def _memory(facts: Facts) -> dict[str, Any]:
    tier = facts.one("amm.memory.tier")
    return {
        "tier": None if tier is None else Tier(int(tier)).label,
        "usage_ratio": facts.by("amm.memory.usage_ratio", "scope"),
        "usage_bytes": facts.by("amm.memory.usage", "scope"),
        "thresholds": facts.by("amm.memory.tier.threshold_ratio", "tier"),
        "tier_seconds": facts.by("amm.memory.tier.time", "tier"),
        "limits_bytes": facts.by("amm.memory.limit", "source"),
        "rss_bytes": facts.one("process.memory.usage"),
        "peak_bytes": facts.one("amm.memory.peak"),
        "swap_bytes": facts.one("amm.memory.swap"),
        "headroom_bytes": facts.one("amm.memory.headroom"),
        "exhaustion_seconds": facts.one("amm.memory.exhaustion"),
    }


def _growth(facts: Facts, series: str) -> dict[str, Any]:
    slope, *bounds = (facts.one(f"amm.memory.leak.slope{end}", series=series) for end in ("", ".lower", ".upper"))
    return {
        "series": series,
        "measuring": bool(slope and set(bounds) == {0.0, 2 * slope}),  # as `undecided` gives
        "leaking": bool(facts.one("amm.memory.leak.detected", series=series)),
        "slope": slope,
        "lower": bounds[0],
        "upper": bounds[1],
        "threshold": facts.one("amm.memory.leak.slope.threshold", series=series),
    }


def _gc(facts: Facts) -> list[dict[str, Any]]:
    longest = facts.by("amm.gc.pause.max", "generation")
    rows = []
    for labels, value in facts.series("amm.gc.pause.duration"):
        if isinstance(value, Buckets):
            generation = labels.get("generation", "")
            row = {"generation": generation, "count": sum(value.counts), "seconds": value.sum}
            buckets = {"bounds": list(value.bounds), "counts": list(value.counts)}
            rows.append({**row, "longest_seconds": longest.get(generation), **buckets})
    return sorted(rows, key=lambda row: str(row["generation"]))


def _cache(facts: Facts, name: str) -> dict[str, Any]:
    requests = facts.by("amm.cache.requests", "result", name=name)
    hits, misses = requests.get("hit"), requests.get("miss")
    return {
        "name": name,
        "hits": hits,
        "misses": misses,
        "hit_ratio": hits / (hits + misses) if hits is not None and misses is not None and hits + misses else None,
        "entries": facts.one("amm.cache.entries", name=name),
        "max_entries": facts.one("amm.cache.max_entries", name=name),
        "bytes": facts.one("amm.cache.size", name=name),
        "evictions": facts.one("amm.cache.evictions", name=name),
    }


def _pool(facts: Facts, name: str) -> dict[str, Any]:
    states: Mapping[str, float] = facts.by("amm.pool.objects", "state", name=name)
    requests: Mapping[str, float] = facts.by("amm.pool.requests", "result", name=name)
    return {
        "name": name,
        "used": states.get("used"),
        "idle": states.get("idle"),
        "hits": requests.get("hit"),
        "misses": requests.get("miss"),
        "waits": requests.get("wait"),
    }


def _self(facts: Facts) -> dict[str, Any]:
    return {
        "cpu_seconds": facts.one("amm.self.cpu.time"),
        "bytes": facts.one("amm.self.memory"),
        "lateness_seconds": facts.one("amm.sampler.lateness"),
        "failed_probes": sorted(name for name, works in facts.by("amm.probe.success", "probe").items() if not works),
    }


def _worker(facts: Facts, pid: str) -> dict[str, Any]:
    tier, rss, peak = (facts.one(name) for name in ("amm.memory.tier", "process.memory.usage", "amm.memory.peak"))
    leaking = [series for series, leaks in facts.by("amm.memory.leak.detected", "series").items() if leaks]
    return {
        "pid": int(pid),
        "rss_bytes": rss,
        "peak_bytes": None if peak is None else max(peak, rss or 0),  # of its snapshot, which is older
        "tier": None if tier is None else Tier(int(tier)).label,
        "leaking": bool(leaking),
        "leaking_series": leaking,  # `tree` alone: not this process, but its children
        "age_seconds": facts.one("amm.group.snapshot.age"),
    }


def _events(history: History | None) -> list[dict[str, Any]]:
    return [
        {
            "unix_seconds": event.unix_seconds,
            "from": event.previous.label,
            "to": event.tier.label,
            "usage_ratio": None if event.ratio is None or not math.isfinite(event.ratio) else event.ratio,
        }
        for event in (history.events() if history else [])
    ]
