"""One look at one stretch of a series: does it rise, surely, enough to matter, still, and unlike anything bounded?

The questions are asked in the order of their price. The trend test is that of Perron and Yabu (2009, Journal of
Econometrics 151): feasible generalised least squares with the AR(1) coefficient shifted up against its bias and set to
one when it is near one, so that neither white noise nor a random walk passes for a trend. The contest compares
Schwarz criteria (1978, Annals of Statistics 6) of the best leak (a line, from the start or from a point on, alone or
beside a step or season) and the best bounded shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from amm_exporter.analysis.grid import POINTS, Grid, dot
from amm_exporter.analysis.pyramid import Block
from amm_exporter.analysis.shapes import (
    HINGE_PARAMETERS,
    LINE_PARAMETERS,
    LONG_WARM_UP,
    PARAMETERS,
    SEASON,
    STEP,
    SWELL,
    Projection,
    penalty,
)

RHOS = (0.0, 0.3, 0.6, 0.8, 1.0)
NEARLY_ONE = 0.85
"""An AR(1) coefficient above this is taken for a random walk (Perron and Yabu's truncation at 32 points)."""

STILL_GROWING = 0.4
"""The last third must keep this share of the slope."""

CALM = 0.5
FRESH_POINTS = 11
"""What lay quiet for this many of the 32 points before it rose is no warm-up."""

BESIDE = 10.0
"""Odds (in n log) that a line beside a step or a season must bring on top of Schwarz's, being two stories at once."""
BESIDE_SHARE = 0.3
"""What is left of the slope beside the other story."""

UNEVEN = 0.03
"""A floor this share below the mean is a saw-tooth's."""

SHORTEST_SECONDS = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one look found. Slopes are bytes per second.

    `odds` is the lead of a leak over the best bounded shape in Schwarz's criterion; None when the look ended earlier.
    """

    because: str
    odds: float | None = None
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
    """What a rise must bring: bytes, share of the level, and t of the trend."""

    growth_bytes: float
    growth_ratio: float
    trend_t: float


@dataclass(slots=True)
class _Trend:
    at: int
    t: float
    gain: float
    error: float
    residual: float
    values: list[float]
    projection: Projection
    on_floor: bool

    @property
    def growth(self) -> float:
        return self.gain * (POINTS - 1 - self.at) / (POINTS - 1)


_HINGE = penalty(HINGE_PARAMETERS - LINE_PARAMETERS)


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
    if rise < 0.7 * material:
        return _no_growth(grid, means, level, "flat" if rise > -0.7 * material else "falling") if whole else _NOTHING
    fresh = False
    if older is not None:
        if sum(means[-6:]) / 6 - max(block[1] for block in older) < max(material, 0.3 * rise):
            return _NOTHING
        fresh = _was_calm(older, grid.span, rise)
    trend = _stronger(_trend(means, level, on_floor=False), grid, level)
    if trend is None:
        return _no_growth(grid, means, level, "floor stands") if whole else _NOTHING
    fresh = fresh or trend.at >= FRESH_POINTS
    if trend.growth < material:
        return _ended(grid, trend, "flat")
    if trend.t < demand.trend_t:
        return _ended(grid, trend, _unsure(means) if whole else "unsure")
    if not _still_growing(trend):
        return _ended(grid, trend, "fading")
    return _contest(trend, grid, fresh=fresh, slowing=older is not None and not fresh)


def _no_growth(grid: Grid, means: list[float], level: float, because: str) -> Finding:
    """The plain least-squares slope, for what is not even a candidate."""
    times = [index / (POINTS - 1) - 0.5 for index in range(POINTS)]
    spread = dot(times, times)
    gain = dot(means, times) / spread
    left = sum((value - level - gain * time) ** 2 for value, time in zip(means, times, strict=True))
    depth = (level - sum(grid.floors()) / POINTS) / (abs(level) or 1.0)
    return Finding(
        because="uneven" if because == "flat" and depth > UNEVEN else because,
        slope=gain / grid.span,
        error=math.sqrt(left / (POINTS - 2) / spread) / grid.span,
        unevenness=depth,
    )


def _unsure(means: list[float]) -> str:
    """What a rise is likelier to be when no trend is certain: most of it in one step, or in the first half."""
    rise, half = means[-1] - means[0], means[POINTS // 2] - means[0]
    largest = max(after - before for before, after in zip(means, means[2:], strict=False))
    if largest > 0.6 * rise > 0.0:
        return "stepped"
    return "fading" if half > 0.7 * rise > 0.0 else "unsure"


def _ended(grid: Grid, trend: _Trend, because: str) -> Finding:
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


def _stronger(mean: _Trend | None, grid: Grid, level: float) -> _Trend | None:
    """The trend of means or of floors, whichever is clearer; none when either does not rise at all."""
    if mean is None or mean.t < 0.5:
        return None
    floor = _trend(grid.floors(), level, on_floor=True)
    if floor is None or floor.t < 0.5:
        return None
    return floor if floor.t > mean.t else mean


def _trend(values: list[float], level: float, *, on_floor: bool) -> _Trend | None:
    """The best line from some point on, its errors as correlated as its residuals are."""
    centred = [value - level for value in values]
    projection = Projection(centred, 0.0)
    at, _ = _best_hinge(projection)
    if at < 0:
        return None
    rho = _rho(_residuals(centred, at))
    if rho > 0.0:
        projection = Projection(centred, rho)
        at, _ = _best_hinge(projection)
        if at < 0:
            return None
    share = projection.hinges()[at] if at else projection.line
    basis = projection.basis
    residual = max(projection.total - share * share, 1e-12 * projection.total, 1e-300)
    deviation = math.sqrt(residual / (POINTS - 3))
    gain = basis.gain if at == 0 else basis.hinges.scales[at] * (POINTS - 1)
    return _Trend(at, share / deviation, share * gain, deviation * gain, residual, centred, projection, on_floor)


def _best_hinge(projection: Projection) -> tuple[int, float]:
    """Where the line begins, and what it leaves unexplained (with the price of a free beginning). -1: nothing rises."""
    best, at = math.inf, -1
    for index, share in enumerate(projection.hinges()):
        if share > 0.0:
            left = projection.total - share * share
            if index:
                left *= _HINGE
            if left < best:
                best, at = left, index
    return at, best


def _residuals(values: list[float], at: int) -> list[float]:
    """Least squares of a hinge at point `at`."""
    hinge = [max(0.0, float(index - at)) for index in range(POINTS)]
    centre = sum(hinge) / POINTS
    hinge = [value - centre for value in hinge]
    mean = sum(values) / POINTS
    slope = dot(values, hinge) / dot(hinge, hinge)
    return [value - mean - slope * beside for value, beside in zip(values, hinge, strict=True)]


def _rho(residuals: list[float]) -> float:
    """The AR(1) coefficient, shifted up by its standard error and rounded up to one of RHOS."""
    power = dot(residuals, residuals)
    if power <= 0.0:
        return 0.0
    rho = dot(residuals, [*residuals[1:], 0.0]) / power
    rho += math.sqrt(max(0.0, 1.0 - rho * rho) / POINTS)
    return next((known for known in RHOS if rho <= known), 1.0) if rho <= NEARLY_ONE else 1.0


def _still_growing(trend: _Trend) -> bool:
    count = max(6, (POINTS - trend.at) // 3)
    tail = trend.values[-count:]
    mean = sum(tail) / count
    slope = sum((index - (count - 1) / 2) * (value - mean) for index, value in enumerate(tail))
    return slope / (count * (count * count - 1) / 12) * (POINTS - 1) >= STILL_GROWING * trend.gain


def _contest(trend: _Trend, grid: Grid, *, fresh: bool, slowing: bool) -> Finding:
    projection = trend.projection
    tiny = max(1e-12 * projection.total, 1e-300)
    leak, shape = trend.residual * penalty(HINGE_PARAMETERS if trend.at else LINE_PARAMETERS), "line"
    bounded, rival = math.inf, ""
    enough = BESIDE_SHARE * trend.gain / projection.basis.gain
    for name, explained, beside in _explanations(projection, slowing=slowing):
        left = max(projection.total - explained, tiny)
        if left * _PRICE[name] < bounded:
            bounded, rival = left * _PRICE[name], name
        if name in _BESIDE_PRICE and beside > enough:
            both = max(left - beside * beside, tiny) * _BESIDE_PRICE[name]
            if both < leak:
                leak, shape = both, name
    return replace(
        _ended(grid, trend, "contest"),
        odds=POINTS * math.log(bounded / leak),
        fresh=fresh,
        shape=shape,
        rival=rival,
        jumpiness=_jumpiness(trend),
        unevenness=(sum(grid.means()) - sum(grid.floors())) / POINTS / trend.growth,
    )


def _jumpiness(trend: _Trend) -> float:
    """Share of the points at which nothing moves."""
    step = abs(trend.gain) / (POINTS - 1)
    return sum(abs(after - before) < step / 4 for before, after in pairwise(trend.values)) / (POINTS - 1)


_PRICE = {name: penalty(count) for name, count in PARAMETERS.items()}
_BESIDE_PRICE = {name: penalty(PARAMETERS[name] + 1) * math.exp(BESIDE / POINTS) for name in (STEP, SEASON, SWELL)}


def _explanations(projection: Projection, *, slowing: bool) -> list[tuple[str, float, float]]:
    """Name, explained sum of squares, and what the line adds beside, of every bounded shape."""
    out = []
    for share, in_line in zip(projection.steps(), projection.basis.steps.line_shares, strict=True):
        left = 1.0 - in_line * in_line
        out.append((STEP, share * share, (projection.line - in_line * share) / math.sqrt(left) if left > 1e-9 else 0.0))
    for curve in projection.basis.curves:
        if slowing or curve.name != LONG_WARM_UP:
            out.append((curve.name, *projection.curve(curve)))
    return out
