"""Counting for the cache classes of frameworks, which do not count themselves: Django's, Flask-Caching's, cachelib's.

    class Counted(CountedGets, LocMemCache):      # in shop/caches.py
        pass

    CACHES = {"default": {"BACKEND": "shop.caches.Counted"}}      # Django's settings
    amm.watch("default", Counted)

The class is watched, not an instance: Django makes one for each thread, and their look-ups belong together.
"""

from __future__ import annotations

import inspect
from itertools import count
from typing import Any, ClassVar

from amm_exporter.kit.cache import counted
from amm_exporter.probes.cache_stats import CacheStats


class CountedGets:
    """To be inherited from before a class with `get(key)` or `get(key, default, ...)`: counts what it finds.

    What is the default (None, unless one is given) counts as a miss. A back end's own `get_many` that does not
    go through `get` is not counted.
    """

    amm_stats_takes_no_lock = True
    _amm_hits: ClassVar[count[int]]
    _amm_misses: ClassVar[count[int]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._amm_hits, cls._amm_misses = count(), count()
        before = cls.__mro__[: cls.__mro__.index(CountedGets)]
        gets = [kind for kind in before if "get" in vars(kind)]
        ours = [kind for kind in gets if getattr(vars(kind)["get"], "__module__", None) == __name__]
        exact = _exact_get(getattr(super(), "get", None), cls._amm_hits, cls._amm_misses)
        if exact and gets == ours:
            cls.get = exact  # type: ignore[method-assign]  # takes what the back end takes
        else:  # what this class's own `get` asks for by `super()` counts for this class
            for kind in ours:
                del kind.get  # type: ignore[attr-defined]  # put there above

    def get(self, key: Any, *args: Any, **kwargs: Any) -> Any:
        backend: Any = super()
        value = backend.get(key, *args, **kwargs)
        default = args[0] if args else kwargs.get("default")
        next(self._amm_misses if value is default else self._amm_hits)
        return value

    @classmethod
    def amm_stats(cls) -> CacheStats:
        """Look-ups by all instances since the class was made. Takes no lock."""
        return CacheStats(hits=counted(cls._amm_hits), misses=counted(cls._amm_misses))


def _exact_get(backend: Any, hits: count[int], misses: count[int]) -> Any:
    """The same as CountedGets.get at a quarter of its cost, for Django's back ends and cachelib's; None for others."""

    def django_get(self: Any, key: Any, default: Any = None, version: Any = None) -> Any:
        value = backend(self, key, default, version)
        next(misses if value is default else hits)
        return value

    def cachelib_get(self: Any, key: Any) -> Any:
        value = backend(self, key)
        next(misses if value is None else hits)
        return value

    taken = _parameters(backend)
    return next((get for get in (django_get, cachelib_get) if _parameters(get) == taken), None)


def _parameters(method: Any) -> list[tuple[str, Any]]:
    if not inspect.isfunction(method):
        return []
    return [(parameter.name, parameter.default) for parameter in inspect.signature(method).parameters.values()]
