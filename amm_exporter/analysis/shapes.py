"""The shapes memory takes, leaking or not, and what is left of a series beside each of them.

Everything is measured in generalised least squares with AR(1) errors: series and shapes go through Prais and Winsten's
transform L(rho), y*_t = y_t - rho y_(t-1) (the first value times sqrt(1 - rho^2)), which makes such errors white; at
rho = 1 it is the first difference. A constant is always fitted. Models are compared by Schwarz's criterion,
n log(RSS) + k log(n).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise

from amm_exporter.analysis.grid import POINTS, dot

Vector = tuple[float, ...]

STEP, FILLING, WARM_UP, LONG_WARM_UP, SWELL, SEASON = "step", "filling", "warm-up", "long warm-up", "swell", "season"

PARAMETERS = {STEP: 2.0, FILLING: 2.5, WARM_UP: 2.0, LONG_WARM_UP: 2.0, SWELL: 4.0, SEASON: 3.0}
"""What each shape pays: its height, and its place or scale as far as the grid below lets it choose."""

LINE_PARAMETERS, HINGE_PARAMETERS = 1.0, 2.0
HINGES = POINTS - 4
"""A leak may begin at any point but the last ones."""


def penalty(parameters: float) -> float:
    """What a residual is multiplied with for its model's parameters: exp(k log(n) / n)."""
    return math.exp(parameters * math.log(POINTS) / POINTS)


def transformed(values: Sequence[float], rho: float) -> list[float]:
    """Prais and Winsten's transform."""
    if rho == 0.0:
        return list(values)
    head = math.sqrt(1.0 - rho * rho) * values[0]
    return [head, *[after - rho * before for before, after in pairwise(values)]]


def _transposed(values: Sequence[float], rho: float) -> Vector:
    if rho == 0.0:
        return tuple(values)
    head = math.sqrt(1.0 - rho * rho) * values[0] - rho * values[1]
    return (head, *[value - rho * after for value, after in pairwise(values[1:])], values[-1])


