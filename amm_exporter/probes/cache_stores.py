"""The stores of watched cachetools caches: they count what they push out, in the steps of cachetools 4 to 8.

From Python 3.11 on, methods and class attributes are slow to find through an object that changed its class, 15 to 35 ns
each, and a store asks for half a dozen. These do without most of them.
"""

from __future__ import annotations

import operator
import sys
from typing import Any

from amm_exporter.probes.cache_counts import Counts, asks, library_class, names_in, own_methods
from amm_exporter.probes.cache_methods import instead

_STORE = {
    *("_Cache__currsize", "_Cache__data", "_Cache__maxsize", "_Cache__size"),
    *("ValueError", "getsizeof", "popitem"),
}
_DELETE = {"_Cache__currsize", "_Cache__data", "_Cache__size", "pop"}
"""What the methods of Cache refer to in cachetools 4 to 8. One that refers to anything else is not replaced."""
_NEGATIVE = "value size must be non-negative"
"""Said from cachetools 7.1.5 on."""
_QUEUES = {"_FIFOCache__order", "_LRUCache__order", "_MRUCache__order", "_TTLCache__links", "_TLRUCache__items"}
"""Where a cache keeps its keys, the next to leave first."""
_WATCHED = ("popitem", "pop", "expire", "__contains__", "__getitem__", "__iter__")
"""What `popitem` may call: a class of somebody's own that has one of these has it called."""


def shorten_stores(counting: Any, beneath: Any, cache: Any, counts: Counts) -> None:
    """The clock of a timed cache may stand on its class, which has no other instance."""
    library: Any = sys.modules["cachetools"]
    original: Any = counts.original
    kind, base = library_class(original), library.Cache
    if getattr(original, "timer", None) is library.TTLCache.timer:
        counting.timer = cache.timer
    known = names_in(base.__setitem__) == _STORE and names_in(base.__delitem__) == _DELETE
    if not known or "popitem" in vars(cache):
        return
    if "_Cache__size" in vars(cache):
        ours = {"__setitem__": _sized_setitem(original, counts)}
    else:
        ours = {"__setitem__": _plain_setitem(original, counts), "__delitem__": _plain_delitem}
    for name, function in ours.items():
        method = instead(getattr(kind, name), getattr(base, name), function)
        if method:
            setattr(beneath, name, method)


def _plain_setitem(original: Any, counts: Counts) -> Any:
    """As Cache does it where each entry counts as one."""
    push_out, asked = _push_out(original, several=False)
    evictions = 0

    def cache_setitem(self: Any, key: Any, value: Any) -> None:
        nonlocal evictions
        data = self._Cache__data
        if key in data:
            data[key] = value
            return
        maxsize = self._Cache__maxsize
        if maxsize < 1:
            raise ValueError("value too large")
        while self._Cache__currsize + 1 > maxsize:
            push_out(self)
            evictions += 1
        data[key] = value
        self._Cache__currsize += 1

    counts.add(evictions=lambda: evictions, hits=(lambda: -evictions) if asked else None)
    return cache_setitem


def _sized_setitem(original: Any, counts: Counts) -> Any:
    """As Cache does it where entries have sizes."""
    push_out, asked = _push_out(original, several=True)
    base = sys.modules["cachetools"].Cache
    refuses, by_growth = _NEGATIVE in base.__setitem__.__code__.co_consts, _makes_room_by_growth(base)
    evictions = 0

    def cache_setitem(self: Any, key: Any, value: Any) -> None:
        nonlocal evictions
        data = self._Cache__data
        sizes = self._Cache__size
        maxsize = self._Cache__maxsize
        size = self.getsizeof(value)
        if size > maxsize:
            raise ValueError("value too large")
        if size < 0 and refuses:
            raise ValueError(_NEGATIVE)
        if key in data:
            growth = size - sizes[key]
            if not growth:
                data[key] = value
                return
            if growth > 0:
                growth = make_room(self, key, size)
        else:
            growth = size
            while self._Cache__currsize + size > maxsize:
                push_out(self)
                evictions += 1
        data[key] = value
        sizes[key] = size
        self._Cache__currsize += growth

    def make_room(self: Any, key: Any, size: Any) -> Any:
        """For an entry that grows, which may itself be pushed out."""
        nonlocal evictions
        growth = size - self._Cache__size[key]
        room = growth if by_growth else size
        while self._Cache__currsize + room > self._Cache__maxsize:
            push_out(self)
            evictions += 1
            if key not in self._Cache__data:
                growth = room = size
        return growth

    counts.add(evictions=lambda: evictions, hits=(lambda: -evictions) if asked else None)
    return cache_setitem


def _makes_room_by_growth(base: Any) -> bool:
    """Whether an entry that grows needs room for the difference only, as from cachetools 7.1.7 on, or for all of it."""
    cache = base(3, getsizeof=lambda value: value)
    cache[0] = cache[1] = 1
    cache[1] = 2
    return 0 in cache


def _plain_delitem(self: Any, key: Any) -> None:
    """As Cache does it where each entry counts as one."""
    del self._Cache__data[key]
    self._Cache__currsize -= 1


def _push_out(original: Any, *, several: bool) -> tuple[Any, bool]:
    """What makes room in a store, and whether it looks up what goes.

    The store of a timed cache has just dropped what expired, which its `popitem` would do again, and nobody asks for
    the pair.
    """
    kind = library_class(original)
    plain = kind is sys.modules["cachetools"].Cache
    queue = {"_Cache__data"} if plain else _QUEUES & names_in(kind.popitem)
    if not queue or any(own_methods(original, name) for name in _WATCHED):
        return original.popitem, asks(original)
    next_ones = operator.attrgetter(*queue)

    def push_out(self: Any) -> None:
        del self[next(iter(next_ones(self)))]

    def tidy_up_and_push_out(self: Any) -> None:
        """As its `popitem`: a TLRUCache is iterated in the order of a heap, which depends on when it lost what."""
        self.expire(self.timer())
        push_out(self)

    return (tidy_up_and_push_out if several and "_TLRUCache__items" in queue else push_out), False
