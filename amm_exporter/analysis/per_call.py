"""Does a function leak with each call? A sequential test on what is in use after ever larger batches of calls. Pure.

Each batch is larger than the one before, so that what happens once, or ever more rarely (caches, free lists, tables
that double), counts for less and less, while a leak keeps its rate. The rates of the last batches, weighted by their
calls, give a mean and a Student interval; a leak needs its lower bound over what is allowed, a rate that does not fade,
and enough calls to outlast bounded caches. Measuring is `control.leak_gate`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import NormalDist

GROWTH = 1.7
"""Each batch has so many times the calls of the one before."""

JUDGED = 4
"""Batches that are judged: the last ones, which hold nine tenths of the calls."""

FADED = 0.6
"""A rate that fell to this share of what it was is that of something filling."""

OUTLAST_CALLS, OUTLAST_PASSED = 1_400, 0.4
"""Bounded caches of the usual sizes (functools 128, re 512, 1,024) are full well before this many calls, which nine
batches come to. Larger ones fill as this share of the time passes: only what looks like a leak waits for it."""

OUTLAST_LARGE_CALLS = 10_000
"""Or after this many, where calls take no time: what they lose has to be walked by the collector, and to be held."""

NEARLY_OVER = 0.9
"""From this share of the time on a function is accused that could not be called so often: at half of the time, filling
caches were (python -m benchmarks.leak_gate)."""

AT_LIMIT, NEAR_RATIO = "at limit", 0.01
"""What is known to lie so close to what is allowed, and neither above nor below, is told as that: more calls would only
let noise decide."""

FEWEST_CALLS = 12
RESIDENT = "resident"
TOGETHER = "python and native"
"""What the allocators have in use, summed: a call that leaves 700 bytes in each of two leaves 1,400."""
RESIDENT_QUANTUM = 2 * 1024 * 1024
"""Resident memory moves in arenas and heap tops: growth below this is not told from none."""
RESIDENT_STIR = 128 * 1024
"""What it moves by when nothing grows; more than this is watched until half of the time is spent."""
RESIDENT_SWING = 4
"""Where what is in use swings, resident memory moves by up to three times as much: freed blocks lie between others (a
text of 6 MB that is extended by copies)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """So many calls, and what each measure gained over them, in bytes."""

    calls: int
    gained: Mapping[str, int]

    def of(self, measure: str) -> int:
        """What one measure gained."""
        if measure == TOGETHER:
            return sum(gain for name, gain in self.gained.items() if name != RESIDENT)
        return self.gained[measure]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Bytes a call of one measure, with bounds, and whether it is fading."""

    measure: str
    bytes_per_call: float
    lower: float
    upper: float
    fading: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PerCallRules:
    """`max_per_call_bytes` is what a call may leave behind. Fewer calls than `fewest_accused` accuse nothing."""

    max_per_call_bytes: float = 1024.0
    confidence: float = 0.99
    fewest_accused: int = FEWEST_CALLS


def next_batch(calls: int) -> int:
    return max(calls + 1, math.ceil(calls * GROWTH))


def rates(batches: Sequence[Batch], confidence: float) -> tuple[Rate, ...]:
    """One rate for each measure over the last batches, and one for several allocators together."""
    judged = batches[-JUDGED:]
    if not judged:
        return ()
    names = tuple(judged[-1].gained)
    several = sum(name != RESIDENT for name in names) > 1
    return tuple(_rate(name, judged, confidence) for name in (*names, *[TOGETHER] * several))


def decide(
    batches: Sequence[Batch], rules: PerCallRules, spent_ratio: float, passed_ratio: float | None = None
) -> tuple[str, Rate | None]:
    """`leak`, `clean`, `undecided` or `at limit`, where more calls would not decide; and the rate that did.

    `spent_ratio` of the time allowed is spent; by the clock on the wall `passed_ratio`, more on a loaded machine.
    """
    total = sum(batch.calls for batch in batches)
    if len(batches) < JUDGED + 1 or total < FEWEST_CALLS:
        return "undecided", None
    found = rates(batches, rules.confidence)
    worst = max(found, key=lambda rate: rate.lower)
    leaks = [
        rate for rate in found if rate.lower > rules.max_per_call_bytes and not rate.fading and _real(rate, batches)
    ]
    outlasted = _outlasted(total, spent_ratio, spent_ratio if passed_ratio is None else passed_ratio)
    if leaks and outlasted and total >= rules.fewest_accused:
        return "leak", max(leaks, key=_telling)
    most = 2 * sum(batch.calls for batch in batches[-JUDGED:]) >= total  # not so where batches had to get smaller
    unsettled = [rate for rate in found if not _clean(rate, rules, batches, spent_ratio)]
    if most and not unsettled:
        return "clean", max(found, key=lambda rate: rate.bytes_per_call)
    if outlasted and not worst.fading and _near(worst, rules):
        return AT_LIMIT, worst
    return "undecided", max(unsettled or found, key=lambda rate: rate.upper)  # what keeps it from being clean


def _telling(rate: Rate) -> tuple[bool, float]:
    """An allocator by its name before both together, if it has all but a tenth; resident memory is the least exact."""
    return rate.measure != RESIDENT, rate.lower * (0.9 if rate.measure == TOGETHER else 1.0)


def _rate(name: str, batches: Sequence[Batch], confidence: float) -> Rate:
    each = [batch.of(name) / batch.calls for batch in batches]
    weights = [batch.calls for batch in batches]
    total = sum(weights)
    mean = sum(rate * weight for rate, weight in zip(each, weights, strict=True)) / total
    spread = sum(weight * (rate - mean) ** 2 for rate, weight in zip(each, weights, strict=True)) / total
    effective = total * total / sum(weight * weight for weight in weights)
    reach = _student(confidence, len(batches) - 1) * math.sqrt(spread / max(1.0, effective - 1.0))
    before = sum(batch.of(name) for batch in batches[:-1]) / max(1, total - weights[-1])
    return Rate(
        measure=name,
        bytes_per_call=mean,
        lower=mean - reach,
        upper=mean + reach,
        fading=before > 0 and each[-1] < FADED * before,
    )


def _near(rate: Rate, rules: PerCallRules) -> bool:
    reach = NEAR_RATIO * rules.max_per_call_bytes
    return rate.lower >= rules.max_per_call_bytes - reach and rate.upper <= rules.max_per_call_bytes + reach


def _outlasted(calls: int, spent_ratio: float, passed_ratio: float) -> bool:
    if calls >= OUTLAST_CALLS and passed_ratio >= OUTLAST_PASSED:
        return True
    return calls >= OUTLAST_LARGE_CALLS or spent_ratio >= NEARLY_OVER


def _real(rate: Rate, batches: Sequence[Batch]) -> bool:
    """Resident memory must have grown in the last batches by more than its quantum and what is in use explain."""
    gained = sum(batch.of(rate.measure) for batch in batches[-JUDGED:])
    return rate.measure != RESIDENT or gained > 2 * RESIDENT_QUANTUM + RESIDENT_SWING * _swing(batches[-JUDGED:])


def _swing(batches: Sequence[Batch]) -> int:
    """Between the lowest and the highest of what was in use."""
    levels = list(accumulate((batch.of(TOGETHER) for batch in batches), initial=0))
    return max(levels) - min(levels)


def _clean(rate: Rate, rules: PerCallRules, batches: Sequence[Batch], spent_ratio: float) -> bool:
    """The last batch, and all judged together, stay under the bound."""
    last = batches[-1]
    slack = 0
    if rate.measure == RESIDENT:
        slack = RESIDENT_STIR if spent_ratio < 0.5 else RESIDENT_QUANTUM
    allowed = rules.max_per_call_bytes * last.calls + slack
    total = sum(batch.calls for batch in batches[-JUDGED:])
    gained = sum(batch.of(rate.measure) for batch in batches[-JUDGED:])
    return last.of(rate.measure) <= allowed and gained <= rules.max_per_call_bytes * total + slack


def _student(confidence: float, degrees: int) -> float:
    """One-sided Student quantile by the Cornish-Fisher expansion (Abramowitz and Stegun 26.7.5, two terms)."""
    normal = NormalDist().inv_cdf(confidence)
    first = (normal**3 + normal) / 4
    second = (5 * normal**5 + 16 * normal**3 + 3 * normal) / 96
    return normal + first / degrees + second / degrees**2