@dataclass(frozen=True, slots=True)
class Curve:
    """A bounded shape: the weights that give its share of a series, and each axis' share in the line."""

    name: str
    axes: tuple[Vector, ...]
    line_shares: Vector
    line_left: float
    """How long the line is beside the shape, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """Steps or hinges at every point: their projections come from cumulative sums."""

    centres: Vector
    scales: Vector
    line_shares: Vector

    def shares(self, sums: Sequence[float], constant: float) -> list[float]:
        return [
            (total - centre * constant) * scale
            for total, centre, scale in zip(sums, self.centres, self.scales, strict=False)
        ]


@dataclass(frozen=True, slots=True)
class Basis:
    """All shapes for one rho. Weights apply to the series itself: the transform is inside them."""

    rho: float
    line: Vector
    gain: float
    """Growth over the grid of a line whose share is 1."""
    curves: tuple[Curve, ...]
    steps: Ladder
    hinges: Ladder


def _sampled(shape: Callable[[float], float]) -> list[float]:
    return [shape(index / (POINTS - 1)) for index in range(POINTS)]


def _bounded() -> Iterator[tuple[str, list[list[float]]]]:
    for full in (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.87, 0.93):
        yield FILLING, [_sampled(lambda u, end=full: min(1.0, u / end))]  # type: ignore[misc]
    for begin, full in (
        (0.1, 0.3),
        (0.1, 0.5),
        (0.2, 0.8),
        (0.3, 0.5),
        (0.3, 0.7),
        (0.5, 0.65),
        (0.5, 0.8),
        (0.65, 0.8),
    ):
        yield FILLING, [_sampled(lambda u, a=begin, b=full: min(1.0, max(0.0, (u - a) / (b - a))))]  # type: ignore[misc]
    for tau in (0.03, 0.06, 0.1, 0.2, 0.35, 0.6):
        yield WARM_UP, [_sampled(lambda u, scale=tau: 1.0 - math.exp(-u / scale))]  # type: ignore[misc]
    for tau in (0.003, 0.03, 0.2):
        yield WARM_UP, [_sampled(lambda u, scale=tau: math.log1p(u / scale))]  # type: ignore[misc]
    yield WARM_UP, [_sampled(math.sqrt)]
    yield LONG_WARM_UP, [_sampled(lambda u: 1.0 - math.exp(-u))]
    yield LONG_WARM_UP, [_sampled(math.log1p)]
    for periods in (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 4.0, 5.5, 7.5):
        pulse = 2 * math.pi * periods
        wave = [_sampled(lambda u, w=pulse: math.sin(w * u)), _sampled(lambda u, w=pulse: math.cos(w * u))]  # type: ignore[misc]
        yield SWELL if periods < 1 else SEASON, wave


def _unit(vector: Sequence[float], beside: Sequence[Sequence[float]]) -> list[float]:
    """The part of `vector` at right angles to the (orthonormal) others, of length 1; zeros when nothing is left."""
    rest, size = list(vector), dot(vector, vector)
    for axis in beside:
        share = dot(rest, axis)
        rest = [value - share * other for value, other in zip(rest, axis, strict=True)]
    length = math.sqrt(dot(rest, rest))
    if length * length <= 1e-12 * size:
        return [0.0] * len(rest)
    return [value / length for value in rest]


@lru_cache(maxsize=16)
def basis(rho: float) -> Basis:
    """The shapes as seen through L(rho)."""
    ones = _unit(transformed([1.0] * POINTS, rho), []) if rho < 1.0 else [0.0] * POINTS
    ramp = transformed(_sampled(lambda u: u), rho)
    line = _unit(ramp, [ones])
    curves = []
    for name, parts in _bounded():
        axes: list[list[float]] = []
        for part in parts:
            axes.append(_unit(transformed(part, rho), [ones, *axes]))
        shares = tuple(dot(line, axis) for axis in axes)
        left = math.sqrt(max(1e-9, 1.0 - dot(shares, shares)))
        curves.append(Curve(name, tuple(_transposed(axis, rho) for axis in axes), shares, left))
    steps = _ladder([[float(index >= at) for index in range(POINTS)] for at in range(1, POINTS)], ones, line, rho)
    hinges = _ladder([[max(0.0, index - at) for index in range(POINTS)] for at in range(HINGES)], ones, line, rho)
    return Basis(rho, _transposed(line, rho), 1.0 / dot(ramp, line), tuple(curves), steps, hinges)


def _ladder(shapes: list[list[float]], ones: list[float], line: list[float], rho: float) -> Ladder:
    centres, scales, shares = [], [], []
    level = dot(ones, ones) and dot(transformed([1.0] * POINTS, rho), ones)
    for shape in shapes:
        seen = transformed(shape, rho)
        centres.append(dot(seen, ones) / level if level else 0.0)
        rest = _unit(seen, [ones])
        scales.append(dot(rest, rest) / dot(seen, rest))
        shares.append(dot(line, rest))
    return Ladder(tuple(centres), tuple(scales), tuple(shares))


class Projection:
    """A series seen through one basis: how much of it each shape explains."""

    __slots__ = ("_constant", "_values", "_weighted", "basis", "line", "total")

    def __init__(self, values: Sequence[float], rho: float) -> None:
        self.basis = basis(rho)
        self._values = values
        seen = transformed(values, rho)
        self._weighted = _transposed(seen, rho)
        self._constant = sum(self._weighted)
        level = (POINTS - 1) * (1.0 - rho) ** 2 + 1.0 - rho * rho
        self.total = max(0.0, dot(seen, seen) - (self._constant**2 / level if rho < 1.0 else 0.0))
        self.line = dot(values, self.basis.line)

    def hinges(self) -> list[float]:
        """Shares of a line that begins at point 0, 1, 2, ..."""
        tails = list(accumulate(reversed(self._weighted)))
        sums = list(accumulate(tails[:-1]))
        return self.basis.hinges.shares(sums[::-1], self._constant)

    def steps(self) -> list[float]:
        """Shares of a step at point 1, 2, ..."""
        tails = list(accumulate(reversed(self._weighted)))
        return self.basis.steps.shares(tails[-2::-1], self._constant)

    def curve(self, curve: Curve) -> tuple[float, float]:
        """Explained sum of squares, and the share of the line beside the curve."""
        explained, beside = 0.0, self.line
        for axis, share in zip(curve.axes, curve.line_shares, strict=True):
            part = dot(self._values, axis)
            explained += part * part
            beside -= share * part
        return explained, beside / curve.line_left
