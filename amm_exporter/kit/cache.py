"""A cache that knows how well it does: least recently used goes first, entries may have a lifetime, all is counted.

    users = Cache(max_entries=10_000, ttl_seconds=300)
    user = users.get_or_make(user_id, load_user)        # load_user(user_id) on a miss
    amm.watch("users", users)

For functions, `functools.lru_cache` is faster still and can be watched too; take this one for a lifetime, for a bound
in bytes, for access to single entries, or where the cache should shrink when memory gets tight. benchmarks/kit.py shows
it beside cachetools.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from itertools import count
from typing import Generic, TypeVar

from amm_exporter.errors import AMMError
from amm_exporter.probes.cache_stats import CacheStats

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
D = TypeVar("D")
_ABSENT = object()


class Cache(Generic[K, V]):
    """A thread-safe LRU cache.

    Reading takes no lock: it consists of single steps that the interpreter does not interrupt (with the GIL). Writing
    takes one. `max_bytes` needs `size_of`, which is asked once for each value stored, and should not be asked more than
    the value is worth: `len` or `sys.getsizeof`, say.

    Args:
        max_entries: at most so many entries, 1 or more.
        ttl_seconds: an entry older than this is a miss, and is dropped when it is met or pushed out by a newer one.
        max_bytes: at most so many bytes by `size_of`; a value larger than all of it is not kept.
    """

    amm_stats_takes_no_lock = True

    def __init__(
        self,
        max_entries: int,
        *,
        ttl_seconds: float | None = None,
        max_bytes: int | None = None,
        size_of: Callable[[V], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_bounds(max_entries, ttl_seconds, max_bytes, size_of)
        self._max_entries = max_entries
        self._ttl_seconds = ttl_seconds
        self._max_bytes = max_bytes
        self._size_of = size_of
        self._clock = clock
        self._lock = threading.RLock()  # again by the same thread: a dropped value's __del__ may come back here
        self._pid = os.getpid()
        self._values: OrderedDict[K, V] = OrderedDict()
        self._expires: OrderedDict[K, float] = OrderedDict()
        self._sizes: dict[K, int] = {}
        self._size_bytes = 0
        self._annotated = ttl_seconds is not None or size_of is not None
        self._evictions = 0
        self._hits, self._misses = count(), count()
        self._hit, self._missed = self._hits.__next__, self._misses.__next__

    def get(self, key: K, default: D | None = None) -> V | D | None:
        """The value, which is now the most recently used; or the default."""
        try:
            value = self._values[key]
            if self._ttl_seconds is not None and self._expires[key] <= self._clock():
                self._drop(key)
                raise KeyError(key)
            self._values.move_to_end(key)
        except KeyError:  # also when another thread has just pushed it out
            self._missed()
            return default
        self._hit()
        return value

    def put(self, key: K, value: V) -> None:
        """Store a value, and push out the least recently used ones that it leaves no room for."""
        size = self._size_of(value) if self._size_of else 0
        with self._writing():
            if key in self._values:
                self._remove(key)
            if self._max_bytes is not None and size > self._max_bytes:
                return
            self._values[key] = value
            if self._annotated:
                self._annotate(key, size)
            if len(self._values) > self._max_entries or self._over_bytes():
                self._make_room()

    def get_or_make(self, key: K, make: Callable[[K], V]) -> V:
        """The value, made by `make(key)` and stored on a miss. Two threads that miss at once may both make one."""
        value = self.get(key, _ABSENT)
        if value is _ABSENT:
            made = make(key)
            self.put(key, made)
            return made
        return value  # type: ignore[return-value]  # not the default, so a V

    def pop(self, key: K, default: D | None = None) -> V | D | None:
        """Take a value out, expired or not; this is no look-up and no eviction."""
        with self._writing():
            value = self._values.get(key, default)
            self._remove(key)
            return value

    def clear(self) -> None:
        """Drop everything; the counters stay."""
        with self._writing():
            self._values.clear()
            self._expires.clear()
            self._sizes.clear()
            self._size_bytes = 0

    def expire(self) -> int:
        """Drop what is older than its lifetime; tell how many that were. It costs no more than what it drops."""
        dropped = 0
        now = self._clock()
        with self._writing():
            while self._expires:
                key, at = next(iter(self._expires.items()))
                if at > now:
                    break
                self._remove(key)
                dropped += 1
        return dropped

    def shrink(self, ratio: float) -> int:
        """Keep this share of the entries, the most recently used ones; tell how many were pushed out."""
        if not 0 <= ratio <= 1:
            raise AMMError(f"cannot shrink a cache to {ratio!r} of its entries; expected a ratio between 0 and 1")
        with self._writing():
            return self._push_out(len(self._values) - int(len(self._values) * ratio))

    def resize(self, max_entries: int) -> None:
        """Another bound from now on."""
        check_bounds(max_entries, None, None, None)
        with self._writing():
            self._max_entries = max_entries
            self._make_room()

    def amm_stats(self) -> CacheStats:
        """Counters since the cache was made. Takes no lock."""
        return CacheStats(
            hits=counted(self._hits),
            misses=counted(self._misses),
            entries=len(self._values),
            max_entries=self._max_entries,
            size_bytes=self._size_bytes if self._size_of else None,
            evictions=self._evictions,
        )

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        """Whether there is such an entry, expired or not; this is no look-up."""
        return key in self._values

    def __iter__(self) -> Iterator[K]:
        """The keys, least recently used first, as they are now."""
        with self._writing():
            return iter(list(self._values))

    def _writing(self) -> threading.RLock:
        """The lock. In a forked child a new one: the parent's may have been held by a thread that is not here."""
        if self._pid != os.getpid():
            self._lock, self._pid = threading.RLock(), os.getpid()
        return self._lock

    def _annotate(self, key: K, size: int) -> None:
        if self._ttl_seconds is not None:
            self._expires[key] = self._clock() + self._ttl_seconds
        if self._size_of:
            self._sizes[key] = size
            self._size_bytes += size

    def _over_bytes(self) -> bool:
        return self._max_bytes is not None and self._size_bytes > self._max_bytes

    def _make_room(self) -> None:
        self._push_out(len(self._values) - self._max_entries)
        while self._over_bytes() and self._values:
            self._push_out(1)

    def _push_out(self, entries: int) -> int:
        pushed = 0
        while pushed < entries and self._values:
            key, _ = self._values.popitem(last=False)  # one step: a reader may move entries between two
            if self._annotated:
                self._remove(key)
            pushed += 1
        self._evictions += pushed
        return pushed

    def _drop(self, key: K) -> None:
        """Remove an entry found expired, unless it was stored anew meanwhile."""
        with self._writing():
            if self._expires.get(key, 0.0) <= self._clock():
                self._remove(key)

    def _remove(self, key: K) -> None:
        self._values.pop(key, None)
        self._expires.pop(key, None)
        self._size_bytes -= self._sizes.pop(key, 0)


def check_bounds(
    max_entries: int, ttl_seconds: float | None, max_bytes: int | None, size_of: Callable[..., int] | None
) -> None:
    """Raise AMMError for a bound that cannot be kept."""
    if isinstance(max_entries, bool) or not isinstance(max_entries, int) or max_entries < 1:
        raise AMMError(f"max_entries: got {max_entries!r}; expected a whole number of 1 or more")
    if ttl_seconds is not None and not ttl_seconds > 0:
        raise AMMError(f"ttl_seconds: got {ttl_seconds!r}; expected more than 0, or None for no lifetime")
    if max_bytes is not None and max_bytes < 1:
        raise AMMError(f"max_bytes: got {max_bytes!r}; expected 1 or more, or None for no bound in bytes")
    if max_bytes is not None and size_of is None:
        raise AMMError("max_bytes needs size_of, a function that tells the bytes of a value: len or sys.getsizeof, say")


def counted(counter: count[int]) -> int:
    """Where an itertools.count stands: count(7). Its step is the one that no thread can interrupt."""
    return int(repr(counter)[6:-1])
