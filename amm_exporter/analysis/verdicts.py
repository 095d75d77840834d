"""What a leak verdict is and how a finding becomes one: bounds, kind, time to exhaustion, reasons in words."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise

from amm_exporter.analysis.normal import normal_quantile
from amm_exporter.analysis.pyramid import Block
from amm_exporter.analysis.windows import Finding
from amm_exporter.units import MIB, format_duration, format_rate, format_size

DEGREES = 29
"""Residual degrees of freedom of a trend on 32 points."""

UNEVEN_LEAK, LOPSIDED = 0.05, 2.5
"""Of a saw-tooth: how far the floor lies below the mean, of the growth, and how much larger its falls are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakSettings:
    """What counts as a leak.

    Attributes:
        window_seconds: only the last so many seconds are judged; None judges the whole life, recent stretches included.
        confidence: of the verdict and of the bounds on the slope.
        min_slope: bytes per second. Slower growth is not called a leak until it has lasted `slow_after_seconds`.
        slow_after_seconds: inf ignores growth below `min_slope` for ever.
        settle_seconds: nothing is called a leak that has not lasted so long: programs load what they will keep when
            they start, and fill buffers later.
        min_growth_bytes: what the growth must have added up to.
        min_growth_ratio: the same as a share of the level.
    """

    window_seconds: float | None = None
    confidence: float = 0.99
    min_slope: float = MIB / 3600
    slow_after_seconds: float = 3 * 3600.0
    settle_seconds: float = 30.0
    min_growth_bytes: float = float(MIB)
    min_growth_ratio: float = 0.01

    def __post_init__(self) -> None:
        if not 0.5 <= self.confidence < 1.0:
            raise ValueError(f"confidence is {self.confidence!r}; expected a ratio from 0.5 to below 1")
        for name in ("min_slope", "slow_after_seconds", "settle_seconds", "min_growth_bytes", "min_growth_ratio"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected zero or more")
        if self.window_seconds is not None and not self.window_seconds > 0.0:
            raise ValueError(f"window_seconds is {self.window_seconds!r}; expected more than zero, or None for all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer for one series.

    Attributes:
        slope, lower, upper: bytes per second, with two-sided bounds at `confidence`.
        onset_seconds: when the growth began, on the series' clock; None when not leaking.
        kind: how a leak grows (steady, stepwise, saw-tooth) or what it is instead (warm-up, step, season, saw-tooth,
            falling, noise, or unknown while there are too few samples).
        exhaustion_seconds: until a limit is reached at this slope; None when not leaking or without a limit.
        reasons: sentences for people.
    """

    leaking: bool
    slope: float
    lower: float
    upper: float
    confidence: float
    onset_seconds: float | None
    kind: str
    exhaustion_seconds: float | None
    reasons: tuple[str, ...]
    sample_count: int
    span_seconds: float


def verdict_of(
    finding: Finding, leaking: bool, recent: Collection[Block], clock_shift: float, settings: LeakSettings
) -> Verdict:
    """The verdict that a finding supports, without what changes from sample to sample."""
    reach = quantile(settings.confidence) * finding.error
    return Verdict(
        leaking=leaking,
        slope=finding.slope,
        lower=finding.slope - reach,
        upper=finding.slope + reach,
        confidence=settings.confidence,
        onset_seconds=finding.onset_seconds - clock_shift if leaking else None,
        kind=_leak_kind(finding, recent) if leaking else _other_kind(finding, recent),
        exhaustion_seconds=None,
        reasons=_leak_reasons(finding, reach) if leaking else _other_reasons(finding),
        sample_count=0,
        span_seconds=0.0,
    )


def undecided(samples: Collection[Block], settings: LeakSettings, sample_count: int, span_seconds: float) -> Verdict:
    """The verdict on too few samples: the slope from the first to the last one, nothing decided."""
    values = [block[1] for block in samples]
    rise = values[-1] - values[0] if values else 0.0
    slope = rise / span_seconds if span_seconds >= 1e-3 else 0.0
    return Verdict(
        leaking=False,
        slope=slope,
        lower=min(0.0, 2 * slope),
        upper=max(0.0, 2 * slope),
        confidence=settings.confidence,
        onset_seconds=None,
        kind="unknown",
        exhaustion_seconds=None,
        reasons=(f"{sample_count} samples: too few to tell",),
        sample_count=sample_count,
        span_seconds=span_seconds,
    )


def quantile(confidence: float) -> float:
    """Two-sided Student quantile (first term of its expansion about the normal one; Abramowitz and Stegun 26.7.5)."""
    normal = normal_quantile((1.0 + confidence) / 2.0)
    return normal + normal * (normal * normal + 1.0) / (4.0 * DEGREES)


_INSTEAD = {
    "step": "step",
    "filling": "warm-up",
    "warm-up": "warm-up",
    "long warm-up": "warm-up",
    "swell": "season",
    "season": "season",
    "fading": "warm-up",
    "stepped": "step",
    "falling": "falling",
    "floor stands": "saw-tooth",
    "uneven": "saw-tooth",
    "short": "unknown",
}

_WORDS = {
    "flat": "no growth that matters",
    "falling": "memory is being given back",
    "seen before": "it rises to where it has been before",
    "uneven": "goes up and down on a floor that stands still",
    "floor stands": "the peaks rise, the floor does not",
    "stepped": "most of the rise came in one step",
    "unsure": "any rise is within the noise",
    "fading": "it grew, and is growing ever less: warming up or full",
    "short": "too short a time to tell",
    "contest": "it rises, but a {rival} explains it as well as a leak does",
}


def _leak_kind(finding: Finding, recent: Collection[Block]) -> str:
    if finding.unevenness > UNEVEN_LEAK and _falls_faster_than_it_rises(recent):
        return "saw-tooth"
    return "stepwise" if finding.jumpiness > 0.3 else "steady"


def _other_kind(finding: Finding, recent: Collection[Block]) -> str:
    kind = _INSTEAD.get(finding.rival or finding.because, "noise")
    if finding.because == "uneven" and not _falls_faster_than_it_rises(recent):
        return "noise"
    return kind


def _falls_faster_than_it_rises(recent: Collection[Block]) -> bool:
    """Noise has no direction; teeth have."""
    moves = [after[1] - before[1] for before, after in pairwise(recent)]
    return bool(moves) and -min(moves) > LOPSIDED * max(moves)


def exhaustion(slope: float, headroom_bytes: int | None) -> float | None:
    """Seconds until what is left has been taken at this slope; None when it never is."""
    if headroom_bytes is None or slope <= 0.0:
        return None
    seconds = headroom_bytes / slope
    return seconds if math.isfinite(seconds) else None


def _leak_reasons(finding: Finding, reach: float) -> tuple[str, ...]:
    slope = finding.slope
    lower, upper = (format_rate(bound, like=slope) for bound in (slope - reach, slope + reach))
    return (
        f"grows by {format_rate(slope)} ({lower} to {upper})",
        f"gained {format_size(finding.growth_bytes)} in {format_duration(finding.growth_bytes / slope)}",
        f"steady growth explains it better than a {finding.rival} does",
        *(("the floor rises, not only the peaks",) if finding.on_floor else ()),
        *(("it was calm before",) if finding.fresh else ()),
    )


def _other_reasons(finding: Finding) -> tuple[str, ...]:
    return (_WORDS.get(finding.because, finding.because).format(rival=finding.rival or "bounded shape"),)
