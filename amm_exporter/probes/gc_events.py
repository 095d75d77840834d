"""What the garbage collector did: counts since the process started, and each pause since the probe was started.

A gc callback may run anywhere, also while another thread's or library's lock is held, so it touches plain ints and
a bounded deque only; everything else happens in `drain`, outside.
"""

from __future__ import annotations

import gc
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from amm_exporter.errors import ProbeError
from amm_exporter.probes.late_errors import LateErrors
from amm_exporter.probes.process import ProcessProbe
from amm_exporter.probes.procfs import PROC

GENERATIONS = 3
QUEUE_LENGTH = 6144
"""Pauses of a generation kept between two drains. Young collections may come by the thousand a second: the oldest make
room, and push out no full collection, which takes as long as thousands of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GcPause:
    """One collection: how long the program stood still, and what was found."""

    generation: int
    seconds: float
    collected: int
    uncollectable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GcCounts:
    """Of one generation, since the process started (gc.get_stats)."""

    generation: int
    collections: int
    collected: int
    uncollectable: int


class GcProbe:
    """Counts need no start; pauses and freed memory are known from `start()` to `stop()`.

    `freed_bytes` is the fall of the resident set around full collections: what went back to the system at once, not
    what became free for reuse. `floor_bytes` is the resident set after the last of the `full_count` full collections.
    Several probes do not disturb each other. A forked child records on, from zero.
    """

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter, proc: Path = PROC) -> None:
        self._clock = clock
        self._process = ProcessProbe(proc=proc)
        self._pauses: tuple[deque[tuple[float, int, int]], ...] = tuple(
            deque(maxlen=QUEUE_LENGTH) for _ in range(GENERATIONS)
        )
        self._began = 0.0
        self._rss_before: int | None = None
        self._max_seconds = [0.0] * GENERATIONS
        self._pid = os.getpid()
        # one bound method for good: every access to `self._on_gc` makes a new one, equal but costly to look for
        self._callback = self._on_gc
        self._late_errors = LateErrors(GcProbe._on_gc.__code__)
        self._recorded_count = self._drained_count = 0
        self.freed_bytes = self.floor_bytes = self._full_count = 0

    @property
    def started(self) -> bool:
        return self._callback in gc.callbacks

    def start(self) -> None:
        if not self.started:
            self._began = 0.0
            gc.callbacks.append(self._callback)
            self._late_errors.start()

    def stop(self) -> None:
        """Take the callback out again; what was recorded can still be drained."""
        if self.started:
            gc.callbacks.remove(self._callback)
        self._late_errors.stop()
        self._process.close()

    def drain(self) -> list[GcPause]:
        """The pauses since the last call, by generation, oldest first; what was too many is in `dropped_count`."""
        if self._pid != os.getpid():
            self._forget_parent()
        taken = []
        for generation, pauses in enumerate(self._pauses):
            for _ in range(len(pauses)):  # bounded: collections that this very loop sets off wait for the next call
                seconds, collected, uncollectable = pauses.popleft()
                taken.append(
                    GcPause(generation=generation, seconds=seconds, collected=collected, uncollectable=uncollectable)
                )
        self._drained_count += len(taken)
        return taken

    @property
    def full_count(self) -> int:
        """Ask it before `floor_bytes`: in a forked child it begins anew, with or without a collection there."""
        if self._pid != os.getpid():
            self._forget_parent()
        return self._full_count

    @property
    def dropped_count(self) -> int:
        """Pauses that were never drained because newer ones took their place."""
        return max(0, self._recorded_count - self._drained_count - sum(map(len, self._pauses)))

    def counts(self) -> tuple[GcCounts, ...]:
        """Youngest generation first."""
        return tuple(
            GcCounts(
                generation=generation,
                collections=stats["collections"],
                collected=stats["collected"],
                uncollectable=stats["uncollectable"],
            )
            for generation, stats in enumerate(gc.get_stats())
        )

    def max_pause_seconds(self, generation: int) -> float:
        """The longest pause since the start of the probe; 0.0 before the first."""
        return self._max_seconds[generation]

    def _on_gc(self, phase: str, info: dict[str, int]) -> None:
        generation = info["generation"]
        if phase == "start":
            if generation == 2:
                self._rss_before = self._rss()
            self._began = self._clock()
            return
        seconds = self._clock() - self._began
        if not self._began:
            return  # started in the middle of a collection
        if self._pid != os.getpid():
            self._forget_parent()
        self._pauses[generation].append((seconds, info["collected"], info["uncollectable"]))
        self._recorded_count += 1
        if seconds > self._max_seconds[generation]:
            self._max_seconds[generation] = seconds
        if generation == 2 and self._rss_before is not None:
            after = self._rss()
            if after is not None:
                self.freed_bytes += max(0, self._rss_before - after)
                self.floor_bytes = after
                self._full_count += 1

    def _rss(self) -> int | None:
        """5 us twice a full collection, which itself takes a thousand times that; None where it cannot be read."""
        try:
            return self._process.rss_bytes()
        except ProbeError:
            return None

    def _forget_parent(self) -> None:
        """In a forked child: what the parent recorded is the parent's."""
        for pauses in self._pauses:
            pauses.clear()
        self._max_seconds = [0.0] * GENERATIONS
        self._recorded_count = self._drained_count = 0
        self.freed_bytes = self.floor_bytes = self._full_count = 0
        self._pid = os.getpid()
