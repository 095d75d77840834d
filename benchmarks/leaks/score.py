"""Judging at 20 growing prefixes, and the figures that come of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from amm_exporter.analysis.leaks import LeakDetector
from benchmarks.leaks.draw import Series
from benchmarks.leaks.generate import UNDECIDABLE
from benchmarks.leaks.rivals import RIVALS, Answer

PREFIXES = 20
OURS = "AMM"

Judge = Callable[[Series], tuple[list[Answer], list[bool]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One detector on one series: flagged at each prefix; of a leak also the delay and the relative error of the slope.

    The delay is the share of the series from the onset to the first flagged prefix, 1 if there is none; `exact_delay`
    that to the first flagged sample, where the detector answers at every sample.
    """

    family: str
    leaking: bool
    flags: tuple[bool, ...]
    delay: float | None
    exact_delay: float | None
    slope_error: float | None
    cpu_seconds: float
    samples: int


def ends(count: int) -> list[int]:
    return [count * (index + 1) // PREFIXES for index in range(PREFIXES)]


def by_detector(series: Series) -> tuple[list[Answer], list[bool]]:
    """Ours: fed once, asked at each prefix; and whether it was flagged after each sample."""
    detector, start, answers, flags = LeakDetector(), 0, list[Answer](), list[bool]()
    for end in ends(len(series.values)):
        for moment, value in zip(series.times[start:end], series.values[start:end], strict=True):
            detector.add(moment, value)
            flags.append(detector.leaking)
        verdict = detector.verdict()
        answers.append((verdict.leaking, verdict.slope))
        start = end
    return answers, flags


def by_rule(name: str) -> Judge:
    rule = RIVALS[name]

    def judge(series: Series) -> tuple[list[Answer], list[bool]]:
        return [rule(series.times[:end], series.values[:end]) for end in ends(len(series.values))], []

    return judge


def outcome(judge: Judge, series: Series) -> Outcome:
    before = time.process_time()
    answers, flagged = judge(series)
    spent = time.process_time() - before
    flags = tuple(flag for flag, _ in answers)
    return Outcome(
        family=series.family,
        leaking=series.leaking,
        flags=flags,
        delay=_delay(series, ends(len(series.values)), flags) if series.leaking else None,
        exact_delay=_delay(series, range(1, len(flagged) + 1), flagged) if series.leaking and flagged else None,
        slope_error=abs(answers[-1][1] / series.slope - 1) if series.leaking and flags[-1] else None,
        cpu_seconds=spent,
        samples=len(series.values),
    )


def _delay(series: Series, counts: Sequence[int], flags: Sequence[bool]) -> float:
    onset = series.onset_seconds or 0.0
    at = (series.times[count - 1] for count, flag in zip(counts, flags, strict=True) if flag)
    first = next((moment for moment in at if moment >= onset), None)
    return 1.0 if first is None else (first - onset) / (series.times[-1] - series.times[0])


def share(values: Iterable[bool]) -> float:
    flags = list(values)
    return sum(flags) / len(flags) if flags else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Shares 0 to 1, CPU in seconds a sample."""

    false_at_end: float
    false_ever: float
    found: float
    delay: float
    slope_error: float
    cpu_seconds: float


def figures(outcomes: Sequence[Outcome]) -> Figures:
    """The table's row; random walks left out."""
    innocent = [one for one in outcomes if not one.leaking and one.family not in UNDECIDABLE]
    guilty = [one for one in outcomes if one.leaking]
    errors = [one.slope_error for one in guilty if one.slope_error is not None]
    return Figures(
        false_at_end=share(one.flags[-1] for one in innocent),
        false_ever=share(any(one.flags) for one in innocent),
        found=share(one.flags[-1] for one in guilty),
        delay=median(one.delay for one in guilty if one.delay is not None) if guilty else 0.0,
        slope_error=median(errors) if errors else 0.0,
        cpu_seconds=sum(one.cpu_seconds for one in outcomes) / sum(one.samples for one in outcomes),
    )
