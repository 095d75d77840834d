"""The methods of cachetools' classes with counting in them, where they are the known ones of cachetools 5 to 8.

A class with methods of its own keeps them, and what they call is counted on the way: see `cache_counting`.
"""

from __future__ import annotations

import operator
import sys
import types
from typing import Any

_STORE = {
    *("_Cache__currsize", "_Cache__data", "_Cache__maxsize", "_Cache__size"),
    *("ValueError", "getsizeof", "popitem"),
}
_DELETE = {"_Cache__currsize", "_Cache__data", "_Cache__size", "pop"}
_LOOK_UP = {"_Cache__data", "KeyError", "__missing__"}
"""What the methods of Cache refer to in cachetools 5 to 8. One that refers to anything else is not replaced."""
_QUEUES = {"_TTLCache__links", "_TLRUCache__items"}
"""Where a timed cache keeps its keys, the next to leave first."""
_OWN_WAYS = {"_Cache__size", "popitem"}
"""Attributes of a cache whose entries have sizes, or that pushes out in another way."""


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


def take_short_cuts(counting: Any, original: Any, counts: Counts) -> None:
    """Where cachetools' own methods are known, count within them: a detour costs 50 ns, or 100 if KeyError takes it."""
    library: Any = sys.modules["cachetools"]
    base = library.Cache
    if original.__missing__ is base.__missing__:
        counting.__missing__ = _plain_missing(counts)
    get_item = _direct_getitem(original.__getitem__, base.__getitem__, counting.__missing__, counts)
    if get_item is None:
        return
    counts.direct = True
    counting.__getitem__ = get_item
    if original.get is base.get:
        counting.get = _plain_get(get_item, counts)
    elif original.get is library.TTLCache.get:
        counting.get = _timed_get(get_item, counts)


def shorten_stores(counting: Any, cache: Any, counts: Counts) -> None:
    """Make up for what stores lose by the change of class, which is more than counting costs.

    From Python 3.11 on, methods, properties and class attributes are slow to find through such an object, 15 to 35 ns
    each, and a store asks for half a dozen. Where each entry counts as one it can do without most, and the clock of a
    timed cache may stand on the class, which has no other instance.
    """
    library: Any = sys.modules["cachetools"]
    base, original = library.Cache, type(cache)
    if getattr(original, "timer", None) is library.TTLCache.timer:
        counting.timer = cache.timer
    known = _names_in(base.__setitem__) == _STORE and _names_in(base.__delitem__) == _DELETE
    if not known or vars(cache).keys() & _OWN_WAYS:
        return
    for name, ours in (("__setitem__", _plain_setitem(original, counts)), ("__delitem__", _plain_delitem)):
        method = _instead(getattr(original, name), getattr(base, name), ours)
        if method:
            setattr(counting, name, method)


def asks(original: Any) -> bool:
    """Whether `popitem` looks up what it takes out, which is no hit: before cachetools 7.1, and in a plain Cache."""
    own = [vars(owner)["popitem"] for owner in original.__mro__ if "popitem" in vars(owner)]
    last = next(method for method in own if "popitem" not in _names_in(method))  # the others call the next one's
    return "pop" in _names_in(last) or last is sys.modules["cachetools"].Cache.popitem


def _direct_getitem(own: Any, base_getitem: Any, missing: Any, counts: Counts) -> Any:
    """A class's own `__getitem__` over one of Cache that counts hits; None where it is made in another way."""
    if _names_in(base_getitem) != _LOOK_UP:
        return None

    def cache_getitem(self: Any, key: Any) -> Any:
        try:
            value = self._Cache__data[key]
        except KeyError:
            return missing(self, key)
        counts.asked += 1
        return value

    return _instead(own, base_getitem, cache_getitem)


def _instead(own: Any, of_cache: Any, ours: Any) -> Any:
    """A class's own method over `ours` instead of that of Cache, which cachetools' classes take as a default argument.

    None where it is made in another way.
    """
    if own is of_cache:
        return ours
    if getattr(own, "__defaults__", None) != (of_cache,):
        return None
    return types.FunctionType(own.__code__, own.__globals__, own.__name__, (ours,), own.__closure__)


def _names_in(function: Any) -> set[str]:
    """What a function written in Python refers to: attributes and globals."""
    code = getattr(function, "__code__", None)
    return set(code.co_names) if code else set()


def _plain_missing(counts: Counts) -> Any:
    def missing(self: Any, key: Any) -> Any:
        counts.misses += 1
        raise KeyError(key)

    return missing


def _plain_setitem(original: Any, counts: Counts) -> Any:
    """As Cache does it where each entry counts as one; what is pushed out is counted."""
    push_out, asked = _push_out(original)

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
            counts.evictions += 1
            if asked:
                counts.asked -= 1
        data[key] = value
        self._Cache__currsize += 1

    return cache_setitem


def _push_out(original: Any) -> tuple[Any, bool]:
    """What makes room in a store, and whether it looks up what goes.

    The store of a timed cache has just dropped what expired, which its `popitem` would do again; the rest is one line,
    as in a plain Cache. A class of somebody else may watch for what `popitem` calls, and has it called.
    """
    plain = original is sys.modules["cachetools"].Cache
    queues = {"_Cache__data"} if plain else _QUEUES & _names_in(original.popitem)
    if not queues or original.__module__ != "cachetools":
        return original.popitem, asks(original)
    queue = operator.attrgetter(*queues)

    def push_out(self: Any) -> None:
        del self[next(iter(queue(self)))]

    return push_out, False


def _plain_delitem(self: Any, key: Any) -> None:
    """As Cache does it where each entry counts as one."""
    del self._Cache__data[key]
    self._Cache__currsize -= 1


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
