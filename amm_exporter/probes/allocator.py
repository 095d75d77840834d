"""What the allocators under Python hold, and how much of that is free: pymalloc's arenas and malloc's heap.

The two are apart: pymalloc maps its arenas itself and serves objects of up to 512 bytes, malloc serves the rest and C
libraries. Free memory inside an allocator is not lost, the program's next objects go there; but it counts in the
resident set, and when it stays high after `trim`, single live objects pin it: fragmentation.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from amm_exporter.errors import ProbeError
from amm_exporter.probes.mallinfo import glibc_mallinfo
from amm_exporter.probes.procfs import PROC, read_once

PRELOADABLE = ("jemalloc", "mimalloc", "tcmalloc")
SHARE_OF_A_CORE = 1 / 500
"""What reading may cost. It is not always cheap: pymalloc's takes 2 us an arena, with the GIL held (20 ms at 10 GB);
mallinfo2 0.4 us in a young heap, but it walks all free chunks with malloc's lock held (15 ms at a million of them)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatorMemory:
    """One allocator. `held_bytes` were taken from the system; `free_bytes` of them serve no object now.

    pymalloc: arenas; free is what its pools, used and unused, could hand out. glibc: heap and large mappings; free is
    what lies between chunks in use, also where a trim has given the pages back already. jemalloc: resident pages.
    """

    allocator: str
    held_bytes: int
    free_bytes: int

    @property
    def used_bytes(self) -> int:
        return self.held_bytes - self.free_bytes

    @property
    def fragmentation_ratio(self) -> float:
        """Free over held; 0.0 where nothing is held."""
        return self.free_bytes / self.held_bytes if self.held_bytes else 0.0


class AllocatorProbe:
    """The allocators that can be read here. `preloaded` names a malloc in glibc's place; of those jemalloc is read."""

    def __init__(self, *, proc: Path = PROC, clock: Callable[[], float] = time.perf_counter) -> None:
        self.preloaded = preloaded_allocators(proc)
        readers = [pymalloc_reader(), jemalloc_reader() if self.preloaded else glibc_reader()]
        self._readers = [PacedReader(read, clock) for read in readers if read]

    def read(self) -> tuple[AllocatorMemory, ...]:
        """pymalloc and malloc, as far as they can be read; in large heaps a reading may be some seconds old."""
        found = [reader.read() for reader in self._readers]
        return tuple(memory for memory in found if memory)


class PacedReader:
    """Reads again only when the last reading's cost has spread to a small share of the time since, and in a fork."""

    def __init__(self, read: Callable[[], AllocatorMemory | None], clock: Callable[[], float]) -> None:
        self._read = read
        self._clock = clock
        self._last: AllocatorMemory | None = None
        self._not_before = float("-inf")
        self._pid = os.getpid()

    def read(self) -> AllocatorMemory | None:
        start = self._clock()
        if start >= self._not_before or self._pid != os.getpid():
            self._pid = os.getpid()
            self._last = self._read()
            self._not_before = start + (self._clock() - start) / SHARE_OF_A_CORE
        return self._last


def preloaded_allocators(proc: Path = PROC) -> tuple[str, ...]:
    """The malloc that stands in glibc's place, by the name of the library that its code is mapped from.

    Not any that is loaded: extension modules bring one for themselves, beside glibc's.
    """
    try:
        maps = read_once(proc / "self" / "maps").decode(errors="replace")
    except ProbeError:
        return ()
    address = ctypes.cast(ctypes.CDLL(None).malloc, ctypes.c_void_p).value or 0
    file = next((line.rpartition("/")[2] for line in maps.splitlines() if "/" in line and covers(line, address)), "")
    return tuple(name for name in PRELOADABLE if file.startswith(f"lib{name}"))


def covers(line: str, address: int) -> bool:
    """Whether a line of /proc/<pid>/maps, `start-end ...`, is of the mapping around an address."""
    start, _, end = line.partition(" ")[0].partition("-")
    return int(start, 16) <= address < int(end, 16)


def glibc_reader() -> Callable[[], AllocatorMemory | None] | None:
    """A function that reads glibc's malloc; None where `glibc_mallinfo` is none."""
    mallinfo2 = glibc_mallinfo()
    if mallinfo2 is None:
        return None

    def read() -> AllocatorMemory:
        info = mallinfo2()
        return AllocatorMemory(
            allocator="glibc", held_bytes=info.arena + info.hblkhd, free_bytes=min(info.fordblks, info.arena)
        )

    return read


def jemalloc_reader() -> Callable[[], AllocatorMemory | None] | None:
    """A function that reads jemalloc (jemalloc(3), MALLCTL NAMESPACE); None where it is not in malloc's place."""
    mallctl = getattr(ctypes.CDLL(None), "mallctl", None)
    if mallctl is None:
        return None

    def number(name: bytes) -> int:
        value, size = ctypes.c_size_t(), ctypes.c_size_t(ctypes.sizeof(ctypes.c_size_t))
        failed = mallctl(name, ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0))
        return 0 if failed else value.value  # it may have been built without statistics

    def read() -> AllocatorMemory | None:
        epoch = ctypes.c_uint64(1)  # writing it brings the statistics up to date
        mallctl(b"epoch", None, None, ctypes.byref(epoch), ctypes.c_size_t(ctypes.sizeof(epoch)))
        held, used = number(b"stats.resident"), number(b"stats.allocated")
        return AllocatorMemory(allocator="jemalloc", held_bytes=held, free_bytes=max(0, held - used)) if held else None

    return read


def pymalloc_reader() -> Callable[[], AllocatorMemory | None] | None:
    """A function that reads pymalloc; None where CPython does not export its statistics."""
    if sys.implementation.name != "cpython" or not sys.platform.startswith("linux"):
        return None
    try:
        statistics = ctypes.pythonapi._PyObject_DebugMallocStats
        library = ctypes.PyDLL(None)
        open_memstream, fclose, free = library.open_memstream, library.fclose, library.free
    except (AttributeError, OSError):
        return None
    open_memstream.restype = ctypes.c_void_p
    open_memstream.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    for function in (statistics, fclose, free):
        function.argtypes = (ctypes.c_void_p,)

    def read() -> AllocatorMemory | None:
        """The report of sys._debugmallocstats, which writes to stderr for all to see, written to a stream in memory."""
        text, size = ctypes.c_void_p(), ctypes.c_size_t()
        stream = open_memstream(ctypes.byref(text), ctypes.byref(size))
        if not stream:
            return None
        try:
            statistics(stream)
        finally:
            fclose(stream)
            report = ctypes.string_at(text, size.value).decode("ascii", "replace") if text.value else ""
            free(text)
        return parse_pymalloc(report)

    return read


def parse_pymalloc(report: str) -> AllocatorMemory | None:
    """Arenas, and the free blocks and unused pools in them; None for a report without arenas (PYTHONMALLOC=malloc)."""
    total = _amount(report, "bytes/arena")
    available = _amount(report, "# bytes in available blocks")
    unused = _amount(report, " unused pools * ")
    if total is None or available is None or unused is None:
        return None
    return AllocatorMemory(allocator="pymalloc", held_bytes=total, free_bytes=min(total, available + unused))


def _amount(report: str, label: str) -> int | None:
    """The number at the end of the line that has this label: `... = 1,048,576`. Sought by hand in 5 us for all three,
    where regular expressions take 60."""
    number = report.partition(label)[2].partition("\n")[0].rpartition("=")[2].replace(",", "").strip()
    return int(number) if number.isdecimal() else None
