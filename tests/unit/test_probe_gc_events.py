"""The collector as it is: every test runs real collections."""

from __future__ import annotations

import gc
import mmap
import os
import threading
from collections.abc import Iterator

import pytest
from probe_trees import open_fds

from amm_exporter.probes.gc_events import QUEUE_LENGTH, GcProbe


@pytest.fixture
def quiet_gc() -> Iterator[None]:
    """No collection but those that a test asks for."""
    enabled = gc.isenabled()
    gc.disable()
    yield
    if enabled:
        gc.enable()


@pytest.fixture
def probe(quiet_gc: None) -> Iterator[GcProbe]:
    probe = GcProbe()
    probe.start()
    yield probe
    probe.stop()


def make_cycles(count: int) -> None:
    for _ in range(count):
        cycle: list[object] = []
        cycle.append(cycle)


def test_each_collection_is_one_pause_with_its_generation(probe: GcProbe) -> None:
    for generation in (0, 1, 2, 0):
        gc.collect(generation)
    assert [pause.generation for pause in probe.drain()] == [0, 0, 1, 2]


def test_a_drained_pause_is_not_told_again(probe: GcProbe) -> None:
    gc.collect(0)
    assert len(probe.drain()) == 1
    assert probe.drain() == []


def test_what_was_found_is_told(probe: GcProbe) -> None:
    gc.collect()
    probe.drain()
    make_cycles(50)
    gc.collect()
    assert probe.drain()[0].collected == 50


def test_a_pause_is_as_long_as_the_clock_says(quiet_gc: None) -> None:
    times = iter([10.0, 10.25, 20.0, 20.1])
    probe = GcProbe(clock=lambda: next(times))
    probe.start()
    gc.collect(1)
    gc.collect(1)
    probe.stop()
    assert [pause.seconds for pause in probe.drain()] == [0.25, pytest.approx(0.1)]
    assert (probe.max_pause_seconds(1), probe.max_pause_seconds(0)) == (0.25, 0.0)


def test_nothing_is_recorded_after_stop_and_what_was_can_still_be_drained(probe: GcProbe) -> None:
    gc.collect(0)
    probe.stop()
    gc.collect(0)
    assert len(probe.drain()) == 1


def test_start_and_stop_twice_leave_the_callbacks_as_they_were(quiet_gc: None) -> None:
    before = list(gc.callbacks)
    probe = GcProbe()
    probe.start()
    probe.start()
    assert len(gc.callbacks) == len(before) + 1
    probe.stop()
    probe.stop()
    assert gc.callbacks == before


def test_two_probes_do_not_disturb_each_other(probe: GcProbe) -> None:
    other = GcProbe()
    other.start()
    gc.collect(0)
    other.stop()
    gc.collect(0)
    assert (len(probe.drain()), len(other.drain())) == (2, 1)


@pytest.mark.parametrize(("collections", "dropped"), [(QUEUE_LENGTH - 1, 0), (QUEUE_LENGTH, 0), (QUEUE_LENGTH + 1, 1)])
def test_the_queue_is_bounded_and_the_overflow_counted(probe: GcProbe, collections: int, dropped: int) -> None:
    for _ in range(collections):
        gc.collect(0)
    assert probe.dropped_count == dropped
    assert len(probe.drain()) == min(collections, QUEUE_LENGTH)
    assert probe.dropped_count == dropped


def test_young_collections_push_out_no_full_one(probe: GcProbe) -> None:
    gc.collect(2)
    for _ in range(QUEUE_LENGTH + 1):
        gc.collect(0)
    assert [pause.generation for pause in probe.drain()].count(2) == 1


def test_counts_are_those_of_the_interpreter_since_it_started() -> None:
    before = GcProbe().counts()
    gc.collect(2)
    after = GcProbe().counts()
    assert [count.generation for count in after] == [0, 1, 2]
    assert after[2].collections == before[2].collections + 1


def test_memory_given_back_by_a_full_collection_is_counted(probe: GcProbe) -> None:
    """Cycles that own mappings, which are unmapped with them."""
    for _ in range(20):
        block = mmap.mmap(-1, 1 << 20)
        block.write(b"x" * len(block))
        cycle: list[object] = [block]
        cycle.append(cycle)
    del cycle, block
    gc.collect()
    assert 15 << 20 <= probe.freed_bytes <= 40 << 20


def test_a_collection_that_was_under_way_at_the_start_is_not_a_pause(quiet_gc: None) -> None:
    probe = GcProbe()
    probe._callback("stop", {"generation": 0, "collected": 0, "uncollectable": 0})
    assert probe.drain() == []


def test_a_forked_child_records_its_own_pauses_only(probe: GcProbe) -> None:
    gc.collect(0)
    gc.collect(0)
    pid = os.fork()
    if pid == 0:
        gc.collect(1)
        pauses = probe.drain()
        os._exit(0 if [pause.generation for pause in pauses] == [1] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(probe.drain()) == 2


def test_a_forked_child_has_no_full_collection_before_its_first(probe: GcProbe) -> None:
    """Else its floor would be told as 0, once its count is found to have changed."""
    gc.collect(2)
    pid = os.fork()
    if pid == 0:
        counts = [probe.full_count]
        for generation in (0, 2):
            gc.collect(generation)
            counts.append(probe.full_count)
        os._exit(0 if counts == [0, 0, 1] and probe.floor_bytes > 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert probe.full_count == 1


def test_no_descriptor_is_left(quiet_gc: None) -> None:
    before = open_fds()
    probe = GcProbe()
    probe.start()
    gc.collect()
    probe.stop()
    assert open_fds() == before


def test_no_collection_is_lost_while_threads_collect_and_one_drains(quiet_gc: None) -> None:
    """The interpreter's own count is the witness: drained and dropped pauses together are all collections."""
    probe, done, drained = GcProbe(), threading.Event(), [0]

    def drain() -> None:
        while not done.is_set():
            drained[0] += len(probe.drain())

    def collect() -> None:
        for step in range(5_000):
            make_cycles(3)
            gc.collect(step % 2)

    before = sum(count.collections for count in probe.counts())
    probe.start()
    drainer = threading.Thread(target=drain)
    collectors = [threading.Thread(target=collect) for _ in range(2)]
    for thread in (drainer, *collectors):
        thread.start()
    for thread in collectors:
        thread.join()
    done.set()
    drainer.join()
    probe.stop()
    made = sum(count.collections for count in probe.counts()) - before
    assert drained[0] + len(probe.drain()) + probe.dropped_count == made
    assert 0 < made <= 10_000  # those that meet another's are none of their own, and that may be many
