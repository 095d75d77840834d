"""The benchmark's series, by family, index and seed set: the same on every machine and Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.leaks.culprits import CULPRITS, Leak
from benchmarks.leaks.draw import MIB, Draw, Series
from benchmarks.leaks.innocents import INNOCENTS, Points

UNDECIDABLE = frozenset({"random_walk"})
"""Reported apart: no test can tell it from a leak for certain."""


def innocent(make: Callable[[Draw, int], Points], rng: Draw, count: int) -> Series:
    times, sizes = make(rng, count)
    return Series(family=make.__name__, leaking=False, times=tuple(times), values=tuple(size * MIB for size in sizes))


def culprit(make: Callable[[Draw, int], Leak], rng: Draw, count: int) -> Series:
    times, sizes, onset, gain = make(rng, count)
    span = times[-1] - times[0]
    return Series(
        family=make.__name__,
        leaking=True,
        times=tuple(times),
        values=tuple(size * MIB for size in sizes),
        onset_seconds=times[0] + onset * span,
        slope=gain * MIB / (span * (1 - onset)),
    )


def series(
    per_family: int, seed: str, families: frozenset[str] | None = None, draw: type[Draw] = Draw
) -> Iterator[Series]:
    """`per_family` series of each family, of 300 to 1,200 samples."""
    for make in INNOCENTS:
        for rng, count in _sources(make.__name__, per_family, seed, families, draw):
            yield innocent(make, rng, count)
    for leak in CULPRITS:
        for rng, count in _sources(leak.__name__, per_family, seed, families, draw):
            yield culprit(leak, rng, count)


def _sources(
    name: str, per_family: int, seed: str, families: frozenset[str] | None, draw: type[Draw]
) -> Iterator[tuple[Draw, int]]:
    if families is None or name in families:
        for index in range(per_family):
            rng = draw(f"{seed}/{name}/{index}")
            yield rng, int(rng.log_uniform(300, 1200))


def family_names() -> list[str]:
    return [make.__name__ for make in (*INNOCENTS, *CULPRITS)]
