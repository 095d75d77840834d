"""Counting hits, misses and evictions of a cachetools cache, which does not count itself.

Special methods are looked up on the class, so the cache is given a class of its own: a subclass made for it, taken away
again at the end. A hit costs 20 to 60 ns more, a miss 20 to 100, a store that pushes something out 60 to 180, and up to
280 on top of a TTLCache's 2,100: an object that changed its class finds its attributes in a dict of its own
(`python -m benchmarks.counting`). An unwatched cache costs nothing.
"""

from __future__ import annotations

import copyreg
import sys
import types
from typing import Any

from amm_exporter.probes.cache_stats import CacheStats

_ABSENT = object()


class Counts:
    """The counters of one watched cache.

    `counts.hits += 1` needs no lock: since 3.10 CPython lets another thread in at calls and at the ends of loops only.
    """

    __slots__ = ("asked", "direct", "evictions", "misses", "original")

    def __init__(self, original: type) -> None:
        self.original = original
        self.direct = False
        """Whether `asked` leaves out what was not there."""
        self.asked = self.misses = self.evictions = 0

    @property
    def hits(self) -> int:
        return self.asked if self.direct else max(0, self.asked - self.misses)


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
    sizer = vars(cache).get("getsizeof")
    return CacheStats(
        hits=counts.hits if counts else None,
        misses=counts.misses if counts else None,
        entries=base.__len__(cache),
        max_entries=base.maxsize.fget(cache) if sizer is None and type(cache).getsizeof is base.getsizeof else None,
        size_bytes=base.currsize.fget(cache) if sizer in (sys.getsizeof, len) else None,
        evictions=counts.evictions if counts else None,
    )


def counting_class(original: Any) -> type:
    """A subclass that counts. A miss is what reaches `__missing__`, an eviction what `popitem` takes out."""
    counts = Counts(original)
    get_item, missing, pop_item, plain_get = original.__getitem__, original.__missing__, original.popitem, original.get
    asks = "pop" in _names_in(pop_item)  # before cachetools 7 it looks up what it takes out

    class Counting(original):  # type: ignore[misc]  # the class of whatever cache is watched
        _amm_counts = counts

        def __getitem__(self, key: Any) -> Any:
            counts.asked += 1
            return get_item(self, key)

        def __missing__(self, key: Any) -> Any:
            counts.misses += 1
            return missing(self, key)

        def get(self, key: Any, default: Any = None) -> Any:
            value = plain_get(self, key, _ABSENT)
            if value is not _ABSENT:
                return value
            counts.asked += not counts.direct
            counts.misses += 1
            return default

        def popitem(self) -> Any:
            pair = pop_item(self)
            counts.evictions += 1
            counts.asked -= asks
            return pair

        def __reduce_ex__(self, protocol: Any) -> Any:
            """Copies and pickles are of the original class, and need no AMM to be loaded."""
            _, _, *state = super().__reduce_ex__(2)
            return (copyreg._reconstructor, (original, object, None), *state)  # type: ignore[attr-defined]  # not in its stub

    if hasattr(original, "__copy__"):
        Counting.__copy__ = _copy_as(original)  # as in cachetools 7
    _take_short_cuts(Counting, original, counts)
    Counting.__name__, Counting.__qualname__ = original.__name__, original.__qualname__
    Counting.__module__ = original.__module__
    return Counting


def _take_short_cuts(counting: Any, original: Any, counts: Counts) -> None:
    """Where cachetools' own methods are known, count within them: a detour costs 50 ns, or 100 if KeyError takes it."""
    library: Any = sys.modules["cachetools"]
    base = library.Cache
    if original.__missing__ is base.__missing__:
        counting.__missing__ = _plain_missing(counts)
    if original.popitem is base.popitem:
        counting.popitem = _plain_popitem(base.__getitem__, counts)
    elif pop_item := _direct_popitem(original.popitem, base, counts):
        counting.popitem = pop_item
    get_item = _direct_getitem(original.__getitem__, base.__getitem__, counts)
    if get_item is None:
        return
    counts.direct = True
    counting.__getitem__ = get_item
    if original.get is base.get:
        counting.get = _plain_get(get_item, counts)
    elif original.get is library.TTLCache.get:
        counting.get = _timed_get(get_item, counts)


def _direct_getitem(own: Any, base_getitem: Any, counts: Counts) -> Any:
    """A class's own `__getitem__` over one of Cache that counts hits; None where it is not made like cachetools' are.

    They take Cache's as a default argument, and Cache's reads one dict.
    """
    if _names_in(base_getitem) != {"_Cache__data", "KeyError", "__missing__"}:
        return None

    def cache_getitem(self: Any, key: Any) -> Any:
        try:
            value = self._Cache__data[key]
        except KeyError:
            return self.__missing__(key)
        counts.asked += 1
        return value

    if own is base_getitem:
        return cache_getitem
    if getattr(own, "__defaults__", None) != (base_getitem,):
        return None
    return types.FunctionType(own.__code__, own.__globals__, own.__name__, (cache_getitem,), own.__closure__)


def _direct_popitem(own: Any, base: Any, counts: Counts) -> Any:
    """The library's own `popitem`, whose call of `Cache.__getitem__` for what leaves counts; None if it has none."""
    globals_ = getattr(own, "__globals__", {})
    if globals_ is not base.__getitem__.__globals__ or not {"Cache", "__getitem__"} <= _names_in(own):
        return None

    class Cache(base):  # type: ignore[misc]  # stands in for the library's
        def __getitem__(self, key: Any) -> Any:
            counts.evictions += 1
            return self._Cache__data[key]

    return types.FunctionType(own.__code__, {**globals_, "Cache": Cache}, own.__name__)


def _names_in(function: Any) -> set[str]:
    """What a function written in Python refers to: attributes and globals."""
    code = getattr(function, "__code__", None)
    return set(code.co_names) if code else set()


def _copy_as(original: Any) -> Any:
    """A copy is another cache, which nobody asked to watch."""

    def copied(self: Any) -> Any:
        twin = original.__copy__(self)
        if type(twin) is type(self):
            twin.__class__ = original
        return twin

    return copied


def _plain_missing(counts: Counts) -> Any:
    def missing(self: Any, key: Any) -> Any:
        counts.misses += 1
        raise KeyError(key)

    return missing


def _plain_popitem(get_item: Any, counts: Counts) -> Any:
    """As every mapping does it, but what leaves is not a hit."""

    def popitem(self: Any) -> Any:
        try:
            key = next(iter(self))
        except StopIteration:
            raise KeyError from None
        value = get_item(self, key)
        del self[key]
        counts.evictions += 1
        return key, value

    return popitem


def _plain_get(get_item: Any, counts: Counts) -> Any:
    def get(self: Any, key: Any, default: Any = None) -> Any:
        if key in self:
            return get_item(self, key)
        counts.misses += 1
        return default

    return get


def _timed_get(get_item: Any, counts: Counts) -> Any:
    """The same for caches with a clock, which stands still between the two looks."""

    def get(self: Any, key: Any, default: Any = None) -> Any:
        with self.timer:
            if key in self:
                return get_item(self, key)
        counts.misses += 1
        return default

    return get
