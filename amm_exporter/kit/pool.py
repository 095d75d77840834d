"""A pool of objects that cost more to make than to keep: buffers, parsers, connections.

    buffers = Pool(lambda: bytearray(64 * 1024), max_idle=8)
    with buffers.borrow() as buffer:
        ...

Borrowing and giving back takes a quarter of a microsecond (benchmarks/kit.py), so a pool loses for whatever Python
makes faster: `{}`, `[]`, a small instance, for which CPython keeps free lists of its own. An instance with five
containers breaks even; buffers of 64 KiB come 3 times faster from a pool, of 1 MiB 50 times, connections beyond that.
A pool does not save memory: it keeps what it holds, which is why `max_idle` is bounded and `shrink` is there. Make it
after a fork, not before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Generic, TypeVar

from amm_exporter.errors import AMMError
from amm_exporter.kit.cache import counted
from amm_exporter.probes.cache_stats import PoolStats

T = TypeVar("T")


class PoolExhausted(AMMError, TimeoutError):  # noqa: N818 - named for what happened, as queue.Empty is
    """All objects are in use, and none came back within the time."""


class Pool(Generic[T]):
    """A thread-safe pool; the object given back last is lent first, since it is the warmest.

    Args:
        make: makes an object.
        reset: called with an object that comes back; where it raises, the object is dropped and the error goes on.
        max_idle: at most so many are kept; what comes back beyond that is dropped.
        max_objects: at most so many in use; who asks for more waits. None: no bound, and no lock on the way.
    """

    amm_stats_takes_no_lock = True

    def __init__(
        self,
        make: Callable[[], T],
        *,
        reset: Callable[[T], object] | None = None,
        max_idle: int = 8,
        max_objects: int | None = None,
    ) -> None:
        check_bounds(max_idle, max_objects)
        self._make = make
        self._reset = reset
        self._max_idle = max_idle
        self._max_objects = max_objects
        self._room = threading.Semaphore(max_objects) if max_objects is not None else None
        self._idle: list[T] = []
        self._lent: set[int] = set()
        self._hits, self._misses, self._waits = count(), count(), count()

    def acquire(self, timeout_seconds: float | None = None) -> T:
        """An idle object or a new one. With `max_objects` in use it waits; PoolExhausted after the time."""
        if self._room:
            self._wait_for_room(self._room, timeout_seconds)
        try:
            obj = self._idle.pop()
            next(self._hits)
        except IndexError:
            obj = self._made()
            next(self._misses)
        self._lent.add(id(obj))
        return obj

    def release(self, obj: T) -> None:
        """Give it back. Raises AMMError for an object that is not out on loan: given back twice, two would share it."""
        try:
            self._lent.remove(id(obj))
        except KeyError:
            raise AMMError(
                "cannot release an object that is not lent by this pool, or was given back already"
            ) from None
        try:
            if self._reset:
                self._reset(obj)
            if len(self._idle) < self._max_idle:
                self._idle.append(obj)
        finally:
            if self._room:
                self._room.release()

    @contextmanager
    def borrow(self, timeout_seconds: float | None = None) -> Iterator[T]:
        """Acquire, and release at the end of the block."""
        obj = self.acquire(timeout_seconds)
        try:
            yield obj
        finally:
            self.release(obj)

    def shrink(self, ratio: float) -> int:
        """Keep this share of the idle objects; tell how many were dropped."""
        if not 0 <= ratio <= 1:
            raise AMMError(f"cannot shrink a pool to {ratio!r} of its idle objects; expected a ratio between 0 and 1")
        idle = len(self._idle)
        del self._idle[: idle - int(idle * ratio)]  # the coldest lie at the front
        return idle - int(idle * ratio)

    def amm_stats(self) -> PoolStats:
        """Now, and since the pool was made. Takes no lock."""
        return PoolStats(
            in_use=len(self._lent),
            idle=len(self._idle),
            max_objects=self._max_objects,
            hits=counted(self._hits),
            misses=counted(self._misses),
            waits=counted(self._waits),
        )

    def _made(self) -> T:
        try:
            return self._make()
        except BaseException:
            if self._room:
                self._room.release()
            raise

    def _wait_for_room(self, room: threading.Semaphore, timeout_seconds: float | None) -> None:
        if room.acquire(blocking=False):
            return
        next(self._waits)
        if not room.acquire(timeout=timeout_seconds):
            raise PoolExhausted(
                f"all {self._max_objects} objects of the pool are in use, and none came back within "
                f"{timeout_seconds} s; give them back sooner, or raise max_objects"
            )


def check_bounds(max_idle: int, max_objects: int | None) -> None:
    """Raise AMMError for a bound that cannot be kept."""
    if max_idle < 0:
        raise AMMError(f"max_idle: got {max_idle!r}; expected 0 or more")
    if max_objects is not None and max_objects < 1:
        raise AMMError(f"max_objects: got {max_objects!r}; expected 1 or more, or None for no bound")
