"""Measuring one stretch of the own process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from amm_exporter.probes.mallinfo import Mallinfo2
from pytest_amm.meter import Meter, SampledMark
from pytest_amm.slack import FreeHeap

MB = 1 << 20


@pytest.fixture
def meter() -> Meter:
    return Meter()


def test_a_short_spike_is_seen_to_the_megabyte(meter: Meter) -> None:
    meter.start()
    spike = bytearray(64 * MB)
    del spike
    span = meter.stop()
    assert abs(span.peak_bytes - span.start_bytes - 64 * MB) <= MB
    assert span.end_bytes - span.start_bytes <= MB


def test_a_stretch_forgets_the_one_before(meter: Meter) -> None:
    meter.start()
    spike = bytearray(64 * MB)
    del spike
    meter.stop()
    meter.start()
    span = meter.stop()
    assert span.peak_bytes - span.start_bytes <= MB
    assert meter.session_peak_bytes - span.peak_bytes > 60 * MB


class CountedMark:
    """Tells what it is given, and how often it was reset."""

    def __init__(self) -> None:
        self.values = (10 * MB, 10 * MB)
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def read(self) -> tuple[int, int]:
        return self.values

    def rss_bytes(self) -> int:
        return self.values[1]

    def close(self) -> None: ...


@pytest.mark.parametrize(("peak_bytes", "resets"), [(20 * MB, 0), (20 * MB + 1, 1)])
def test_a_mark_is_reset_again_only_if_it_lies_above_what_is_resident(peak_bytes: int, resets: int) -> None:
    mark = CountedMark()
    meter = Meter(mark=mark)
    meter.start()
    mark.resets, mark.values = 0, (peak_bytes, 20 * MB)
    meter.look()
    meter.go_on_at_once()
    assert mark.resets == resets
    assert meter.look()[0] == 20 * MB


def test_a_mark_below_what_was_inherited_at_exec_is_told_too() -> None:
    """A child of a big process begins with its parent's ru_maxrss, which getrusage tells it for ever."""
    code = (
        "from pytest_amm.meter import Meter\n"
        "meter = Meter()\n"
        "meter.start()\n"
        "spike = bytearray(32 << 20)\n"
        "del spike\n"
        "span = meter.stop()\n"
        "print(span.peak_bytes - span.start_bytes >> 20)\n"
    )
    big = bytearray(128 * MB)
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert len(big) == 128 * MB
    assert int(output) in (31, 32)


def test_a_test_may_close_what_it_does_not_know(meter: Meter) -> None:
    """As a daemon does; here the numbers go to another file at once, which must not be taken for the kernel's."""
    before = set(os.listdir("/proc/self/fd"))
    other = Meter()
    other.start()
    opened = [int(fd) for fd in set(os.listdir("/proc/self/fd")) - before if os.path.exists(f"/proc/self/fd/{fd}")]
    with open(os.devnull) as null:
        for fd in opened:
            os.dup2(null.fileno(), fd)
        assert other.stop().end_bytes > MB
    for fd in opened:
        os.close(fd)
    other.start()
    assert other.stop().end_bytes > MB
    other.close()


def test_a_forked_child_measures_itself(meter: Meter) -> None:
    meter.start()
    before_bytes = meter.rss_bytes()
    pid = os.fork()
    if pid == 0:
        kept = bytearray(64 * MB)
        os._exit(0 if meter.stop().end_bytes - before_bytes > 32 * MB and kept else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert meter.stop().peak_bytes - before_bytes < 32 * MB


def test_close_gives_the_descriptors_back() -> None:
    before = len(os.listdir("/proc/self/fd"))
    meter = Meter()
    meter.start()
    spike = bytearray(MB)
    del spike
    meter.stop()
    assert len(os.listdir("/proc/self/fd")) > before
    meter.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_without_a_kernel_mark_a_thread_samples_and_says_so() -> None:
    level = [10 * MB]
    looked = threading.Semaphore(0)

    def read() -> int:
        looked.release()
        return level[0]

    meter = Meter(mark=SampledMark(read, interval_seconds=0.001), session_peak_bytes=1)
    try:
        meter.start()
        level[0] = 900 * MB
        while looked.acquire(blocking=False):
            pass  # looks at what was before
        for _ in range(2):
            looked.acquire()  # the second one comes after the first one's reading was kept
        level[0] = 10 * MB
        assert meter.stop().peak_bytes == 900 * MB
        assert not meter.exact
    finally:
        meter.close()
    assert "amm-sampled-mark" not in {thread.name for thread in threading.enumerate()}


def test_the_meter_of_a_run_within_a_run_tells_the_outer_one(meter: Meter) -> None:
    meter.claim()
    inner = Meter()
    inner.claim()
    try:
        meter.start()
        spike = b"1" * (64 * MB)
        del spike
        inner.start()
        inner.stop()
        span = meter.stop()
    finally:
        inner.close()
        meter.close()
    assert abs(span.peak_bytes - span.start_bytes - 64 * MB) <= MB
    assert Meter._owners == []


def test_the_free_heap_is_no_more_than_what_is_resident_beside_what_is_used() -> None:
    heap = FreeHeap(mallinfo=lambda: Mallinfo2(fordblks=100 * MB, uordblks=30 * MB), clock=lambda: 0.0)
    assert heap.read_bytes(200 * MB, 0.0) == 100 * MB
    heap = FreeHeap(mallinfo=lambda: Mallinfo2(fordblks=100 * MB, uordblks=30 * MB), clock=lambda: 0.0)
    assert heap.read_bytes(50 * MB, 0.0) == 20 * MB, "the rest was given back to the system"


def test_a_costly_reading_of_the_free_heap_is_not_repeated_soon() -> None:
    now = [0.0]
    readings = []

    def mallinfo() -> Mallinfo2:
        now[0] += 0.010
        readings.append(now[0])
        return Mallinfo2(fordblks=len(readings))

    heap = FreeHeap(mallinfo=mallinfo, clock=lambda: now[0])
    assert heap.read_bytes(MB, now[0]) == 1
    now[0] = 0.9
    assert heap.read_bytes(9 * MB, now[0]) == 1
    now[0] = 1.1
    assert heap.read_bytes(9 * MB, now[0]) == 2


def test_the_free_heap_is_read_more_often_where_what_is_resident_moves() -> None:
    readings: list[int] = []

    def mallinfo() -> Mallinfo2:
        readings.append(0)
        return Mallinfo2(fordblks=len(readings))

    heap = FreeHeap(mallinfo=mallinfo, clock=lambda: 0.0)
    found = [heap.read_bytes(rss_mb * MB, ms / 1e3) for rss_mb, ms in ((9, 0), (9, 49), (9, 51), (12, 51.5), (12, 53))]
    assert found == [1, 1, 2, 2, 3]
