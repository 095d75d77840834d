"""Who holds the memory that a process has: Python's objects, malloc, or an allocator's free space. Now, and over time.

Two more series for the leak watch: `heap`, bytes in use by pymalloc and malloc, and `floor`, the resident set right
after each full collection. And from the last readings whose growth a leak is, the moment it is found.
"""

from __future__ import annotations

import time
from _tracemalloc import is_tracing  # the module around it imports pickle: 2 ms
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from amm_exporter.analysis.growth import ELSEWHERE, SHARE, GrowthTable, origin
from amm_exporter.control.leak_watch import LeakWatch
from amm_exporter.probes.allocator import AllocatorProbe
from amm_exporter.probes.gc_events import GcProbe

EVERY_SECONDS = 5.0
STILL_SECONDS = 30.0
"""While the resident set stays what it was: what is in use may grow within it, but not far."""
SHARE_OF_A_CORE = 1 / 10_000
"""What reading the allocators may cost: 55 us in a young heap, but 20 ms at 10 GB of small objects, then each 200 s."""
SUMMED = ("tree", "cgroup")
"""Series that other processes have a part in."""
MOST_KEPT, FEWEST = 120, 4
"""Readings: ten minutes of them; and how many say something about growth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One reading: what is resident, what is in use by Python's allocator and by malloc, and what is free in both."""

    t_seconds: float
    resident_bytes: int
    python_bytes: int
    native_bytes: int
    free_bytes: int

    @property
    def heap_bytes(self) -> int:
        return self.python_bytes + self.native_bytes


class Holders:
    """Follows the own process: `look` now and then, then ask `origin`."""

    def __init__(
        self,
        leaks: LeakWatch,
        collections: GcProbe,
        *,
        allocators: AllocatorProbe | None = None,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self.leaks = leaks
        self._collections = collections
        self._allocators = allocators or AllocatorProbe()
        self._clock = clock
        self._readings: deque[Held] = deque(maxlen=MOST_KEPT)
        self._not_before = self._no_floor_before = self._still_until = float("-inf")
        self._resident_bytes = 0
        self._full_count = collections.full_count

    def look(self, t_seconds: float, resident_bytes: int) -> None:
        """Take what is due, and feed it to the leak watch."""
        self._feed_floor(t_seconds)
        if t_seconds < self._not_before or (resident_bytes == self._resident_bytes and t_seconds < self._still_until):
            return
        began = self._clock()
        held = self._read(t_seconds, resident_bytes)
        cost_seconds = self._clock() - began
        self._not_before = t_seconds + max(EVERY_SECONDS, cost_seconds / SHARE_OF_A_CORE)
        if held is not None:
            self._resident_bytes, self._still_until = resident_bytes, t_seconds + STILL_SECONDS
            self._readings.append(held)
            self.leaks.feed("heap", t_seconds, held.heap_bytes)

    @property
    def span_seconds(self) -> float:
        """How far back the readings reach."""
        kept = list(self._readings)
        return kept[-1].t_seconds - kept[0].t_seconds if kept else 0.0

    def origin(self, since_seconds: float | None = None, *, series: str = "rss", slope: float = 0.0) -> str | None:
        """Whose a series' growth is since then (one of `analysis.growth`); None where too little was read to tell.

        `slope` is the series' own, which of a sum over processes may be another's.
        """
        kept = list(self._readings)
        readings = [held for held in kept if since_seconds is None or held.t_seconds >= since_seconds]
        if len(readings) < FEWEST:
            readings = kept[-FEWEST:]
        if len(readings) < FEWEST:
            return None
        table = GrowthTable()
        for held in readings:
            parts = {"python": held.python_bytes, "native": held.native_bytes, "free": held.free_bytes}
            table.add(held.t_seconds, {"resident": held.resident_bytes, "heap": held.heap_bytes, **parts})
        whole = table.growth("heap" if series == "heap" else "resident")
        if whole is None:
            return None
        if series in SUMMED and whole.slope < SHARE * slope:
            return ELSEWHERE
        if whole.slope <= 0.0:
            return None
        return origin(whole, table.growth("python"), table.growth("native"), table.growth("free"))

    def _feed_floor(self, t_seconds: float) -> None:
        """Of a program that collects many times a second, one floor each EVERY_SECONDS."""
        collections = self._collections
        if collections.full_count == self._full_count or t_seconds < self._no_floor_before:
            return
        self._full_count, self._no_floor_before = collections.full_count, t_seconds + EVERY_SECONDS
        self.leaks.feed("floor", t_seconds, collections.floor_bytes)

    def _read(self, t_seconds: float, resident_bytes: int) -> Held | None:
        """None where it cannot be told: malloc is neither's that is read, or a tracer stands before pymalloc and hides
        it."""
        if is_tracing():
            return None
        read = {memory.allocator: memory for memory in self._allocators.read()}
        malloc = read.get("glibc") or read.get("jemalloc")
        if malloc is None:
            return None
        python = read.get("pymalloc")  # absent with PYTHONMALLOC=malloc: all is malloc's then
        return Held(
            t_seconds=t_seconds,
            resident_bytes=resident_bytes,
            python_bytes=python.used_bytes if python else 0,
            native_bytes=malloc.used_bytes,
            free_bytes=sum(memory.free_bytes for memory in read.values()),
        )
