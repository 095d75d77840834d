"""Which types of objects fill the memory: a bounded census, and what grew since the last one.

The words are objgraph's: `typestats` (how many of each type), `most_common_types`, `growth`. The way is another one.
objgraph walks all container objects with the GIL held (76 ms and a forced collection at 4.3 million objects, seconds
where they lie scattered). Here a random sample of the heap's pools is read until a time is up, so that no pause depends
on the heap's size. In return the counts are estimates, except where the whole heap could be read in time.

Not seen: objects larger than 512 bytes (classes, long strings and bytes; lists and dicts are seen, their tables are
not) and what C libraries allocate.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from amm_exporter.errors import ProbeError
from amm_exporter.probes.procfs import PROC
from amm_exporter.probes.pymalloc import HEADER, POOL_BYTES, OwnMemory, Pool, PoolReader, PoolSample, free_blocks

HAVE_GC = 1 << 14
"""Py_TPFLAGS_HAVE_GC (Include/object.h): the collector's two words stand before the object."""
PRE_HEADER = 3 << 3 if sys.version_info >= (3, 12) else 1 << 4 if sys.version_info >= (3, 11) else 0
"""Py_TPFLAGS_MANAGED_DICT and, from 3.12, _WEAKREF: two more words stand before those."""
MAX_TYPES = 50_000
_MODULE, _QUALNAME, _FLAGS = (vars(type)[name] for name in ("__module__", "__qualname__", "__flags__"))
MAX_PEAKS = 2_000
SURE_ERRORS = 4.0
"""Growth is reported when it exceeds so many standard errors of the two estimates, since many types are compared."""

FEWEST_SLOTS = 200
"""A sample smaller than this, on a machine too busy, knows its own error too badly to speak of growth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeCount:
    """Live objects of one type, and the bytes they take themselves. `error_count`: the estimate's standard error."""

    name: str
    count: int
    size_bytes: int
    error_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeGrowth:
    """A type with more objects than in any earlier census."""

    name: str
    count: int
    delta: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """The most common types, and those that grew most. The counts are exact where `sampled_ratio` is 1."""

    types: tuple[TypeCount, ...]
    growth: tuple[TypeGrowth, ...]
    objects_count: int
    sampled_ratio: float
    seconds: float


class ObjectProbe:
    """Takes a census when asked. `unavailable` is empty, or says in one line why there can be none here."""

    def __init__(self, *, top: int = 20, proc: Path = PROC, clock: Callable[[], float] = time.perf_counter) -> None:
        self._top = top
        self._clock = clock
        self._reader = PoolReader(proc=proc, clock=clock)
        self._peaks: dict[str, TypeCount] = {}
        self._last_scale = 0.0
        self.unavailable = why_unavailable(proc)

    def census(self, seconds: float = 0.05) -> Census:
        """Read the heap for `seconds` at most. Raises ProbeError where that is not possible.

        Other threads run meanwhile: this is Python code, from which the interpreter takes the GIL in turn.
        """
        if self.unavailable:
            raise ProbeError(f"no census of objects: {self.unavailable}")
        started = self._clock()
        tally = Tally(TypeNames())
        for pool, words in self._reader.pools(seconds):
            tally.add(pool, words)
        sample = self._reader.sample
        counts = tally.estimates(sample.scale)
        return Census(
            types=tuple(counts[: self._top]),
            growth=tuple(self._growth(counts, sample)[: self._top]),
            objects_count=sum(count.count for count in counts),
            sampled_ratio=1 / sample.scale if sample.scale else 0.0,
            seconds=self._clock() - started,
        )

    def forget(self) -> None:
        """Measure growth from the next census on."""
        self._peaks.clear()
        self._last_scale = 0.0

    def _growth(self, counts: list[TypeCount], sample: PoolSample) -> list[TypeGrowth]:
        """Against the highest count so far, largest first. The first census has nothing to compare with."""
        if sample.scale > 1 and sample.seen_count < FEWEST_SLOTS:
            return []
        first, last_scale, self._last_scale = self._last_scale == 0.0, self._last_scale, sample.scale
        grown = []
        for count in counts[:MAX_PEAKS]:
            peak = self._peaks.get(count.name) or unseen(count, last_scale)
            delta = count.count - peak.count
            if first or delta > SURE_ERRORS * math.hypot(count.error_count, peak.error_count):
                self._peaks[count.name] = count
                if not first:
                    grown.append(TypeGrowth(name=count.name, count=count.count, delta=delta))
        return sorted(grown, key=lambda growth: -growth.delta)


def unseen(count: TypeCount, scale: float) -> TypeCount:
    """What an earlier census that did not meet a type knows about it: there were less than a few pools of it."""
    pool_count = POOL_BYTES * count.count / max(1, count.size_bytes)
    error = scale * pool_count if scale > 1 else 0.0
    return TypeCount(name=count.name, count=0, size_bytes=0, error_count=round(error))


