"""Who holds memory: the series `heap` and `floor`, what of them is shown, and whose growth a leak is."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from amm_exporter.analysis.growth import ELSEWHERE, FRAGMENTATION, NATIVE, OUTSIDE, PYTHON
from amm_exporter.control.holders import EVERY_SECONDS, SHARE_OF_A_CORE, STILL_SECONDS, Holders
from amm_exporter.control.leak_watch import LeakWatch
from amm_exporter.policy import load_policy
from amm_exporter.probes.allocator import AllocatorMemory
from amm_exporter.probes.gc_events import GcProbe

MB = 1 << 20


class Allocators:
    """What pymalloc and glibc hold, as a test sets it."""

    def __init__(self) -> None:
        self.python, self.native, self.free = 10 * MB, 20 * MB, MB
        self.names = {"pymalloc", "glibc"}

    def read(self) -> tuple[AllocatorMemory, ...]:
        free = {"pymalloc": 0, "glibc": self.free, "jemalloc": self.free}
        used = {"pymalloc": self.python, "glibc": self.native, "jemalloc": self.native}
        return tuple(
            AllocatorMemory(allocator=name, held_bytes=used[name] + free[name], free_bytes=free[name])
            for name in sorted(self.names)
        )


def watch_of(**leak: object) -> LeakWatch:
    return LeakWatch(load_policy({"leak": leak} if leak else {}, environ={}))


def holders_of(leaks: LeakWatch, allocators: Allocators, **arguments: object) -> Holders:
    return Holders(leaks, GcProbe(), allocators=allocators, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("grows", "origin"), [("python", PYTHON), ("native", NATIVE), ("free", FRAGMENTATION), ("", OUTSIDE)]
)
def test_growth_is_told_by_who_holds_it(grows: str, origin: str) -> None:
    allocators = Allocators()
    holders = holders_of(watch_of(), allocators)
    for step in range(8):
        if grows:
            setattr(allocators, grows, getattr(allocators, grows) + MB)
        holders.look(EVERY_SECONDS * step, 100 * MB + step * MB)
    assert holders.origin() == origin


def test_while_the_resident_set_stands_still_allocators_are_read_less_often() -> None:
    reads: list[None] = []

    class Counted(Allocators):
        def read(self) -> tuple[AllocatorMemory, ...]:
            reads.append(None)
            return super().read()

    holders = holders_of(watch_of(), Counted(), clock=lambda: 0.0)
    for step in range(60):
        holders.look(EVERY_SECONDS * step, 100 * MB)
    assert len(reads) == 60 * EVERY_SECONDS / STILL_SECONDS
    holders.look(EVERY_SECONDS * 60, 101 * MB)
    holders.look(EVERY_SECONDS * 61, 102 * MB)
    assert len(reads) == 60 * EVERY_SECONDS / STILL_SECONDS + 2


def test_only_growth_since_the_onset_counts() -> None:
    allocators = Allocators()
    holders = holders_of(watch_of(), allocators)
    for step in range(40):
        allocators.python += 3 * MB if step < 20 else 0
        allocators.native += 0 if step < 20 else MB
        holders.look(EVERY_SECONDS * step, allocators.python + allocators.native)
    assert holders.origin() == PYTHON
    assert holders.origin(since_seconds=20 * EVERY_SECONDS) == NATIVE


@pytest.mark.parametrize("readings", [0, 3])
def test_too_few_readings_tell_nothing(readings: int) -> None:
    holders = holders_of(watch_of(), Allocators())
    for step in range(readings):
        holders.look(EVERY_SECONDS * step, 100 * MB + step * MB)
    assert holders.origin() is None


def test_growth_of_the_heap_is_explained_while_the_resident_set_stands_still() -> None:
    allocators = Allocators()
    holders = holders_of(watch_of(), allocators)
    for step in range(8):
        allocators.native += MB
        holders.look(STILL_SECONDS * step, 100 * MB)
    assert holders.origin() is None
    assert holders.origin(series="heap") == NATIVE
    assert holders.span_seconds == 7 * STILL_SECONDS


@pytest.mark.parametrize(("own", "origin"), [(0, ELSEWHERE), (MB // 4, ELSEWHERE), (MB, PYTHON)])
def test_of_a_sum_over_processes_the_growth_may_be_anothers(own: int, origin: str) -> None:
    allocators = Allocators()
    holders = holders_of(watch_of(), allocators)
    for step in range(8):
        allocators.python += own
        holders.look(STILL_SECONDS * step, 100 * MB + step * own)
    assert holders.origin(series="tree", slope=MB / STILL_SECONDS) == origin


def test_memory_that_does_not_grow_has_no_origin() -> None:
    holders = holders_of(watch_of(), Allocators())
    for step in range(8):
        holders.look(STILL_SECONDS * step, 100 * MB)
    assert holders.origin() is None


def test_the_heap_is_judged_as_a_series_of_its_own() -> None:
    leaks, allocators = watch_of(), Allocators()
    holders = holders_of(leaks, allocators)
    for step in range(400):
        allocators.python += MB // 8
        holders.look(EVERY_SECONDS * step, 100 * MB)
    assert leaks.verdicts()["heap"].leaking
    assert leaks.leaking == {"heap"}


def test_the_floor_is_the_resident_set_after_full_collections() -> None:
    leaks, collections = watch_of(), GcProbe()
    collections.start()
    try:
        holders = Holders(leaks, collections, allocators=Allocators())  # type: ignore[arg-type]
        holders.look(0.0, 100 * MB)
        assert "floor" not in leaks.verdicts()
        gc.collect(1)
        holders.look(EVERY_SECONDS, 100 * MB)
        assert "floor" not in leaks.verdicts()
        for step in range(2, 5):
            gc.collect()
            holders.look(EVERY_SECONDS * step, 100 * MB)
    finally:
        collections.stop()
    assert leaks.verdicts()["floor"].sample_count == 3
    assert collections.floor_bytes > MB


def test_readings_come_as_seldom_as_they_are_dear() -> None:
    leaks, seconds, cost = watch_of(), iter(range(10_000)), 0.002
    holders = holders_of(leaks, Allocators(), clock=lambda: cost * next(seconds))
    for second in range(100):
        holders.look(float(second), 100 * MB + second)
    assert leaks.verdicts()["heap"].sample_count == 100 * SHARE_OF_A_CORE / cost


def test_the_heap_of_jemalloc_is_one_too() -> None:
    leaks, allocators = watch_of(), Allocators()
    allocators.names = {"pymalloc", "jemalloc"}
    holders_of(leaks, allocators).look(0.0, MB)
    assert "heap" in leaks.verdicts()


@pytest.mark.parametrize("names", [{"pymalloc"}, set()])
def test_without_a_malloc_that_is_read_there_is_no_heap(names: set[str]) -> None:
    leaks, allocators = watch_of(), Allocators()
    allocators.names = names
    holders_of(leaks, allocators).look(0.0, MB)
    assert "heap" not in leaks.verdicts()


def test_a_tracer_hides_the_heap_and_is_not_taken_for_a_fall() -> None:
    leaks = watch_of()
    holders = holders_of(leaks, Allocators())
    holders.look(0.0, MB)
    tracemalloc.start()
    try:
        holders.look(2 * EVERY_SECONDS, MB)
    finally:
        tracemalloc.stop()
    assert leaks.verdicts()["heap"].sample_count == 1


def test_heap_and_floor_have_metrics_while_they_leak_or_when_the_policy_says() -> None:
    for watch, expected in ((watch_of(), {"rss"}), (watch_of(series="all"), {"rss", "heap"})):
        watch.feed("rss", 0.0, MB)
        watch.feed("heap", 0.0, MB)
        assert set(watch.shown()) == expected
    leaking = watch_of()
    for step in range(400):
        leaking.feed("heap", EVERY_SECONDS * step, 10 * MB + step * MB // 8)
    assert set(leaking.shown()) == {"heap"}
