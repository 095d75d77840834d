"""The caches and pools a program asked to watch: by name, held weakly, read when somebody asks.

    registry.watch("users", lookup)      functools.lru_cache, cachetools, amm_exporter.kit, or anything with statistics
    registry.watch_all("myapp")          every lru_cache-decorated function in the loaded modules of a package

Statistics are read where the object has them; cachetools caches, which have none, are counted (`cache_counting`) from
`watch` to `unwatch`. How statistics look is known by `cache_stats`.
"""

from __future__ import annotations

import functools
import logging
import os
import reprlib
import types
import weakref
from dataclasses import dataclass, field, replace
from typing import Any

from amm_exporter.errors import AMMError, did_you_mean
from amm_exporter.probes import cache_counting
from amm_exporter.probes.cache_finding import decorated_functions, is_lru_cache, why_none
from amm_exporter.probes.cache_stats import (
    CACHE_NAMES,
    COUNTERS,
    METHODS,
    TAKES_NO_LOCK,
    CacheStats,
    PoolStats,
    parse_stats,
)

__all__ = ["CacheRegistry", "CacheStats", "PoolStats"]
log = logging.getLogger("amm.probes")

MAX_NAMES = 100
Stats = CacheStats | PoolStats
OVERFLOW_NAMES: dict[type[Stats], str] = {CacheStats: "_other", PoolStats: "_other_pools"}
COUNTED_HINT = (
    "; a class of Django's, Flask-Caching's or cachelib's counts with amm_exporter.kit.counted.CountedGets before it: "
    "watch that class (docs/caches.md)"
)


@dataclass(slots=True)
class _Watched:
    """One name. `past` is what was counted before the object started its counters anew, `latest` what was read last.

    A `crowded` one came when there were names enough: it is part of the sum, and stays so.
    """

    reference: weakref.ref[Any]
    crowded: bool = False
    latest: Stats | None = None
    last: dict[str, int] = field(default_factory=dict)
    past: dict[str, int] = field(default_factory=dict)
    failed: bool = False


