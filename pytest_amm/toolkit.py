"""The fixture `amm`: measure a stretch, check for a leak, weigh a remedy, stress in bounded chunks.

Figures are of the resident set of the own process, exact where the kernel has a high-water mark.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from amm_exporter.errors import UnitError
from pytest_amm import leakgate
from pytest_amm.compare import LEAST_NOISE_BYTES
from pytest_amm.giveback import trim
from pytest_amm.meter import Meter, Span

if TYPE_CHECKING:
    from amm_exporter.control.leak_gate import PerCallVerdict
    from amm_exporter.probes.limit import LimitProbe

T = TypeVar("T")

LARGEST_CHUNK = 50
MOST_THREADS = 8
_TYPED = "amm.leak_check(fn, {})"
_STEPS = ((0.85, 0.1), (0.8, 0.2), (0.7, 0.5), (0.6, 0.8), (0.0, 1.0))
"""From this share of the machine's memory in use on, this share of the chunk and of the threads."""


@dataclass(slots=True)
class Measured:
    """A stretch of code: filled when its `with` block ends."""

    start_bytes: int = 0
    peak_bytes: int = 0
    end_bytes: int = 0

    @property
    def growth_bytes(self) -> int:
        return max(0, self.peak_bytes - self.start_bytes)

    @property
    def kept_bytes(self) -> int:
        return self.end_bytes - self.start_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a strategy gave back. `score_ratio` is freed over grown; below `noise_ratio` it means nothing."""

    grown_bytes: int
    freed_bytes: int
    score_ratio: float
    noise_ratio: float

    @property
    def effective(self) -> bool:
        return self.score_ratio > self.noise_ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class Stability:
    """What stayed after each cycle of a stress.

    `drift_bytes` is how much more the second half holds than the first; `spread_bytes` how far the cycles scatter
    around a straight line, so that a leak is no scatter. `stable` when the drift is no more than the spread or 1 MiB.
    """

    drift_bytes: int
    spread_bytes: int
    kept_bytes: tuple[int, ...]
    """Resident after each cycle. The last field: of a long value a failed assertion shows the beginning."""

    @property
    def stable(self) -> bool:
        return self.drift_bytes <= max(self.spread_bytes, 1 << 20)


class Toolkit:
    """What the fixture gives. `usage_ratio` tells how full the machine is, `headroom` how far the test may grow."""

    def __init__(
        self, meter: Meter, usage_ratio: Callable[[], float], headroom: Callable[[], int | None] = lambda: None
    ) -> None:
        self._meter = meter
        self._usage_ratio = usage_ratio
        self._headroom = headroom

    @contextlib.contextmanager
    def measure(self) -> Iterator[Measured]:
        """The memory of a block: `with amm.measure() as seen: ...`, then `seen.peak_bytes`."""
        seen = Measured()

        def fill(span: Span) -> None:
            seen.start_bytes, seen.peak_bytes, seen.end_bytes = span

        with self._meter.nested(fill):
            yield seen

    def leak_check(self, fn: Callable[[], object], **rule: Any) -> PerCallVerdict:
        """Call `fn` until it is decided whether each call leaves memory behind; fails the test when it does.

        Takes the arguments of the marker: max_per_call, warmup, confidence, time_limit.
        """
        name = getattr(_plain(fn), "__qualname__", repr(fn))
        parsed = leakgate.parse_rule(rule)
        return leakgate.check(fn, parsed, what=name, headroom_bytes=self._headroom(), typed=_TYPED)

    def before_after(self, fn: Callable[[], object], strategy: Callable[[], object], *, rounds: int = 5) -> Effect:
        """How much of what `fn` leaves in use `strategy` gives back, once malloc is asked to return what is free.

        `fn` builds the memory and must leave it reachable by what `strategy` works on.
        """
        _plain(fn), _plain(strategy)
        freed, grown, idle = [], [], []
        for _ in range(_whole("rounds", rounds, least=1)):
            trim()  # else `fn` may live in heap that is free but resident, and seem to grow nothing
            start_bytes = self._meter.rss_bytes()
            fn()
            trim()  # what `fn` has freed itself is none of the strategy's doing
            full_bytes = self._meter.rss_bytes()
            idle.append(abs(self._meter.rss_bytes() - full_bytes))
            strategy()
            trim()  # a strategy makes memory free; whether malloc returns it by itself is chance
            freed.append(full_bytes - self._meter.rss_bytes())
            grown.append(full_bytes - start_bytes)
        grown_bytes = max(1, round(statistics.median(grown)))
        spread_bytes = statistics.median(abs(value - statistics.median(freed)) for value in freed) + max(idle)
        return Effect(
            grown_bytes=grown_bytes,
            freed_bytes=round(statistics.median(freed)),
            score_ratio=statistics.median(freed) / grown_bytes,
            noise_ratio=max(3 * spread_bytes, LEAST_NOISE_BYTES) / grown_bytes,
        )

    def stress(self, fn: Callable[[], object], *, cycles: int = 30) -> Stability:
        """Call `fn` again and again, clean up after each cycle, and judge whether memory settles.

        The first quarter of the cycles is warm-up; 8 or more make a verdict that means something, 2 are the least.
        """
        import gc

        _plain(fn)
        kept = []
        for _ in range(_whole("cycles", cycles, least=2)):
            fn()
            gc.collect()
            trim()
            kept.append(self._meter.rss_bytes())
        return stability(kept)

    def batches(self, items: Iterable[T]) -> Iterator[list[T]]:
        """The items in chunks of at most 50, smaller while the machine's memory is tight."""
        waiting = iter(items)
        while chunk := list(islice(waiting, max(1, int(LARGEST_CHUNK * self._share())))):
            yield chunk

    @property
    def threads(self) -> int:
        """How many threads a stress may use now: at most 8, fewer while the machine's memory is tight."""
        return max(1, int(MOST_THREADS * self._share()))

    def _share(self) -> float:
        ratio = self._usage_ratio()
        return next(share for least, share in _STEPS if ratio >= least)


