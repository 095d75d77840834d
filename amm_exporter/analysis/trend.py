"""The best straight rise in a stretch, from the start or from some point on, with an honest error.

Perron and Yabu (2009, Journal of Econometrics 151): feasible generalised least squares with the AR(1) coefficient
shifted up against its bias and set to one when it is near one, so that neither white noise nor a random walk passes for
a trend.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from amm_exporter.analysis.grid import POINTS, dot
from amm_exporter.analysis.shapes import HINGE_PARAMETERS, LINE_PARAMETERS, Projection, penalty

RHOS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)
"""Each costs 2 ms, once. Rounding up to few of them took white noise for waves, and found leaks later."""

NEARLY_ONE = 0.85
"""An AR(1) coefficient above this is taken for a random walk (the truncation at 32 points)."""

STILL_GROWING = 0.4
"""The last third must keep this share of the slope, of a record that is not young."""


@dataclass(slots=True)
class Trend:
    """A line from point `at` on: t, growth over the whole grid at its slope, and what it leaves unexplained."""

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


def trend_of(values: list[float], level: float, *, on_floor: bool) -> Trend | None:
    """The best line from some point on, its errors as correlated as its residuals are."""
    centred = [value - level for value in values]
    projection = Projection(centred, 0.0)
    at, share = _best_hinge(projection)
    if at < 0:
        return None
    rho = _rho(_residuals(centred, at))
    if rho > 0.0:
        projection = Projection(centred, rho)
        at, share = _best_hinge(projection)
        if at < 0:
            return None
    basis = projection.basis
    residual = max(projection.total - share * share, 1e-12 * projection.total, 1e-300)
    deviation = math.sqrt(residual / (POINTS - 3))
    gain = basis.gain if at == 0 else basis.hinges.scales[at] * (POINTS - 1)
    return Trend(at, share / deviation, share * gain, deviation * gain, residual, centred, projection, on_floor)


def _best_hinge(projection: Projection) -> tuple[int, float]:
    """Where the line begins, and its share; a later beginning pays for its freedom. -1: nothing rises."""
    total, best, at, found = projection.total, math.inf, -1, 0.0
    for index, share in enumerate(projection.hinges()):
        if share > 0.0:
            left = (total - share * share) * _HINGE if index else total - share * share
            if left < best:
                best, at, found = left, index, share
    return at, found


@lru_cache(maxsize=POINTS)
def _centred_hinge(at: int) -> tuple[list[float], float]:
    hinge = [max(0.0, float(index - at)) for index in range(POINTS)]
    centre = sum(hinge) / POINTS
    hinge = [value - centre for value in hinge]
    return hinge, dot(hinge, hinge)


def _residuals(values: list[float], at: int) -> list[float]:
    """Least squares of a hinge at point `at`."""
    hinge, size = _centred_hinge(at)
    mean = sum(values) / POINTS
    slope = dot(values, hinge) / size
    return [value - mean - slope * beside for value, beside in zip(values, hinge, strict=True)]


def _rho(residuals: list[float]) -> float:
    """The AR(1) coefficient, shifted up by its standard error and rounded up to one of RHOS."""
    power = dot(residuals, residuals)
    if power <= 0.0:
        return 0.0
    rho = dot(residuals, [*residuals[1:], 0.0]) / power
    rho += math.sqrt(max(0.0, 1.0 - rho * rho) / POINTS)
    return next((known for known in RHOS if rho <= known), 1.0) if rho <= NEARLY_ONE else 1.0


def still_growing(trend: Trend, pace: float, doubts: float) -> bool:
    """Whether the last third keeps this share of the slope, or may, within so many standard errors of its own."""
    count = max(6, (POINTS - trend.at) // 3)
    tail = trend.values[-count:]
    mean = sum(tail) / count
    covered = sum((index - (count - 1) / 2) * (value - mean) for index, value in enumerate(tail))
    spread = count * (count * count - 1) / 12
    slope, error = covered / spread, 0.0
    if doubts:
        left = sum((value - mean) ** 2 for value in tail) - covered * slope
        error = math.sqrt(max(0.0, left) / (count - 2) / spread)
    return (slope + doubts * error) * (POINTS - 1) >= pace * trend.gain
