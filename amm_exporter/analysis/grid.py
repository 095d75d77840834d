"""A stretch of blocks as a fixed number of points, evenly spaced in time: every shape is then computed once for all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from operator import mul

from amm_exporter.analysis.pyramid import Block

POINTS = 32
LONGEST_GAP = 0.125
"""A hole in the record takes at most this share of the time that was recorded: a straight line drawn across a hole
explains itself."""

_SLACK = 0.25
"""Blocks within a quarter of a step of an even grid are taken as they are."""


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(map(mul, a, b), 0.0)


@lru_cache(maxsize=64)
def _shares(count: int) -> tuple[tuple[int, int, tuple[float, ...]], ...]:
    """Which of `count` blocks make up each point, and with what weight.

    A point is the mean of the line through the blocks over its share of them: what lies on a line stays on it.
    """
    width = (count - 1) / (POINTS - 1)
    out = []
    for point in range(POINTS):
        centre = point * width
        reach = min(width / 2, centre, count - 1 - centre)
        weights = [0.0] * (count + 1)
        for step in range(-_FINENESS, _FINENESS + 1):
            place = centre + reach * step / (_FINENESS + 0.5)
            block = min(int(place), count - 1)
            weights[block] += 1 - (place - block)
            weights[block + 1] += place - block
        used = [index for index, weight in enumerate(weights) if weight > 0.0]
        first, last = used[0], used[-1] + 1
        out.append((first, last, tuple(weight / (2 * _FINENESS + 1) for weight in weights[first:last])))
    return tuple(out)


_FINENESS = 8


def averaged(values: Sequence[float]) -> list[float]:
    """POINTS means of equal shares of the values."""
    if len(values) == POINTS:
        return list(values)
    return [dot(values[first:last], weights) for first, last, weights in _shares(len(values))]


class Grid:
    """POINTS evenly spaced instants over some blocks (no fewer than POINTS), and any column of the blocks on them."""

    __slots__ = ("_blocks", "_even", "_warped", "span", "start", "times")

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = blocks
        self.times = averaged([block[0] for block in blocks])
        self.start = self.times[0]
        self.span = self.times[-1] - self.start
        self._warped = _without_holes(self.times)
        step = (self._warped[-1] - self._warped[0]) / (POINTS - 1)
        slack = _SLACK * step
        first = self._warped[0]
        away = [time - first - index * step for index, time in enumerate(self._warped)]
        self._even = -slack < min(away) and max(away) < slack

    def means(self) -> list[float]:
        return self._spread(averaged([block[1] for block in self._blocks]))

    def floors(self) -> list[float]:
        return self._spread(averaged([block[2] for block in self._blocks]))

    def time_of(self, index: int) -> float:
        """The true time of a point of the grid."""
        return self.times[index] if self._even else self._spread(self.times)[index]

    def _spread(self, values: list[float]) -> list[float]:
        return values if self._even else interpolated(self._warped, values)


def interpolated(times: Sequence[float], values: Sequence[float]) -> list[float]:
    """`values` at POINTS even instants between the first and the last time."""
    start, step = times[0], (times[-1] - times[0]) / (POINTS - 1)
    out, i, last = [], 0, len(times) - 2
    for point in range(POINTS):
        time = start + point * step
        while time > times[i + 1] and i < last:
            i += 1
        width = times[i + 1] - times[i]
        share = (time - times[i]) / width if width > 0 else 0.5
        out.append(values[i] + (values[i + 1] - values[i]) * share)
    return out


def _without_holes(times: list[float]) -> list[float]:
    pauses = [after - before for before, after in pairwise(times)]
    usual = sorted(pauses)[len(pauses) // 2]
    if max(pauses) <= 4 * usual:
        return times  # 31 pauses: an eighth of them is nearly four
    longest = max(LONGEST_GAP * sum(min(pause, 4 * usual) for pause in pauses), usual)
    return [times[0] + gone for gone in accumulate((min(pause, longest) for pause in pauses), initial=0.0)]
