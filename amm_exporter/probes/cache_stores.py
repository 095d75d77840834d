"""The stores of watched cachetools caches: they count what they push out, in the steps of cachetools 4 to 8.

From Python 3.11 on, methods and class attributes are slow to find through an object that changed its class, 15 to 35 ns
each, and a store asks for half a dozen. These do without most of them.
"""

from __future__ import annotations

import operator
import sys
from typing import Any

from amm_exporter.probes.cache_counts import Counts, asks, hands_on, library_class, names_in, own_methods
from amm_exporter.probes.cache_methods import instead

_STORE = {
    *("_Cache__currsize", "_Cache__data", "_Cache__maxsize", "_Cache__size"),
    *("ValueError", "getsizeof", "popitem"),
}
_DELETE = {"_Cache__currsize", "_Cache__data", "_Cache__size", "pop"}
"""What the methods of Cache refer to in cachetools 4 to 8. One that refers to anything else is not replaced."""
_NEGATIVE = "value size must be non-negative"
"""Said from cachetools 7.1.5 on."""
_QUEUES = (
    *("_FIFOCache__order", "_LFUCache__root.next.keys", "_LRUCache__order", "_MRUCache__order"),
    *("_TTLCache__links", "_TLRUCache__items"),
)
"""Where a cache keeps its keys, the next to leave first."""
_CALLED = ("pop", "__contains__", "__getitem__", "__iter__")
"""What `popitem` calls before cachetools 7.3, and in a plain Cache: a class of somebody's own may have one of these."""


def count_evictions(counting: Any, beneath: Any, cache: Any, counts: Counts) -> None:
    """An eviction is what `popitem` takes out, or a store in its place."""
    library: Any = sys.modules["cachetools"]
    original: Any = counts.original
    kind, base = library_class(original), library.Cache
    if getattr(original, "timer", None) is library.TTLCache.timer:
        counting.timer = cache.timer  # it may stand on the class, which has no other instance
    shorter = _shorter_popitem(original, counts)
    if shorter:
        beneath.popitem = shorter
    else:
        counting.popitem = _counted_popitem(original, counts)
    known = names_in(base.__setitem__) == _STORE and names_in(base.__delitem__) == _DELETE
    if not known or "popitem" in vars(cache):
        return
    sized = "_Cache__size" in vars(cache)
    push_out = _push_out(original, counts, several=sized) or counting.popitem
    ours = {"__setitem__": _sized_setitem(push_out) if sized else _plain_setitem(push_out)}
    if not sized:
        ours["__delitem__"] = _plain_delitem
    for name, function in ours.items():
        method = instead(getattr(kind, name), getattr(base, name), function)
        if method:
            setattr(beneath, name, method)


def _counted_popitem(original: Any, counts: Counts) -> Any:
    pop_item = original.popitem
    evictions = 0

    def popitem(self: Any) -> Any:
        nonlocal evictions
        pair = pop_item(self)
        evictions += 1
        return pair

    counts.add(evictions=lambda: evictions, hits=(lambda: -evictions) if asks(original) else None)
    return popitem


def _shorter_popitem(original: Any, counts: Counts) -> Any:
    """As cachetools' own does it where keys wait in a row, and none expire; None for others."""
    kind = library_class(original)
    of_library = kind.popitem
    queue, timed = _queue(kind), "expire" in names_in(of_library)
    if not queue or timed or not hands_on(original, "popitem") or _calls_own(original):
        return None
    next_ones = operator.attrgetter(queue)
    evictions = 0

    def popitem(self: Any) -> Any:
        nonlocal evictions
        for key in next_ones(self):
            value = self._Cache__data[key]
            del self[key]
            evictions += 1
            return key, value
        return of_library(self)  # which says that it is empty

    counts.add(evictions=lambda: evictions)
    return popitem


def _queue(kind: Any) -> str | None:
    if kind is sys.modules["cachetools"].Cache:
        return "_Cache__data"
    named = names_in(kind.popitem)
    if "pop" in named and "_LFUCache__root" in named:
        return None  # one more use of what goes, which alters the order of the rest: cachetools 6.1 to 7.2
    return next((queue for queue in _QUEUES if queue.partition(".")[0] in named), None)


def _calls_own(original: Any) -> bool:
    """Whether cachetools' `popitem` calls methods that a class of somebody's own has, apart from `__delitem__`."""
    kind = library_class(original)
    named = names_in(kind.popitem)
    called = _CALLED if "pop" in named or kind is sys.modules["cachetools"].Cache else ()
    return any(own_methods(original, name) for name in (*called, "expire"))


def _plain_setitem(push_out: Any) -> Any:
    """As Cache does it where each entry counts as one."""

    def cache_setitem(self: Any, key: Any, value: Any) -> None:
        data = self._Cache__data
        if key in data:
            data[key] = value
            return
        maxsize = self._Cache__maxsize
        if maxsize < 1:
            raise ValueError("value too large")
        while self._Cache__currsize + 1 > maxsize:
            push_out(self)
        data[key] = value
        self._Cache__currsize += 1

    return cache_setitem


def _sized_setitem(push_out: Any) -> Any:
    """As Cache does it where entries have sizes."""
    base = sys.modules["cachetools"].Cache
    refuses, by_growth = _NEGATIVE in base.__setitem__.__code__.co_consts, _makes_room_by_growth(base)

    def cache_setitem(self: Any, key: Any, value: Any) -> None:
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
        data[key] = value
        sizes[key] = size
        self._Cache__currsize += growth

    def make_room(self: Any, key: Any, size: Any) -> Any:
        """For an entry that grows, which may itself be pushed out."""
        growth = size - self._Cache__size[key]
        room = growth if by_growth else size
        while self._Cache__currsize + room > self._Cache__maxsize:
            push_out(self)
            if key not in self._Cache__data:
                growth = room = size
        return growth

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


def _push_out(original: Any, counts: Counts, *, several: bool) -> Any:
    """What makes room in a store, where that is known; None where `popitem` is to do it.

    The store of a timed cache has just dropped what expired, which its `popitem` would do again, and nobody asks for
    the pair.
    """
    kind = library_class(original)
    queue, at_random = _queue(kind), "_RRCache__keys" in names_in(kind.popitem)
    if not (queue or at_random) or own_methods(original, "popitem") or _calls_own(original):
        return None
    next_ones = operator.attrgetter(queue or "_RRCache__keys")
    evictions = 0

    def push_out(self: Any) -> None:
        nonlocal evictions
        del self[next(iter(next_ones(self)))]
        evictions += 1

    def push_out_any(self: Any) -> None:
        nonlocal evictions
        del self[self._RRCache__choice(next_ones(self))]
        evictions += 1

    def tidy_up_and_push_out(self: Any) -> None:
        """As its `popitem`: a TLRUCache is iterated in the order of a heap, which depends on when it lost what."""
        self.expire(self.timer())
        push_out(self)

    counts.add(evictions=lambda: evictions)
    if at_random:
        return push_out_any
    return tidy_up_and_push_out if several and queue == "_TLRUCache__items" else push_out