def stability(kept: Sequence[int]) -> Stability:
    """The verdict on what stayed after each cycle; the first quarter is warm-up."""
    settled = list(kept[len(kept) // 4 :]) or list(kept)
    half = len(settled) // 2 or 1
    first, second = settled[:half], settled[half:] or settled[:half]
    return Stability(
        kept_bytes=tuple(kept),
        drift_bytes=round(statistics.median(second) - statistics.median(first)),
        spread_bytes=_scatter(settled),
    )


def _scatter(values: Sequence[int]) -> int:
    """How far the values are from the straight line through them, from the lowest to the highest."""
    slope, start = statistics.linear_regression(range(len(values)), values)
    residues = [value - start - slope * at for at, value in enumerate(values)]
    return round(max(residues) - min(residues))


def _plain(fn: object) -> object:
    """What does its work when it is called. Raises UnitError for anything else."""
    if not callable(fn):
        raise UnitError(fn, "a function")
    if leakgate.runs_later(fn):
        raise UnitError(fn, "a function that runs when called", "write lambda: asyncio.run(fn()), or list(fn())")
    return fn


def _whole(name: str, value: object, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UnitError(value, f"a whole number of {name}, at least {least}")
    return value


def host_usage_ratio(new_probe: Callable[[], LimitProbe] | None = None) -> float:
    """How full the machine is, or the container where that is the fuller one; 0 where neither can be read."""
    from amm_exporter.errors import ProbeError
    from amm_exporter.probes.limit import LimitProbe

    probe = (new_probe or LimitProbe)()
    ratios = [0.0]
    try:
        host = probe.host()
        ratios.append(host.used_bytes / host.total_bytes)
        cgroup = probe.cgroup()
        if cgroup is not None and cgroup.limit_bytes:
            ratios.append(cgroup.working_set_bytes / cgroup.limit_bytes)
    except ProbeError:
        pass  # what could be read counts
    finally:
        probe.close()
    return max(ratios)
