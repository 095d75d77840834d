"""Counting hits, misses and evictions of a cachetools cache, which does not count itself.

Special methods are looked up on the class, so the cache is given a class of its own: a subclass made for it, taken away
again at the end. A hit costs 25 to 80 ns more, a `get` that misses 55 to 70, a miss that raises KeyError 210 on top of
its 700, a store that pushes something out 90 to 240 on top of its 500 to 3,000 (`python -m benchmarks.counting`), an
unwatched cache nothing. Counting is by itertools.count, whose step no other thread can
interrupt, so it needs no lock.
"""

from __future__ import annotations

import copyreg
import itertools
import sys
from typing import Any

from amm_exporter.probes.cache_stats import CacheStats

_ABSENT = object()


class Counter:
    """Counts up by calling `step`; `value` reads without counting."""

    __slots__ = ("_count", "step")

    def __init__(self) -> None:
        self._count = itertools.count()
        self.step = self._count.__next__

    @property
    def value(self) -> int:
        return int(repr(self._count)[6:-1])  # count(7): the one way to look at it without moving it


class Counts:
    """The counters of one watched cache."""

    __slots__ = ("evictions", "gets", "misses", "original")

    def __init__(self, original: type) -> None:
        self.original = original
        self.gets, self.misses, self.evictions = Counter(), Counter(), Counter()


def is_cachetools(obj: object) -> bool:
    """Whether this is a cachetools cache; the library is not imported for asking."""
    library = sys.modules.get("cachetools")
    return library is not None and issubclass(type(obj), library.Cache)


def counts_of(cache: object) -> Counts | None:
    counts = type(cache).__dict__.get("_amm_counts")
    return counts if isinstance(counts, Counts) else None


def install(cache: Any) -> None:
    """Start counting; again without effect. A cache whose class cannot be changed (slots) stays uncounted."""
    if counts_of(cache) is None:
        try:
            cache.__class__ = counting_class(type(cache))
        except TypeError:
            return
        # From Python 3.11 on, attributes of an object that changed its class are slow to find until it has a dict of
        # its own: 300 ns more for each eviction. No call in this line: no other thread runs within it.
        cache.__dict__ = {**cache.__dict__}


def remove(cache: Any) -> None:
    """Stop counting and be of the original class again."""
    counts = counts_of(cache)
    if counts:
        cache.__class__ = counts.original


def read(cache: Any) -> CacheStats:
    """Statistics without touching the cache: asking a TTLCache for its length would make it drop what has expired."""
    base: Any = sys.modules["cachetools"].Cache
    counts = counts_of(cache)
    misses = counts.misses.value if counts else None
    sizer = vars(cache).get("getsizeof")
    return CacheStats(
        hits=max(0, counts.gets.value - misses) if counts and misses is not None else None,
        misses=misses,
        entries=base.__len__(cache),
        max_entries=base.maxsize.fget(cache) if sizer is None and type(cache).getsizeof is base.getsizeof else None,
        size_bytes=base.currsize.fget(cache) if sizer in (sys.getsizeof, len) else None,
        evictions=counts.evictions.value if counts else None,
    )


def counting_class(original: Any) -> type:
    """A subclass that counts. A miss is what reaches `__missing__`, an eviction what `popitem` takes out."""
    base: Any = sys.modules["cachetools"].Cache
    counts = Counts(original)
    got, missed, evicted = counts.gets.step, counts.misses.step, counts.evictions.step
    get_item, missing, pop_item, plain_get = original.__getitem__, original.__missing__, original.popitem, original.get

    class Counting(original):  # type: ignore[misc]  # the class of whatever cache is watched
        _amm_counts = counts

        def __getitem__(self, key: Any) -> Any:
            got()
            return get_item(self, key)

        def __missing__(self, key: Any) -> Any:
            missed()
            return missing(self, key)

        def get(self, key: Any, default: Any = None) -> Any:
            value = plain_get(self, key, _ABSENT)
            if value is not _ABSENT:
                return value
            got()
            missed()
            return default

        def popitem(self) -> Any:
            evicted()
            return pop_item(self)

        def __reduce_ex__(self, protocol: Any) -> Any:
            """Copies and pickles are of the original class, and need no AMM to be loaded."""
            _, _, *state = super().__reduce_ex__(2)
            return (copyreg._reconstructor, (original, object, None), *state)  # type: ignore[attr-defined]  # not in its stub

    if hasattr(original, "__copy__"):
        Counting.__copy__ = _copy_as(original)  # as in cachetools 7
    if missing is base.__missing__:
        Counting.__missing__ = _plain_missing(missed)  # type: ignore[method-assign]
    if original.get is base.get:
        Counting.get = _plain_get(get_item, got, missed)  # type: ignore[method-assign]
    elif original.get is sys.modules["cachetools"].TTLCache.get:
        Counting.get = _timed_get(get_item, got, missed)  # type: ignore[method-assign]
    Counting.__name__, Counting.__qualname__ = original.__name__, original.__qualname__
    Counting.__module__ = original.__module__
    return Counting


def _copy_as(original: Any) -> Any:
    """A copy is another cache, which nobody asked to watch."""

    def copied(self: Any) -> Any:
        twin = original.__copy__(self)
        if type(twin) is type(self):
            twin.__class__ = original
        return twin

    return copied


def _plain_missing(missed: Any) -> Any:
    """What cachetools' own `__missing__` does, without the detour: each frame that KeyError passes costs 60 ns."""

    def missing(self: Any, key: Any) -> Any:
        missed()
        raise KeyError(key)

    return missing


def _plain_get(get_item: Any, got: Any, missed: Any) -> Any:
    """What cachetools' own `get` does, counting once: its detour over `self[key]` would cost another call."""

    def get(self: Any, key: Any, default: Any = None) -> Any:
        got()
        if key in self:
            return get_item(self, key)
        missed()
        return default

    return get


def _timed_get(get_item: Any, got: Any, missed: Any) -> Any:
    """The same for caches with a clock, which stands still between the two looks."""

    def get(self: Any, key: Any, default: Any = None) -> Any:
        got()
        with self.timer:
            if key in self:
                return get_item(self, key)
        missed()
        return default

    return get
