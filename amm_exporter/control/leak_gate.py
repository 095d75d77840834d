"""`leak_per_call(fn)`: call a function until it is decided whether each call leaves memory behind.

Measures between batches of calls what is in use by Python's objects and by malloc, and the resident set; decides by
`analysis.per_call`. When a leak is found, a last batch is traced to name the types and lines that keep the memory.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from amm_exporter.analysis.per_call import (
    AT_LIMIT,
    FEWEST_CALLS,
    NEARLY_OVER,
    RESIDENT,
    Batch,
    PerCallRules,
    Rate,
    decide,
    next_batch,
)
from amm_exporter.probes.allocations import InUse, SiteTrace, collected_types
from amm_exporter.probes.waiting import UnhinderedClock
from amm_exporter.units import MIB, format_size

WARMUP_CALLS = 20
FIRST_BATCH = 8
FEWEST_OF_SLOW = 100
"""Calls of a body that is slow before it is accused: a cache that fills looks just like a leak for so long."""

STILL_RATIO = 0.1
"""Growth by no more than this share of what is allowed is not looked at closer: to collect walks all that lives, which
took two thirds of the time for an empty test among 45,000 objects."""

SHORTEST_BATCH_SECONDS = 0.002
"""A batch must outlast the noise of reading."""

TIME_LIMIT_SECONDS = 8.0
MOST_GAINED_BYTES = 256 * MIB
"""A gate that lets a leak grow further is a danger of its own: from here on it decides by the calls it has."""

TRACED_SECONDS = 0.5
MOST_TRACED_CALLS = 200
TOP = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PerCallVerdict:
    """Whether `fn` leaks.

    Attributes:
        decision: `leak`, `clean`, or `undecided`: the time was up first, or the loss is what is allowed, within 1 %.
        bytes_per_call, lower, upper: of the measure that decided, with bounds at the confidence asked for.
        calls: how often `fn` was called, warm-up and tracing included.
        series: the measure that decided: python, native, both together, or resident.
        types: what the collector tracks more of after the calls, as (type, objects a call).
        sites: lines that keep memory, as (file:line, bytes a call).
        reasons: sentences for people; one says what the garbage collector did.
        enough_seconds: a time limit that should decide it, where the time was up first; else 0.
    """

    decision: str
    bytes_per_call: float
    lower: float
    upper: float
    calls: int
    series: str
    types: tuple[tuple[str, float], ...] = ()
    sites: tuple[tuple[str, float], ...] = ()
    reasons: tuple[str, ...] = ()
    enough_seconds: float = 0.0


def leak_per_call(
    fn: Callable[[], object],
    *,
    max_per_call_bytes: float = 1024,
    warmup: int | None = None,
    confidence: float = 0.99,
    time_limit_seconds: float = TIME_LIMIT_SECONDS,
    collect: bool | None = None,
    explain: bool = True,
    most_gained_bytes: int = MOST_GAINED_BYTES,
    clock: Callable[[], float] | None = None,
) -> PerCallVerdict:
    """Decide whether `fn()` leaves more than `max_per_call_bytes` behind with each call.

    The time limit is of the thread's own time: what it waits for a processor of a loaded machine is not in it, up to
    three times the limit.

    `warmup`: so many calls are made first, before the time counts. None makes 20, or what a tenth of the time holds.

    `collect`: run the garbage collector before each reading. None does so while it is enabled: cyclic garbage that
    waits is no leak; with the collector switched off it is one. What `fn` raises is raised here.

    `most_gained_bytes`: from this growth on batches get smaller, and a decision is made as if the time were up.
    """
    gate = _Gate(fn, collect=gc.isenabled() if collect is None else collect, clock=clock)
    rules = PerCallRules(max_per_call_bytes=max_per_call_bytes, confidence=confidence)
    try:
        decision, rate = gate.run(rules, warmup, time_limit_seconds, most_gained_bytes)
        explained = gate.explained() if explain and decision == "leak" else ((), ())
    finally:
        gate.close()
    return PerCallVerdict(
        decision="undecided" if decision == AT_LIMIT else decision,
        bytes_per_call=rate.bytes_per_call if rate else 0.0,
        lower=rate.lower if rate else 0.0,
        upper=rate.upper if rate else 0.0,
        calls=gate.calls,
        series=rate.measure if rate else "",
        types=explained[0],
        sites=explained[1],
        reasons=_reasons(decision, rate, gate, rules),
        enough_seconds=_enough_seconds(gate.calls, time_limit_seconds) if decision == "undecided" else 0.0,
    )


class _Gate:
    """Calls, readings and their batches."""

    def __init__(self, fn: Callable[[], object], *, collect: bool, clock: Callable[[], float] | None) -> None:
        self._fn = fn
        self._own_clock = UnhinderedClock()
        self._clock = clock or self._own_clock
        self._wall = clock or time.monotonic
        self._in_use = InUse()
        self._room_calls = sys.maxsize
        self.collect = collect
        self.calls = 0
        self.batches: list[Batch] = []

    def run(
        self, rules: PerCallRules, warmup: int | None, limit_seconds: float, most_gained_bytes: int
    ) -> tuple[str, Rate | None]:
        """Until decided or out of time. At least one call is made in any case."""
        started, began = self._clock(), self._wall()
        before = self._in_use.read()
        slow = self._warm_up(warmup, limit_seconds / 10)
        if warmup is not None:
            started, began = self._clock(), self._wall()
        size, decision, rate = 1 if slow else FIRST_BATCH, "undecided", None
        first = held = self._read()
        self._note(before, held, self.calls, most_gained_bytes)
        while decision == "undecided" and self._clock() - started < limit_seconds:
            half = started + limit_seconds / 2
            made = self._batch(size, half if self._clock() < half else started + limit_seconds)
            now = self._read(held, STILL_RATIO * rules.max_per_call_bytes * made)
            self.batches.append(Batch(calls=made, gained={name: now[name] - held[name] for name in now}))
            self._note(held, now, made, most_gained_bytes)
            enough = any(now[name] - first[name] > most_gained_bytes for name in now)
            held, size = now, max(1, made // 2) if enough else next_batch(made)
            spent_ratio = 1.0 if enough else (self._clock() - started) / limit_seconds
            passed_ratio = (self._wall() - began) / limit_seconds
            fewest = FEWEST_OF_SLOW if slow and not enough else FEWEST_CALLS
            decision, rate = decide(self.batches, replace(rules, fewest_accused=fewest), spent_ratio, passed_ratio)
        return decision, rate

    def explained(self) -> tuple[tuple[tuple[str, float], ...], tuple[tuple[str, float], ...]]:
        """Types and lines that hold more after a few more calls, traced."""
        self._collect()
        trace, made = SiteTrace(), 0
        trace.start()
        try:
            self._call(1)
            self._collect()
            for _ in range(2):  # what the first reading makes, in the caches of abstract classes, stays
                sites, types = trace.sites(), collected_types()
            until = self._clock() + TRACED_SECONDS
            while not made or (made < min(MOST_TRACED_CALLS, self._room_calls // 4) and self._clock() < until):
                self._call(1)
                made += 1
            self._collect()
            more_sites = trace.sites()
        finally:
            trace.stop()
        more_types = collected_types()
        return _top({name: more_types[name] - types[name] for name in more_types}, made), _top(
            {name: size - sites.get(name, 0.0) for name, size in more_sites.items()}, made
        )

    def close(self) -> None:
        self._in_use.close()
        self._own_clock.close()

    def _warm_up(self, asked: int | None, usual_seconds: float) -> bool:
        """All calls that were asked for, else those of the usual time. Whether the body is slow: 20 take longer."""
        started, passed = self._clock(), 0.0
        while not self.calls or self.calls < (WARMUP_CALLS if asked is None else asked):
            if asked is None and passed >= usual_seconds:
                break
            self._call(1)
            passed = self._clock() - started
        return passed * WARMUP_CALLS > usual_seconds * self.calls

    def _batch(self, size: int, until: float) -> int:
        """`size` calls, more if they take no time, fewer if they take all that is left, of time or of memory."""
        started, made = self._clock(), 0
        most = max(1, self._room_calls // 2)  # five batches at least decide
        size = min(size, most)
        while made < size or (made < most and self._clock() - started < SHORTEST_BATCH_SECONDS):
            step = max(1, size // 8)
            self._call(step)
            made += step
            if self._clock() >= until:
                break
        return made

    def _note(self, before: Mapping[str, int], after: Mapping[str, int], calls: int, most_gained_bytes: int) -> None:
        """How many calls may be made before growth at this rate is too much: 2 ms of them can fill a budget."""
        gained = max(after[name] - before[name] for name in after)
        self._room_calls = max(1, most_gained_bytes * calls // gained) if gained > 0 else sys.maxsize

    def _call(self, times: int) -> None:
        fn = self._fn
        for _ in range(times):
            fn()
        self.calls += times

    def _collect(self) -> None:
        if self.collect:
            gc.collect()

    def _read(self, held: Mapping[str, int] | None = None, still_bytes: float = 0.0) -> dict[str, int]:
        """What is in use. Nothing is collected where all of it, garbage included, has hardly grown since `held`."""
        if held is not None and self.collect:
            now = self._in_use.read()
            if all(now[name] - held[name] <= still_bytes for name in now if name != RESIDENT):
                return now
        self._collect()
        return self._in_use.read()


def _top(gained: dict[str, float], calls: int) -> tuple[tuple[str, float], ...]:
    """The largest gains a call; what did not grow with half of the calls at least is left out."""
    rates = sorted(((name, gain / max(1, calls)) for name, gain in gained.items()), key=lambda pair: -pair[1])
    return tuple((name, rate) for name, rate in rates if rate >= 0.5)[:TOP]


def _enough_seconds(calls: int, limit_seconds: float) -> float:
    """Twice the time at least; for a slow body as long as all the calls take before it is accused."""
    return limit_seconds * max(2.0, (WARMUP_CALLS + FEWEST_OF_SLOW) / (NEARLY_OVER * calls))


def _reasons(decision: str, rate: Rate | None, gate: _Gate, rules: PerCallRules) -> tuple[str, ...]:
    collector = "cyclic garbage was collected before each reading" if gate.collect else "the collector was left alone"
    if rate is None:
        return f"{gate.calls} calls were too few to tell; give it more time", collector
    size = _exact if decision == AT_LIMIT else format_size
    bounds = f"{size(rate.lower)} to {size(rate.upper)}"
    found = f"{size(rate.bytes_per_call)} a call ({bounds}) stay in use, measured on {rate.measure} memory"
    allowed = f"{size(rules.max_per_call_bytes)} are allowed"
    if decision == AT_LIMIT:
        return f"undecided after {gate.calls} calls, at the limit: {found}; {allowed}: allow more, or less", collector
    fading = ("it is fading: something fills",) if rate.fading else ()
    return f"{decision} after {gate.calls} calls: {found}; {allowed}", *fading, collector


def _exact(size_bytes: float) -> str:
    """Where two sizes are written alike that differ."""
    return f"{size_bytes:,.1f} B"
