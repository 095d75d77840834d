"""What of a runaway is the machine's: the pages it has at hand, and when a process tree grew, seen from outside.

A virtual machine gives free pages back to its host (virtio_balloon's free page reporting: blocks of 2 MB or more, two
seconds after they came free), and the host takes four times as long to provide one again as the guest to hand it out.
"""

from __future__ import annotations

import mmap
import os
import statistics
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from pytest_amm.proctree import Tree

MB = 1 << 20
STEP = """
import sys, time
x = []
for _ in range(int(sys.argv[1])):
    began = time.perf_counter()
    x.append(b'1' * (50 << 20))
    print(time.perf_counter() - began)
"""
LOOK_SECONDS = 0.001
REPORT_BYTES = 3 * MB
"""What the report of a failure may take while all that the test took is still there: 2 MB where a thread failed."""


class Pages:
    """Keeps free pages with the guest while it lives: one of 64 is held, so that no free block becomes large enough to
    be given back. `fill` has as many provided as others may have taken meanwhile.
    """

    def __init__(self, size_mb: int) -> None:
        self._map = _filled(min(size_mb, _available_mb() // 4))
        for start in range(0, len(self._map), 64 * mmap.PAGESIZE):
            self._map.madvise(mmap.MADV_DONTNEED, start + mmap.PAGESIZE, 63 * mmap.PAGESIZE)

    def fill(self, size_mb: int) -> None:
        _filled(size_mb).close()

    def close(self) -> None:
        self._map.close()


def _filled(size_mb: int) -> mmap.mmap:
    return mmap.mmap(-1, size_mb * MB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)


def _available_mb() -> int:
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) >> 10 for line in file if line.startswith("MemAvailable"))


def step_seconds(python: str, count: int) -> list[float]:
    """What each of so many C calls takes that fill 50 MB, in a process alone."""
    command = [python, "-I", "-S", "-c", STEP, str(count)]
    return [float(line) for line in subprocess.run(command, capture_output=True, check=True).stdout.split()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """From the first look that saw the tree over its budget to the last that saw the test grow."""

    crossed: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.crossed

    def after(self, ends: Iterable[float]) -> float:
        """How long it went on after the call under way had ended; all of it where no end of a call was noted."""
        under_way = min((end for end in ends if end >= self.crossed), default=self.crossed)
        return max(0.0, self.ended - under_way)


def growth_of(process: subprocess.Popen[bytes], budget_bytes: int, timeout_seconds: float) -> Growth | None:
    """Looks at the tree of a process until it ends; None where it stayed within the budget."""
    until = time.monotonic() + timeout_seconds
    rises: list[tuple[float, int]] = []
    most_bytes = budget_bytes
    with closing(Tree(process.pid)) as tree, _punctual():
        while tree.refresh() and time.monotonic() < until:
            tree_bytes = sum(each.counted_bytes() for each in tree.members.values() if not _left(each.pid))
            if tree_bytes > most_bytes:
                most_bytes = tree_bytes
                rises.append((time.monotonic(), tree_bytes))
            time.sleep(LOOK_SECONDS)
    ended = next((now for now, rose_bytes in rises if rose_bytes >= most_bytes - REPORT_BYTES), 0.0)
    return Growth(crossed=rises[0][0], ended=ended) if rises else None


def _left(pid: int) -> bool:
    """Whether it has left the family, as the watchdog does when it has started, or has ended."""
    try:
        return os.getsid(pid) != os.getsid(0)
    except ProcessLookupError:
        return True


@contextmanager
def _punctual() -> Iterator[None]:
    """Before other processes, where that is allowed, as the watchdog is."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def milliseconds(times: list[float]) -> str:
    """Median and worst."""
    return f"{statistics.median(times) * 1000:>4.0f} / {max(times) * 1000:>3.0f} ms" if times else "-"