class CacheRegistry:
    """Watched objects by name, MAX_NAMES at most shown; what lies beyond is summed up under `_other`.

    An object that nobody else holds disappears; of one in the sum its counts stay, since no sum may go back. A forked
    child counts from zero, so that the sum over all processes has every look-up once. An object whose statistics fail
    is left out, logged once, and named in `failed`.
    """

    def __init__(self, *, max_names: int = MAX_NAMES) -> None:
        self._max_names = max_names
        self._watched: dict[str, _Watched] = {}
        self._gone: dict[type[Stats], Stats] = {}
        self._follows_forks = False

    def watch(self, name: str, obj: Any) -> None:
        """Show `obj` under `name`. Raises AMMError for an object without statistics, and for a name in use."""
        obj = unbound(obj)
        if not isinstance(name, str) or not name or not can_be_written(name):
            raise AMMError(f"cannot watch under the name {name!r}; expected a text that is not empty")
        watched = self.objects().get(name)
        if watched is not None and watched is not obj:  # not by `==`: two empty caches are equal
            raise AMMError(f"cannot watch {name!r}: another cache has that name; unwatch({name!r}) first")
        check_watchable(name, obj)
        try:
            reference = weakref.ref(obj)
        except TypeError:
            raise AMMError(f"cannot watch {name!r}: a {type(obj).__name__} cannot be referenced weakly") from None
        if cache_counting.is_cachetools(obj):
            cache_counting.install(obj)
        if watched is None:
            own_names = sum(not watched.crowded for watched in list(self._watched.values()))
            self._watched[name] = _Watched(reference, crowded=own_names >= self._max_names)
        self._follow_forks()

    def watch_all(self, package: str) -> tuple[str, ...]:
        """Watch what `functools.lru_cache` or `functools.cache` decorates in the loaded modules of a package.

        Names are `module.function`. Found ones are returned; modules loaded later need another call. Raises AMMError
        for a package that is not there.
        """
        found = dict(decorated_functions(package))
        if not found:
            log.warning("nothing is watched in %r: %s", package, why_none(package))
        watched = self.objects()
        for name, function in found.items():
            if name not in watched:
                self.watch(name, function)
        return tuple(sorted(found))

    def unwatch(self, name: str) -> None:
        """Forget it and take counting away from it. Raises AMMError for an unknown name."""
        watched = self._watched.get(name)
        if watched is None:
            raise AMMError(f"nothing is watched under the name {name!r}; {did_you_mean(name, self._watched)}")
        obj = watched.reference()
        self._forget(name, watched)
        elsewhere = any(other.reference() is obj for other in list(self._watched.values()))
        if not elsewhere and cache_counting.is_cachetools(obj):
            cache_counting.remove(obj)

    def close(self) -> None:
        """Unwatch everything."""
        for name in list(self._watched):
            self.unwatch(name)
        self._gone.clear()

    def objects(self) -> dict[str, Any]:
        """The live objects by name, for actions on them. What is gone is forgotten, whether anybody reads or not."""
        live: dict[str, Any] = {}
        for name, watched in list(self._watched.items()):
            obj = watched.reference()
            if obj is None:
                self._forget(name, watched)
            else:
                live[name] = obj
        return live

    @property
    def failed(self) -> frozenset[str]:
        """Names whose statistics could not be read the last time."""
        return frozenset(name for name, watched in list(self._watched.items()) if watched.failed)

    def read(self) -> dict[str, Stats]:
        """Statistics of every live object. Counters never go back, though the object's own may (cache_clear())."""
        found: dict[str, Stats] = {}
        for name, watched in list(self._watched.items()):
            obj = watched.reference()
            if obj is None:
                self._forget(name, watched)
                continue
            stats = self._read_one(name, watched, obj)
            if stats:
                found[name] = watched.latest = rising(stats, watched)
        return self._bounded(found)

    def _forget(self, name: str, watched: _Watched) -> None:
        if self._watched.get(name) is not watched:
            return  # another thread was quicker, or another object has the name by now
        self._watched.pop(name, None)
        if watched.crowded and watched.latest is not None:
            kind = type(watched.latest)
            self._gone[kind] = added(self._gone.get(kind, kind()), kind(**counters(watched.latest)))

    def _bounded(self, found: dict[str, Stats]) -> dict[str, Stats]:
        """Those with a name of their own; the rest, and what is gone of it, added up, caches apart from pools."""
        shown, sums = {}, dict(self._gone)
        for name, stats in found.items():
            watched = self._watched.get(name)
            if watched is not None and watched.crowded:
                kind = type(stats)
                sums[kind] = added(sums[kind], stats) if kind in sums else stats
            else:
                shown[name] = stats
        return shown | {OVERFLOW_NAMES[kind]: stats for kind, stats in sums.items()}

    def _read_one(self, name: str, watched: _Watched, obj: Any) -> Stats | None:
        try:
            stats = read_stats(obj)
        except Exception as error:  # noqa: BLE001 - the statistics of a foreign object must not stop the others
            if not watched.failed:
                log.warning("cannot read the statistics of %r, they are absent until it works again: %s", name, error)
            watched.failed = True
            return None
        if stats is None and not watched.failed:
            log.warning("cannot read the statistics of %r, they are absent until it works again: %s", name, odd(obj))
        watched.failed = stats is None
        return stats

    def _follow_forks(self) -> None:
        """Once a registry, at the first watch: a fork handler cannot be taken back."""
        if not self._follows_forks and hasattr(os, "register_at_fork"):
            self._follows_forks = True
            os.register_at_fork(after_in_child=functools.partial(_start_over, weakref.ref(self)))

    def _start_over_in_child(self) -> None:
        """What was counted up to here is the parent's. Only counters that are read without a lock can be set off."""
        self._gone.clear()
        for watched in list(self._watched.values()):
            watched.latest = None
            obj = watched.reference()
            if is_lru_cache(obj) or cache_counting.is_cachetools(obj) or _takes_no_lock(obj):
                stats = read_stats(obj)
                watched.last = counters(stats) if stats else {}
                watched.past = {name: -value for name, value in watched.last.items()}


