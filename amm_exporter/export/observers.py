"""What each metric shows: one small function a row of `names.METRICS`, from the governor's plain numbers.

A function yields (value, attributes) and nothing where there is no data: an absent series, not a zero.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterable, Iterator, Mapping

from amm_exporter.analysis.leaks import Verdict
from amm_exporter.control.governor import Governor
from amm_exporter.export.source import View
from amm_exporter.model import RAISED_TIERS, Tier
from amm_exporter.policy import Policy
from amm_exporter.probes.cache_stats import CacheStats, PoolStats

MAX_SETTINGS = 20
"""Of the plan, with series of their own; those beyond are left out, as no sum of them means anything."""
Observed = tuple[float, Mapping[str, str | int]]
Observer = Callable[[View], Iterable[Observed]]


def _one(value: float | None) -> Iterator[Observed]:
    if value is not None:
        yield value, {}


def _faults(view: View) -> Iterator[Observed]:
    if view.details is not None:
        for kind, count in (("minor", view.details.minor_faults), ("major", view.details.major_faults)):
            if count is not None:
                yield count, {"system.paging.fault.type": kind}


def _gc_stat(name: str) -> Observer:
    def observe(view: View) -> Iterator[Observed]:
        if view.governor.gc is not None:
            for generation, stats in enumerate(gc.get_stats()):
                yield stats[name], {"cpython.gc.generation": generation}

    return observe


def _uptime(view: View) -> Iterator[Observed]:
    if view.started_unix_seconds is not None and view.sample.process is not None:  # a process that ended runs no longer
        yield view.sample.unix_seconds - view.started_unix_seconds, {}


def _usage(view: View) -> Iterator[Observed]:
    for reading in view.sample.readings:
        yield reading.used_bytes, {"scope": reading.scope}


def _usage_ratio(view: View) -> Iterator[Observed]:
    for reading in view.sample.readings:
        yield reading.ratio, {"scope": reading.scope}


def _limits(view: View) -> Iterator[Observed]:
    for limit in view.sample.limits:
        yield limit.size_bytes, {"source": limit.source}


def _headroom(view: View) -> Iterator[Observed]:
    return _one(view.sample.headroom_bytes)


def _tier_active(view: View) -> Iterator[Observed]:
    for tier in Tier:
        yield int(tier is view.governor.tier), {"tier": tier.label}


def _tier_thresholds(view: View) -> Iterator[Observed]:
    for tier, ratio in zip(RAISED_TIERS, view.governor.enter_ratios, strict=False):
        yield ratio, {"tier": tier.label}


def _transitions(view: View) -> Iterator[Observed]:
    """Those that happened, and at zero those that may come next: a rate misses a counter's first step from nothing."""
    now = view.governor.tier
    counts = {(now, tier): 0 for tier in Tier if tier is not now} | dict(view.governor.transitions)
    for (left, entered), count in counts.items():
        yield count, {"from": left.label, "to": entered.label}


def _tier_time(view: View) -> Iterator[Observed]:
    for tier in Tier:
        yield view.governor.seconds_in(tier), {"tier": tier.label}


def _stall(view: View) -> Iterator[Observed]:
    for pressure in view.sample.pressure:
        yield pressure.some_seconds, {"kind": "some", "scope": pressure.scope}
        yield pressure.full_seconds, {"kind": "full", "scope": pressure.scope}


def _cgroup_events(view: View) -> Iterator[Observed]:
    cgroup = view.sample.cgroup
    if cgroup is not None:
        events = {"high": cgroup.high_events, "oom": cgroup.oom_events, "oom_kill": cgroup.oom_kills}
        for event, count in events.items():
            if count is not None:
                yield count, {"event": event}


def _pause_max(view: View) -> Iterator[Observed]:
    if view.governor.gc is not None:
        for generation in range(3):
            yield view.governor.gc.max_pause_seconds(generation), {"generation": generation}


def _gc_freed(view: View) -> Iterator[Observed]:
    return _one(view.governor.gc.freed_bytes if view.governor.gc is not None else None)


def _leak(value: Callable[[Verdict], float | None]) -> Observer:
    def observe(view: View) -> Iterator[Observed]:
        for series, verdict in view.leaks.items():
            shown = value(verdict)
            if shown is not None:
                yield shown, {"series": series}

    return observe


