"""The pools of CPython's small-object allocator (pymalloc), read from the process's own memory, a sample at a time.

pymalloc keeps blocks of up to 512 bytes in pools of 16 KiB, the pools in arenas of 1 MiB (Objects/obmalloc.c, the same
from 3.10 to 3.13 on 64-bit machines; another layout is found out by `objects.why_unavailable`). Each header tells how
large a pool's blocks are and how many are in use. To read a random sample of pools takes the same few milliseconds
whatever the heap holds, takes no lock and stops no other thread; `gc.get_objects` walks everything with the GIL held.

Memory is read by pread of /proc/self/mem, which fails cleanly on an address that has just been unmapped. It is called
by ctypes with the GIL kept: os.pread would give it away for each pool, to wait 5 ms for it each time in a busy program.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import random
import struct
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from amm_exporter.probes.procfs import PROC, read_once, unreadable

POOL_BYTES = 16384
ARENA_BYTES = 1 << 20
HEADER = struct.Struct("=IIQQQIIII")
"""struct pool_header: blocks in use, padding, first free block, next and previous pool, arena, size class, the offset
where the next new block starts, the largest such offset."""
SIZE_CLASSES = 32
ALIGNMENT_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """One pool: its blocks are `block_bytes` long, `used_count` of them in use, `carved_count` ever handed out."""

    address: int
    block_bytes: int
    used_count: int
    carved_count: int
    free_block: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSample:
    """How many places for pools there are, and how many were looked at: what was found stands for `scale` times it."""

    slots_count: int
    seen_count: int

    @property
    def scale(self) -> float:
        return self.slots_count / self.seen_count if self.seen_count else 0.0


@functools.lru_cache(maxsize=1)
def _pread_with_gil() -> Callable[..., int]:
    """pread(2). Kept, since ctypes makes two classes for each library object, which only the collector takes away."""
    pread = ctypes.PyDLL(None).pread
    pread.restype = ctypes.c_ssize_t
    pread.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64)
    return pread


class OwnMemory:
    """The own address space, read into one buffer. Raises ProbeError where a process may not (made undumpable, say)."""

    def __init__(self, proc: Path = PROC) -> None:
        path = proc / "self" / "mem"
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise unreadable(path, error) from error
        self._buffer = ctypes.create_string_buffer(POOL_BYTES)
        self.words = memoryview(self._buffer).cast("B").cast("Q")
        self._pread = _pread_with_gil()

    def pool_at(self, address: int) -> Pool | None:
        """The pool that starts there, its content in `words`; None where there is none, or one without used blocks."""
        if not self._read(address, HEADER.size) or parse_header(address, self._buffer) is None:
            return None
        if not self._read(address, POOL_BYTES):
            return None
        return parse_header(address, self._buffer)  # again: it may have changed between the two reads

    def close(self) -> None:
        os.close(self._fd)

    def _read(self, address: int, size: int) -> bool:
        """False for what was unmapped since the map was read, and for guard pages."""
        return bool(self._pread(self._fd, self._buffer, size, address) == size)


class PoolReader:
    """Reads pools of the own process in random order until a time is up.

    Its random numbers are its own: a program's seed stays untouched. A pool in swap is read back in by the kernel, at
    most as many as fit into the time.
    """

    def __init__(self, *, proc: Path = PROC, clock: Callable[[], float] = time.perf_counter) -> None:
        self._proc = proc
        self._clock = clock
        self._random = random.Random()
        self.sample = PoolSample(slots_count=0, seen_count=0)

    def pools(self, seconds: float) -> Iterator[tuple[Pool, memoryview]]:
        """Pools with their 16 KiB as 2,048 words, good until the next; `sample` then tells what they stand for.

        Raises ProbeError where the own memory may not be read.
        """
        deadline = self._clock() + seconds
        slots = SlotMap(read_once(self._proc / "self" / "maps"))
        memory = OwnMemory(self._proc)
        seen = 0
        try:
            for number in self._shuffled(slots.count):
                if seen % 16 == 0 and self._clock() >= deadline:
                    break
                seen += 1
                pool = memory.pool_at(slots.address(number))
                if pool:
                    yield pool, memory.words
        finally:
            memory.close()
            self.sample = PoolSample(slots_count=slots.count, seen_count=seen)

    def _shuffled(self, count: int) -> Iterator[int]:
        """Each number below `count` once, in an order of chance that needs no list: a stride without common divisor."""
        if not count:
            return
        number, stride = self._random.randrange(count), self._random.randrange(1, count + 1)
        while math.gcd(stride, count) != 1:
            stride = self._random.randrange(1, count + 1)
        for _ in range(count):
            yield number
            number = (number + stride) % count


class SlotMap:
    """The aligned places in private anonymous mappings where a pool may lie, numbered from 0."""

    def __init__(self, maps: bytes) -> None:
        self._starts: list[int] = []
        self._firsts: list[int] = []
        self.count = 0
        for start, end in anonymous_ranges(maps):
            first = -(-start // POOL_BYTES) * POOL_BYTES
            if end - first >= POOL_BYTES:
                self._starts.append(first)
                self._firsts.append(self.count)
                self.count += (end - first) // POOL_BYTES

    def address(self, number: int) -> int:
        index = bisect_right(self._firsts, number) - 1
        return self._starts[index] + (number - self._firsts[index]) * POOL_BYTES


def anonymous_ranges(maps: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of the mappings that can hold arenas: private, writable, of no file, neither heap nor stack."""
    for line in maps.splitlines():
        fields = line.split(None, 5)
        if len(fields) < 5 or fields[1] != b"rw-p" or fields[4] != b"0":
            continue
        if len(fields) == 6 and not fields[5].startswith(b"[anon:"):
            continue
        start, _, end = fields[0].partition(b"-")
        if int(end, 16) - int(start, 16) >= ARENA_BYTES:
            yield int(start, 16), int(end, 16)


def parse_header(address: int, raw: bytes | bytearray | ctypes.Array[ctypes.c_char]) -> Pool | None:
    """A header is believed when all its fields agree with one another, which other memory does not by chance."""
    used, _, free_block, _, _, _, size_class, next_offset, max_offset = HEADER.unpack_from(raw)
    block = (size_class + 1) * ALIGNMENT_BYTES
    carved, odd = divmod(next_offset - HEADER.size, block)
    if size_class >= SIZE_CLASSES or max_offset != POOL_BYTES - block or odd:
        return None
    if not 0 < used <= carved <= (POOL_BYTES - HEADER.size) // block:
        return None
    if free_block and not address + HEADER.size <= free_block < address + POOL_BYTES:
        return None
    return Pool(address=address, block_bytes=block, used_count=used, carved_count=carved, free_block=free_block)


def free_blocks(pool: Pool, words: memoryview) -> list[int]:
    """Offsets of the blocks given back: a list threaded through their first words. Ends at anything out of place."""
    offsets: list[int] = []
    block = pool.free_block
    while block and len(offsets) < pool.carved_count - pool.used_count:
        offset = block - pool.address
        if not HEADER.size <= offset < POOL_BYTES or (offset - HEADER.size) % pool.block_bytes:
            break
        offsets.append(offset)
        block = words[offset // 8]
    return offsets