def _start_over(reference: weakref.ref[CacheRegistry]) -> None:
    registry = reference()
    if registry is not None:
        registry._start_over_in_child()


def _takes_no_lock(obj: Any) -> bool:
    """By its class, or itself if it is one: what an object makes of the question is not to be run in a forked child."""
    kind = type(obj)
    return getattr(obj if issubclass(kind, type) else kind, TAKES_NO_LOCK, False) is True


def unbound(obj: Any) -> Any:
    """A bound method is made anew at each access; what it is bound from stays."""
    return obj.__func__ if isinstance(obj, types.MethodType) else obj


def check_watchable(name: str, obj: Any) -> None:
    """Refuse what has no statistics. What fails for the moment (a server that is down) may be watched."""
    if not cache_counting.is_cachetools(obj) and not any(callable(getattr(obj, method, None)) for method in METHODS):
        raise AMMError(
            f"cannot watch {name!r}: got a {type(obj).__name__}, which has no statistics; expected a "
            f"functools.lru_cache function, a cachetools cache, an amm_exporter.kit object, or one with a method "
            f"{' or '.join(f'{method}()' for method in METHODS)}{hint(obj)}"
        )


def can_be_written(name: str) -> bool:
    """In UTF-8, as metrics are. The name of a file may hold bytes that are none (os.fsdecode)."""
    return name.isascii() or name == name.encode(errors="replace").decode()


def hint(obj: Any) -> str:
    """What to watch instead, where that is known."""
    if cache_counting.is_cachetools(getattr(obj, "cache", None)):  # decorated by cachetools
        return "; watch its attribute `cache`"
    return COUNTED_HINT if all(callable(getattr(obj, method, None)) for method in ("get", "set")) else ""


def read_stats(obj: Any) -> Stats | None:
    if cache_counting.is_cachetools(obj):
        return cache_counting.read(obj)
    if is_lru_cache(obj):
        info = obj.cache_info()
        return CacheStats(hits=info.hits, misses=info.misses, entries=info.currsize, max_entries=info.maxsize)
    return parse_stats(asked(obj)[1])


def asked(obj: Any) -> tuple[str, object]:
    """The method that tells the statistics, and what it answers."""
    for method in METHODS:
        statistics = getattr(obj, method, None)
        if callable(statistics):
            return method, statistics()
    return METHODS[0], None


def odd(obj: Any) -> str:
    """What is wrong with an answer that is not understood. Never raises."""
    try:
        method, answer = asked(obj)
        told = reprlib.repr(answer)
    except Exception as error:  # noqa: BLE001 - a foreign object's own method or repr
        return str(error)
    return (
        f"{type(obj).__name__}.{method}() returned {told}; expected a mapping with {', '.join(CACHE_NAMES)} or some of "
        f"them: add a method {METHODS[0]}() that returns one (docs/caches.md)"
    )


def counters(stats: Stats) -> dict[str, int]:
    values = ((name, getattr(stats, name, None)) for name in COUNTERS)
    return {name: value for name, value in values if value is not None}


def rising(stats: Stats, watched: _Watched) -> Stats:
    """The same with counters that go on where the object began again from zero."""
    now = counters(stats)
    if any(value < watched.last.get(name, 0) for name, value in now.items()):  # one went back: all began again
        for name, value in watched.last.items():
            watched.past[name] = watched.past.get(name, 0) + value
    watched.last = now
    risen: dict[str, Any] = {name: max(0, value + watched.past.get(name, 0)) for name, value in now.items()}
    return replace(stats, **risen)


def added(one: Stats, other: Stats) -> Stats:
    """The sum, field by field; what only one of them knows stays."""
    total = {}
    for name in one.__slots__:
        values = [value for value in (getattr(one, name), getattr(other, name)) if value is not None]
        total[name] = sum(values) if values else None
    return type(one)(**total)