def _onset_age(view: View) -> Iterator[Observed]:
    for series, verdict in view.leaks.items():
        if verdict.onset_seconds is not None:
            yield max(0.0, view.sample.t_seconds - verdict.onset_seconds), {"series": series}


def _of_caches(read: Callable[[CacheStats], float | None]) -> Observer:
    def observe(view: View) -> Iterator[Observed]:
        for name, stats in view.caches.items():
            value = read(stats) if isinstance(stats, CacheStats) else None
            if value is not None:
                yield value, {"name": name}

    return observe


def _bound(stats: CacheStats) -> float | None:
    """None for one without: `cachetools.Cache(math.inf)` says infinity."""
    most = stats.max_entries
    return most if most is not None and math.isfinite(most) else None


def _counted(view: View, kind: type[CacheStats] | type[PoolStats], results: Mapping[str, str]) -> Iterator[Observed]:
    """Requests by result; `results` maps the word shown to the field it is read from."""
    for name, stats in view.caches.items():
        if isinstance(stats, kind):
            for result, attribute in results.items():
                count = getattr(stats, attribute)
                if count is not None:
                    yield count, {"name": name, "result": result}


def _pool_objects(view: View) -> Iterator[Observed]:
    for name, stats in view.caches.items():
        if isinstance(stats, PoolStats):
            for state, count in (("used", stats.in_use), ("idle", stats.idle)):
                if count is not None:
                    yield count, {"name": name, "state": state}


_CACHE_RESULTS = {"hit": "hits", "miss": "misses"}
_POOL_RESULTS = {"hit": "hits", "miss": "misses", "wait": "waits"}


def _allocators(view: View) -> Iterator[Observed]:
    for memory in view.allocators:
        yield memory.used_bytes, {"allocator": memory.allocator, "state": "used"}
        yield memory.free_bytes, {"allocator": memory.allocator, "state": "free"}


def _fragmentation(view: View) -> Iterator[Observed]:
    for memory in view.allocators:
        yield memory.fragmentation_ratio, {"allocator": memory.allocator}


def _objects(view: View) -> Iterator[Observed]:
    """While a census is taken now and then: the last one of a tier that has been left tells of what may be gone."""
    taken = view.governor.policy.census == "always" or view.governor.tier >= Tier.HIGH
    if view.census is not None and taken:
        for count in view.census.types:
            yield count.count, {"type": count.name}
        yield view.census.objects_count - sum(count.count for count in view.census.types), {"type": "_other"}


def settings_with_numbers(policy: Policy) -> list[str]:
    """Of the plan; true and false are numbers too, 1 and 0."""
    return [name for name, ladder in policy.plan.items() if any(isinstance(v, (int, float)) for v in ladder.values())]


def _plan(view: View) -> Iterator[Observed]:
    policy = view.governor.policy
    for name in settings_with_numbers(policy)[:MAX_SETTINGS]:
        value = policy.setting(name, view.governor.tier)
        if isinstance(value, (int, float)):
            yield float(value), {"setting": name}


def _may_have_acted(governor: Governor) -> bool:
    """From the first change of tier on there are series for what it may do, from zero: a rate sees the first action.

    Sixteen series of zeros for a process at rest would leave a container no room below the 120 that it may have.
    """
    return bool(governor.transitions) or any(governor.actions.values())


def _actions(view: View) -> Iterator[Observed]:
    if _may_have_acted(view.governor):
        for (action, outcome), count in view.governor.actions.items():
            yield count, {"action": action, "outcome": outcome}


def _action_freed(view: View) -> Iterator[Observed]:
    if _may_have_acted(view.governor):
        for action, freed_bytes in view.governor.action_freed_bytes.items():
            yield freed_bytes, {"action": action}


def _tree_bytes(view: View) -> int | None:
    return view.sample.tree.rss_bytes if view.sample.tree else None


def _budget_ratio(view: View) -> Iterator[Observed]:
    budget, used = view.governor.policy.budget_bytes, _tree_bytes(view)
    return _one(used / budget if budget and used is not None else None)


def _probe_success(view: View) -> Iterator[Observed]:
    for probe, works in tuple(view.governor.sampler.probes.items()):
        yield int(works), {"probe": probe}


