"""Look-ups of cachetools' caches with counting in them, where they are the known ones of cachetools 4 to 8.

A class with methods of its own keeps them: those that go on to cachetools' by `super()` are counted there, the others
from outside. Stores are in `cache_stores`.
"""

from __future__ import annotations

import sys
import types
from typing import Any

from amm_exporter.probes.cache_counts import Counts, Reader, hands_on, library_class, names_in

_LOOK_UP = {"_Cache__data", "KeyError", "__missing__"}
"""What Cache.__getitem__ refers to in cachetools 4 to 8. One that refers to anything else is counted from outside."""


def count_look_ups(counting: Any, beneath: Any, counts: Counts) -> None:
    """Count within cachetools' own methods where they are known: a detour costs 50 ns, or 130 if KeyError takes it.

    `beneath` is the class that stands between a class of somebody's own and that of cachetools.
    """
    library: Any = sys.modules["cachetools"]
    original: Any = counts.original
    kind, base = library_class(original), library.Cache
    within, looks = _look(original.__missing__, counts)
    known = names_in(base.__getitem__) == _LOOK_UP and hands_on(original, "__getitem__")
    method = instead(kind.__getitem__, base.__getitem__, within) if known else None
    if method:
        beneath.__getitem__ = method
    else:
        counting.__getitem__, looks = _detour(original.__getitem__, counts)
    counting.__missing__, misses = _missing(original.__missing__, counts, asked=method is None)
    make_get = {base.get: _plain_get, library.TTLCache.get: _timed_get}.get(kind.get)
    if make_get and hands_on(original, "get"):
        beneath.get = make_get(counting.__getitem__, counts)
    else:
        counting.get = _own_get(original.get, lambda: looks() + misses(), counts)


def instead(own: Any, of_cache: Any, ours: Any) -> Any:
    """A method over `ours` instead of that of Cache, which cachetools' classes take as a default argument.

    None where it is made in another way.
    """
    if own is of_cache:
        return ours
    if getattr(own, "__defaults__", None) != (of_cache,):
        return None
    return types.FunctionType(own.__code__, own.__globals__, own.__name__, (ours,), own.__closure__)


def _look(missing: Any, counts: Counts) -> tuple[Any, Reader]:
    """As Cache does it; what is not there is counted here, too, which spares KeyError a detour."""
    raises = missing is sys.modules["cachetools"].Cache.__missing__
    hits = misses = 0

    def cache_getitem(self: Any, key: Any) -> Any:
        nonlocal hits, misses
        try:
            value = self._Cache__data[key]
        except KeyError:
            misses += 1
            if raises:
                raise KeyError(key)  # noqa: B904 - as `__missing__` does, called from here
            return missing(self, key)
        hits += 1
        return value

    counts.add(hits=lambda: hits, misses=lambda: misses)
    return cache_getitem, lambda: hits + misses


def _detour(get_item: Any, counts: Counts) -> tuple[Any, Reader]:
    asked = 0

    def getitem(self: Any, key: Any) -> Any:
        nonlocal asked
        asked += 1
        return get_item(self, key)

    counts.add(hits=lambda: asked)
    return getitem, lambda: asked


def _missing(missing: Any, counts: Counts, *, asked: bool) -> tuple[Any, Reader]:
    """What is found missing elsewhere: expired, say. `asked`: it was counted as if it were there."""
    misses = 0

    def plain(self: Any, key: Any) -> Any:
        nonlocal misses
        misses += 1
        raise KeyError(key)

    def own(self: Any, key: Any) -> Any:
        nonlocal misses
        misses += 1
        return missing(self, key)

    counts.add(misses=lambda: misses, hits=(lambda: -misses) if asked else None)
    is_plain = missing is sys.modules["cachetools"].Cache.__missing__
    return plain if is_plain else own, lambda: misses


def _plain_get(get_item: Any, counts: Counts) -> Any:
    misses = 0

    def get(self: Any, key: Any, default: Any = None) -> Any:
        nonlocal misses
        if key in self:
            return get_item(self, key)
        misses += 1
        return default

    counts.add(misses=lambda: misses)
    return get


def _timed_get(get_item: Any, counts: Counts) -> Any:
    """The same for caches with a clock, which stands still between the two looks."""
    misses = 0

    def get(self: Any, key: Any, default: Any = None) -> Any:
        nonlocal misses
        with self.timer:
            if key in self:
                return get_item(self, key)
        misses += 1
        return default

    counts.add(misses=lambda: misses)
    return get


def _own_get(own: Any, looks: Reader, counts: Counts) -> Any:
    """One that does without `super()`: what it answered without a look is not there."""
    misses = 0

    def get(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal misses
        before = looks()
        value = own(self, *args, **kwargs)
        if looks() == before:
            misses += 1
        return value

    counts.add(misses=lambda: misses)
    return get
