"""Tracing for a while: how long it goes on, and what it leaves."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest

from amm_exporter.probes.allocations import MOST_TRACER_BYTES, SiteTrace


@pytest.fixture
def trace() -> Iterator[SiteTrace]:
    trace = SiteTrace()
    trace.start()
    yield trace
    trace.stop()
    assert not tracemalloc.is_tracing()


class Time:
    """A clock that only sleeping moves, and what happens meanwhile."""

    def __init__(self, work: object = None) -> None:
        self.now, self.work = 100.0, work

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if callable(self.work):
            self.work()

    def clock(self) -> float:
        return self.now


@pytest.mark.parametrize("seconds", [0.0, 0.01, 2.0])
def test_a_quiet_program_is_traced_for_the_whole_time(trace: SiteTrace, seconds: float) -> None:
    time = Time()
    assert trace.wait(seconds, sleep=time.sleep, clock=time.clock) == pytest.approx(seconds)


def test_a_busy_one_until_there_is_as_much_as_can_be_read_quickly(trace: SiteTrace) -> None:
    kept: list[object] = []
    time = Time(lambda: kept.extend(object() for _ in range(20_000)))
    assert trace.wait(60.0, sleep=time.sleep, clock=time.clock) < 1.0
    assert MOST_TRACER_BYTES < tracemalloc.get_tracemalloc_memory() < 1.5 * MOST_TRACER_BYTES
    sites = trace.sites()
    assert max(sites, key=lambda site: sites[site]).startswith(__file__)


def test_a_tracer_that_ran_already_is_left_alone() -> None:
    tracemalloc.start()
    try:
        trace, time = SiteTrace(), Time()
        trace.start()
        assert trace.wait(1.0, sleep=time.sleep, clock=time.clock) == pytest.approx(1.0)
        trace.stop()
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()