OBSERVERS: dict[str, Observer] = {
    "process.memory.usage": lambda v: _one(v.sample.process.rss_bytes if v.sample.process else None),
    "process.memory.virtual": lambda v: _one(v.sample.process.virtual_bytes if v.sample.process else None),
    "process.uptime": _uptime,
    "process.paging.faults": _faults,
    "cpython.gc.collections": _gc_stat("collections"),
    "cpython.gc.collected_objects": _gc_stat("collected"),
    "cpython.gc.uncollectable_objects": _gc_stat("uncollectable"),
    "amm.memory.peak": lambda v: _one(v.details.peak_bytes if v.details else None),
    "amm.memory.swap": lambda v: _one(v.details.swap_bytes if v.details else None),
    "amm.memory.usage": _usage,
    "amm.memory.limit": _limits,
    "amm.memory.headroom": _headroom,
    "amm.memory.usage_ratio": _usage_ratio,
    "amm.memory.tier": lambda v: _one(int(v.governor.tier)),
    "amm.memory.tier.active": _tier_active,
    "amm.memory.tier.threshold_ratio": _tier_thresholds,
    "amm.memory.tier.transitions": _transitions,
    "amm.memory.tier.time": _tier_time,
    "amm.memory.exhaustion": lambda v: _one(v.governor.exhaustion_seconds),
    "amm.memory.pressure.stall": _stall,
    "amm.memory.tree.processes": lambda v: _one(len(v.sample.tree.processes) if v.sample.tree else None),
    "amm.cgroup.events": _cgroup_events,
    "amm.anomaly.deviations": lambda v: _one(v.governor.policy.anomaly.deviations),
    "amm.anomaly.floor_ratio": lambda v: _one(v.governor.policy.anomaly.floor_ratio),
    "amm.anomaly.ceiling_ratio": lambda v: _one(v.governor.policy.anomaly.ceiling_ratio),
    "amm.gc.pause.max": _pause_max,
    "amm.gc.freed": _gc_freed,
    "amm.memory.leak.slope": _leak(lambda verdict: verdict.slope),
    "amm.memory.leak.slope.lower": _leak(lambda verdict: verdict.lower),
    "amm.memory.leak.slope.upper": _leak(lambda verdict: verdict.upper),
    "amm.memory.leak.slope.threshold": lambda v: _leak(lambda _: v.governor.leaks.threshold_bytes_per_second)(v),
    "amm.memory.leak.detected": _leak(lambda verdict: int(verdict.leaking)),
    "amm.memory.leak.onset.age": _onset_age,
    "amm.memory.leak.exhaustion": _leak(lambda verdict: verdict.exhaustion_seconds),
    "amm.cache.requests": lambda v: _counted(v, CacheStats, _CACHE_RESULTS),
    "amm.cache.hit_ratio": _of_caches(lambda stats: stats.hit_ratio),
    "amm.cache.entries": _of_caches(lambda stats: stats.entries),
    "amm.cache.max_entries": _of_caches(_bound),
    "amm.cache.size": _of_caches(lambda stats: stats.size_bytes),
    "amm.cache.evictions": _of_caches(lambda stats: stats.evictions),
    "amm.pool.objects": _pool_objects,
    "amm.pool.requests": lambda v: _counted(v, PoolStats, _POOL_RESULTS),
    "amm.allocator.memory": _allocators,
    "amm.allocator.fragmentation_ratio": _fragmentation,
    "amm.allocator.preloaded": lambda v: [(1, {"allocator": name}) for name in v.preloaded],
    "amm.objects": _objects,
    "amm.plan.value": _plan,
    "amm.actions": _actions,
    "amm.action.freed": _action_freed,
    "amm.emergency.stops": lambda v: _one(v.governor.emergency_stops),
    "amm.budget.limit": lambda v: _one(v.governor.policy.budget_bytes),
    "amm.budget.usage_ratio": _budget_ratio,
    "amm.probe.success": _probe_success,
    "amm.self.cpu.time": lambda v: _one(v.governor.cpu_seconds),
    "amm.self.memory": lambda v: _one(v.self_bytes),
    "amm.sampler.lateness": lambda v: _one(v.governor.lateness_seconds),
    "amm.last_sample.timestamp": lambda v: _one(v.governor.last_tick_unix_seconds or None),
}
"""The function behind each observable metric, by its name in the table."""