class TypeNames:
    """The addresses of all types, by where an object's pointer to its type lies in its block."""

    def __init__(self) -> None:
        self.plain: dict[int, str] = {}
        self.collected: dict[int, str] = {}
        self.managed: dict[int, str] = {}
        todo: list[type] = [object]
        seen: set[int] = set()
        while todo and len(seen) < MAX_TYPES:
            cls = todo.pop()
            if id(cls) in seen:
                continue
            seen.add(id(cls))
            self._kind(cls)[id(cls)] = type_name(cls)
            todo += type.__subclasses__(cls)

    def _kind(self, cls: type) -> dict[int, str]:
        flags = _FLAGS.__get__(cls)
        if not flags & HAVE_GC:
            return self.plain
        return self.managed if flags & PRE_HEADER else self.collected


class Tally:
    """Objects by type over the pools seen."""

    def __init__(self, names: TypeNames) -> None:
        self._names = names
        self._counts: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._squares: Counter[str] = Counter()

    def add(self, pool: Pool, words: memoryview) -> None:
        for name, count in self._types_in(pool, words).items():
            self._counts[name] += count
            self._bytes[name] += count * pool.block_bytes
            self._squares[name] += count * count

    def estimates(self, scale: float) -> list[TypeCount]:
        """The most common first. Objects of a type lie in pools together, so the error comes from the pools."""
        unseen_ratio = 1 - 1 / scale if scale else 0.0
        return [
            TypeCount(
                name=name,
                count=round(count * scale),
                size_bytes=round(self._bytes[name] * scale),
                error_count=round(scale * math.sqrt(self._squares[name] * unseen_ratio)),
            )
            for name, count in self._counts.most_common()
        ]

    def _types_in(self, pool: Pool, words: memoryview) -> Counter[str]:
        """The word that points to the type is the second of a plain object, the fourth or sixth of a collected one."""
        step = pool.block_bytes // 8
        for offset in free_blocks(pool, words):
            for word in (1, 3, 5)[: (step + 1) // 2]:
                words[offset // 8 + word] = 0
        first, end = HEADER.size // 8, HEADER.size // 8 + pool.carved_count * step
        found: Counter[str] = Counter()
        second = words[first + 1 : end : step].tolist()
        fourth = words[first + 3 : end : step].tolist() if step > 3 else []
        sixth = words[first + 5 : end : step].tolist() if step > 5 else []
        names = self._names
        count_known(second, names.plain, found)
        count_known(fourth, names.collected, found)
        if not names.managed.keys().isdisjoint(sixth):
            # the sixth word of a tuple is its first item, which may be a class
            count_known(
                [six for four, six in zip(fourth, sixth, strict=True) if four not in names.collected],
                names.managed,
                found,
            )
        return found


def count_known(addresses: list[int], names: dict[int, str], found: Counter[str]) -> None:
    """Add up those of the addresses that have a name."""
    if names.keys().isdisjoint(addresses):  # the usual case: most pools hold objects of one kind
        return
    for address, count in Counter(addresses).items():
        if address in names:
            found[names[address]] += count


def type_name(cls: type) -> str:
    """`dict`, `collections.OrderedDict`, `myapp.models.Row`: the module is left out for builtins, as objgraph does.

    By the slots of `type`: what a metaclass makes of them is not to be run here.
    """
    try:
        module = _MODULE.__get__(cls)
    except AttributeError:  # it was deleted
        module = None
    name: str = _QUALNAME.__get__(cls)
    return name if module == "builtins" or not isinstance(module, str) else f"{module}.{name}"


class _Managed:
    """An ordinary instance: from 3.11 on, its dict hangs on words before the object."""


def why_unavailable(proc: Path = PROC) -> str:
    """Whether this interpreter lays out its heap as assumed, tried on three objects made for it; else the reason."""
    if sys.implementation.name != "cpython" or not sys.platform.startswith("linux"):
        return "it needs CPython on Linux"
    try:
        memory = OwnMemory(proc)
    except ProbeError as error:
        return str(error)
    try:
        for made in (float(os.getpid()), [os.getpid()], _Managed()):
            if not lies_as_assumed(memory, made):
                return "objects do not lie in pymalloc's pools (PYTHONMALLOC, -X dev, or a build of another layout)"
    finally:
        memory.close()
    return ""


def lies_as_assumed(memory: OwnMemory, made: object) -> bool:
    """Whether a block of a pool begins just where this object's headers should."""
    flags = type(made).__flags__
    headers = (16 if flags & HAVE_GC else 0) + (16 if flags & HAVE_GC and flags & PRE_HEADER else 0)
    pool = memory.pool_at(id(made) // POOL_BYTES * POOL_BYTES)
    return pool is not None and (id(made) - headers - pool.address - HEADER.size) % pool.block_bytes == 0
