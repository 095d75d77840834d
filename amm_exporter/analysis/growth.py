"""Where memory grows: types, sites and other names ranked by the lower bound of their slope, and whose growth it is.

Pure. Measuring is `probes`, capturing `control.evidence`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from amm_exporter.analysis.verdicts import quantile

MAX_NAMES = 2_000

PYTHON, NATIVE, FRAGMENTATION, OUTSIDE = "python", "native", "fragmentation", "outside the allocators"
ELSEWHERE = "elsewhere"
"""Not in this process: what is summed over several grows, this one does not."""
SHARE = 0.5
"""An origin explains growth when it grows at half its pace or more."""

ORIGIN_WORDS = {
    PYTHON: "small Python objects (up to 512 bytes)",
    NATIVE: "malloc: Python objects over 512 bytes, buffers, C libraries",
    FRAGMENTATION: "free space inside the allocators: fragmentation, or a spike not given back",
    OUTSIDE: "memory outside the allocators: mappings, thread stacks, libraries that map their own",
    ELSEWHERE: "not in this process, but in its children or others of its cgroup",
}
"""Whose the growth is, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """How fast one name grows, in its unit a second, with bounds; `gained` since it was first seen."""

    name: str
    slope: float
    lower: float
    upper: float
    gained: float


class _Sums:
    """Running sums of least squares, times relative to the first (Welford's updates)."""

    __slots__ = ("count", "first", "last", "mean_time", "mean_value", "shared", "time_spread", "value_spread")

    def __init__(self, value: float) -> None:
        self.count = 0
        self.first = self.last = value
        self.mean_time = self.mean_value = self.shared = self.time_spread = self.value_spread = 0.0

    def add(self, time: float, value: float) -> None:
        self.count += 1
        away_time, away_value = time - self.mean_time, value - self.mean_value
        self.mean_time += away_time / self.count
        self.mean_value += away_value / self.count
        self.shared += away_time * (value - self.mean_value)
        self.time_spread += away_time * (time - self.mean_time)
        self.value_spread += away_value * (value - self.mean_value)
        self.last = value


class GrowthTable:
    """Feed it what each name holds now; ask which grow. Names not mentioned hold nothing. At most `max_names` are kept,
    the largest ones."""

    def __init__(self, *, max_names: int = MAX_NAMES) -> None:
        self._max_names = max_names
        self._sums: dict[str, _Sums] = {}
        self._seen = 0

    def add(self, t_seconds: float, holds: Mapping[str, float]) -> None:
        """One reading of all names: bytes or counts."""
        if not math.isfinite(t_seconds):
            return
        known = {name: value for name, value in holds.items() if math.isfinite(value)}
        self._seen += 1
        for name in [*self._sums, *(name for name in known if name not in self._sums)]:
            sums = self._sums.get(name) or self._sums.setdefault(name, _Sums(0.0 if self._seen > 1 else known[name]))
            sums.add(t_seconds, known.get(name, 0.0))
        if len(self._sums) > self._max_names:
            largest = sorted(self._sums, key=lambda name: -self._sums[name].last)[: self._max_names]
            self._sums = {name: self._sums[name] for name in largest}

    def growth(self, name: str, *, confidence: float = 0.99) -> Growth | None:
        """How fast one name grows, or shrinks; None for one never mentioned."""
        sums = self._sums.get(name)
        return _growth(name, sums, confidence) if sums else None

    def growing(self, *, top: int = 10, confidence: float = 0.99, least: float = 0.0) -> tuple[Growth, ...]:
        """The names whose slope is above zero (and at least `least`) for certain, the surest and fastest first. Needs
        three readings."""
        found = [_growth(name, sums, confidence) for name, sums in self._sums.items()]
        growing = [growth for growth in found if growth.lower > 0.0 and growth.lower >= least]
        return tuple(sorted(growing, key=lambda growth: -growth.lower)[:top])


def _growth(name: str, sums: _Sums, confidence: float) -> Growth:
    if sums.count < 3 or sums.time_spread <= 0.0:
        return Growth(name=name, slope=0.0, lower=0.0, upper=0.0, gained=sums.last - sums.first)
    slope = sums.shared / sums.time_spread
    left = max(0.0, sums.value_spread - slope * sums.shared)
    reach = quantile(confidence) * math.sqrt(left / (sums.count - 2) / sums.time_spread)
    return Growth(name=name, slope=slope, lower=slope - reach, upper=slope + reach, gained=sums.last - sums.first)


def origin(resident: Growth, python: Growth | None, native: Growth | None, free: Growth | None = None) -> str | None:
    """Whose growth it is: PYTHON (objects), NATIVE (malloc), FRAGMENTATION (held by an allocator, but in nobody's use),
    or OUTSIDE the allocators: mappings, thread stacks, memory of libraries that map it themselves.

    That is: of resident memory, of bytes in use by pymalloc and by malloc, and of their free bytes; None where it could
    not be measured. None is returned where one of them seems to grow fast enough and is too unsteady to be certain of.
    """
    enough = SHARE * max(resident.slope, 0.0)
    parts = ((PYTHON, python), (NATIVE, native), (FRAGMENTATION, free))
    growing = [(part, name) for name, part in parts if part and part.slope >= enough]
    certain = [(part.slope, name) for part, name in growing if part.lower > 0.0]
    if certain:
        return max(certain)[1]
    return None if growing else OUTSIDE
