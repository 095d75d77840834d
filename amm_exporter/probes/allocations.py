"""What is in use now, to the byte: by Python's objects, by malloc, and resident. For leak gates and growth by name.

The resident set moves in pages, arenas and heap tops and hides small leaks for long: blocks that imports have freed are
used up first. What the allocators handed out shows them at once. Reading takes about a millisecond: for windows and
gates, not for every sample; periodic figures are `allocator`'s.
"""

from __future__ import annotations

import gc
import os
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from amm_exporter.probes.allocator import AllocatorMemory, glibc_reader, preloaded_allocators, pymalloc_reader
from amm_exporter.probes.objects import type_name
from amm_exporter.probes.process import ProcessProbe
from amm_exporter.probes.procfs import PROC

PYTHON, NATIVE, RESIDENT = "python", "native", "resident"
MOST_TRACER_BYTES = 5_300_000
"""Of the tracer's own: 100,000 traces of 53 bytes. To read them stops the program for 30 to 80 ms."""
LOOK_SECONDS = 0.02
_OWN = str(Path(__file__).parents[1]) + os.sep
"""Where AMM's own lines are: nobody looks for those."""
_COMMAND = _OWN + "cli" + os.sep
"""Except for the command's: the job of its demo is a program like any other."""
BLOCK_BYTES = 64
"""What a pymalloc block is taken for where its bytes cannot be read."""


class InUse:
    """Bytes in use by measure: `python` (pymalloc), `native` (malloc), `resident` (the process)."""

    def __init__(self, *, proc: Path = PROC) -> None:
        self._process = ProcessProbe(proc=proc)
        self._python = pymalloc_reader()
        self._native: Callable[[], AllocatorMemory | None] | None = (
            None if preloaded_allocators(proc) else glibc_reader()
        )

    def read(self) -> dict[str, int]:
        """A reading of each measure that exists here."""
        found = {PYTHON: self._python_bytes()}
        native = self._native() if self._native else None
        if native:
            found[NATIVE] = native.used_bytes
        found[RESIDENT] = self._process.rss_bytes()
        return found

    def close(self) -> None:
        self._process.close()

    def _python_bytes(self) -> int:
        memory = self._python() if self._python else None
        return memory.used_bytes if memory else sys.getallocatedblocks() * BLOCK_BYTES


def collected_types() -> Counter[str]:
    """Live objects that the collector tracks, by type. Walks them all (8 ms for 0.9 million)."""
    return Counter(type_name(type(obj)) for obj in gc.get_objects())


class SiteTrace:
    """Traced memory by line of code, between `start` and `stop`. Leaves a tracer that already ran as it was."""

    def __init__(self, *, frames: int = 1) -> None:
        self._frames = frames
        self._mine = False

    def start(self) -> None:
        if not tracemalloc.is_tracing():
            tracemalloc.start(self._frames)
            self._mine = True

    def stop(self) -> None:
        if self._mine:
            tracemalloc.stop()
            self._mine = False

    def wait(
        self,
        seconds: float,
        *,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> float:
        """Let the program run for so long, or until there are as many traces as can be read quickly; seconds passed."""
        begun = clock()
        while (passed := clock() - begun) < seconds:
            if self._mine and tracemalloc.get_tracemalloc_memory() > MOST_TRACER_BYTES:
                break
            sleep(min(LOOK_SECONDS, seconds - passed))
        return passed

    @staticmethod
    def tracer_bytes() -> int:
        """What the tracer itself takes."""
        return tracemalloc.get_tracemalloc_memory()

    @staticmethod
    def sites() -> dict[str, float]:
        """Bytes by `file:line`; empty when nothing is traced."""
        return {f"{site}:{line}": float(size) for (site, line), size in _sizes().items()}


def _sizes() -> Counter[tuple[str, int]]:
    sizes: Counter[tuple[str, int]] = Counter()
    if tracemalloc.is_tracing():
        own = (tracemalloc.__file__, _OWN)
        for group in tracemalloc.take_snapshot().statistics("lineno"):  # each trace by itself takes three times as long
            frame = group.traceback[0]
            if frame.filename.startswith(_COMMAND) or not frame.filename.startswith(own):
                sizes[frame.filename, frame.lineno] = group.size
    return sizes
