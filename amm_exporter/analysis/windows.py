"""One look at one stretch of a series: does it rise, surely, enough to matter, still, and unlike anything bounded?

The questions are asked in the order of their price: `trend` and `contest` answer the dear ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from amm_exporter.analysis.contest import contest
from amm_exporter.analysis.grid import POINTS, Grid, dot
from amm_exporter.analysis.pyramid import Block
from amm_exporter.analysis.trend import Trend, still_growing, trend_of

CALM = 0.5
FRESH_POINTS = 11
"""What lay quiet for this many of the 32 points before it rose is no warm-up."""

UNEVEN = 0.03
"""A floor this share below the mean is a saw-tooth's."""

LEAST_RISE = 0.7
"""Of the growth that matters: a stretch that rises by less is not looked at any closer."""

SHORTEST_SECONDS = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one look found. Slopes are bytes per second.

    `lead` is by how much the odds of a leak over the best bounded shape (in Schwarz's criterion) exceed what is asked;
    None when the look ended earlier.
    """

    because: str
    lead: float | None = None
    fresh: bool = False
    shape: str = ""
    rival: str = ""
    trend_t: float = 0.0
    slope: float = 0.0
    error: float = 0.0
    onset_seconds: float = 0.0
    growth_bytes: float = 0.0
    on_floor: bool = False
    jumpiness: float = 0.0
    """Share of the time in which nothing moves, 0 to 1."""
    unevenness: float = 0.0
    """How far the floor lies below the mean, as a share of the growth (of the level when there is none)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a rise must bring: bytes, share of the level, t of the trend, and odds over the best bounded shape.

    The odds are asked of growth since the start of the record, after a calm stretch, and where it was faster before.
    """

    growth_bytes: float
    growth_ratio: float
    trend_t: float
    odds_old: float
    odds_fresh: float
    odds_slowing: float
    pace: float
    """Share of the slope that the last third must keep."""
    doubts: float
    """Standard errors of doubt in whose favour: 1, the leak's; 0, nobody's."""


_NOTHING = Finding(because="nothing")


def examine(blocks: Sequence[Block], older: Sequence[Block] | None, demand: Demand) -> Finding:
    """Judge one stretch. `older` is what lies before it; None when the stretch begins where the life of the series
    does, and then what is no leak is described too."""
    if blocks[-1][0] - blocks[0][0] < SHORTEST_SECONDS:
        return Finding(because="short")
    grid, whole = Grid(blocks), older is None
    means = grid.means()
    level = sum(means) / POINTS
    material = max(demand.growth_bytes, demand.growth_ratio * abs(level))
    rise = sum(means[-6:]) / 6 - min(sum(means[:6]), sum(means[6:12])) / 6
    if rise < LEAST_RISE * material:
        flat = rise > -LEAST_RISE * material
        return _no_growth(grid, means, level, "flat" if flat else "falling") if whole else _NOTHING
    fresh = False
    if older is not None:
        if sum(means[-6:]) / 6 - max(block[1] for block in older) < max(material, 0.3 * rise):
            return _NOTHING
        fresh = _was_calm(older, grid.span, rise)
    trend = _stronger(trend_of(means, level, on_floor=False), grid, level, demand)
    if trend is None:
        return _no_growth(grid, means, level, "floor stands") if whole else _NOTHING
    if trend.at and sum(means[-6:]) / 6 - max(means[: trend.at]) < max(material, 0.3 * rise):
        return _ended(grid, trend, "seen before") if whole else _NOTHING
    fresh = fresh or trend.at >= FRESH_POINTS
    if trend.growth < material:
        return _ended(grid, trend, "flat")
    if trend.t < demand.trend_t:
        return _ended(grid, trend, _unsure(means) if whole else "unsure")
    if not still_growing(trend, demand.pace, demand.doubts):
        return _ended(grid, trend, "fading")
    slowing = older is not None and not fresh
    asked = demand.odds_fresh if fresh else demand.odds_slowing if slowing else demand.odds_old
    outcome = contest(trend, asked, slowing=slowing)
    return replace(
        _ended(grid, trend, "contest"),
        lead=outcome.odds - asked,
        fresh=fresh,
        shape=outcome.shape,
        rival=outcome.rival,
        jumpiness=_jumpiness(trend),
        unevenness=(sum(means) - sum(grid.floors())) / POINTS / trend.growth,
    )


def _no_growth(grid: Grid, means: list[float], level: float, because: str) -> Finding:
    """The plain least-squares slope, for what is not even a candidate."""
    gain, error = _line(means)
    depth = (level - sum(grid.floors()) / POINTS) / (abs(level) or 1.0)
    return Finding(
        because="uneven" if because == "flat" and depth > UNEVEN else because,
        slope=gain / grid.span,
        error=error / grid.span,
        unevenness=depth,
    )


def _unsure(means: list[float]) -> str:
    """What a rise is likelier to be when no trend is certain: most of it in one step, or in the first half."""
    rise, half = means[-1] - means[0], means[POINTS // 2] - means[0]
    largest = max(after - before for before, after in zip(means, means[2:], strict=False))
    if largest > 0.6 * rise > 0.0:
        return "stepped"
    return "fading" if half > 0.7 * rise > 0.0 else "unsure"


def _ended(grid: Grid, trend: Trend, because: str) -> Finding:
    return Finding(
        because=because,
        trend_t=trend.t,
        slope=trend.gain / grid.span,
        error=trend.error / grid.span,
        onset_seconds=grid.time_of(trend.at),
        growth_bytes=trend.growth,
        on_floor=trend.on_floor,
    )


def slope_of(blocks: Sequence[Block]) -> float:
    """Least-squares slope of the means."""
    count = len(blocks)
    mean_time = sum(block[0] for block in blocks) / count
    mean = sum(block[1] for block in blocks) / count
    spread = sum((block[0] - mean_time) ** 2 for block in blocks)
    return sum((block[0] - mean_time) * (block[1] - mean) for block in blocks) / spread if spread > 0 else 0.0


def _was_calm(older: Sequence[Block], span: float, rise: float) -> bool:
    """At least as long as the stretch itself, and at less than half its pace."""
    return older[-1][0] - older[0][0] >= span and slope_of(older[-POINTS:]) < CALM * rise / span


def _stronger(mean: Trend | None, grid: Grid, level: float, demand: Demand) -> Trend | None:
    """The trend of means or of floors, whichever is clearer; none when either does not rise at all."""
    if mean is None or mean.t < 0.5:
        return None
    floors = grid.floors()
    floor = trend_of(floors, level, on_floor=True)
    if floor is None or floor.t < 0.5:
        sure = demand.doubts > 0.0 and mean.t >= demand.trend_t
        return mean if sure and _is_vague(floors, mean.gain, demand.doubts) else None
    return floor if floor.t > mean.t else mean


def _is_vague(floors: Sequence[float], gain: float, doubts: float) -> bool:
    """Whether the floor may well rise at half the mean's pace: the smallest of many noisy samples is noisy itself."""
    found, error = _line(floors)
    return found + 2.0 * doubts * error > 0.5 * gain


def _line(values: Sequence[float]) -> tuple[float, float]:
    """Growth over the grid by least squares, and its standard error."""
    level, spread = sum(values) / POINTS, dot(_EVEN, _EVEN)
    gain = dot(values, _EVEN) / spread
    left = sum((value - level - gain * time) ** 2 for value, time in zip(values, _EVEN, strict=True))
    return gain, math.sqrt(left / (POINTS - 2) / spread)


_EVEN = [index / (POINTS - 1) - 0.5 for index in range(POINTS)]


def _jumpiness(trend: Trend) -> float:
    """Share of the points at which nothing moves."""
    step = abs(trend.gain) / (POINTS - 1)
    return sum(abs(after - before) < step / 4 for before, after in pairwise(trend.values)) / (POINTS - 1)
