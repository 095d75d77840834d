"""The benchmark's series, by family, index and seed set: the same on every machine and Python."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.leaks.culprits import CULPRITS
from benchmarks.leaks.draw import MIB, Draw, Series
from benchmarks.leaks.innocents import INNOCENTS

UNDECIDABLE = frozenset({"random_walk"})
"""Reported apart: no test can tell it from a leak for certain."""


def innocent(make: object, rng: Draw, count: int) -> Series:
    times, sizes = make(rng, count)  # type: ignore[operator]
    name = make.__name__  # type: ignore[attr-defined]
    return Series(family=name, leaking=False, times=tuple(times), values=tuple(size * MIB for size in sizes))


def culprit(make: object, rng: Draw, count: int) -> Series:
    times, sizes, onset, gain = make(rng, count)  # type: ignore[operator]
    span = times[-1] - times[0]
    return Series(
        family=make.__name__,  # type: ignore[attr-defined]
        leaking=True,
        times=tuple(times),
        values=tuple(size * MIB for size in sizes),
        onset_seconds=times[0] + onset * span,
        slope=gain * MIB / (span * (1 - onset)),
    )


def series(per_family: int, seed: str, families: frozenset[str] | None = None) -> Iterator[Series]:
    """`per_family` series of each family, of 300 to 1,200 samples."""
    for makers, build in ((INNOCENTS, innocent), (CULPRITS, culprit)):
        for make in makers:
            if families is not None and make.__name__ not in families:
                continue
            for index in range(per_family):
                rng = Draw(f"{seed}/{make.__name__}/{index}")
                yield build(make, rng, int(rng.log_uniform(300, 1200)))
