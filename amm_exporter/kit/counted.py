"""Counting for the cache classes of frameworks, which do not count themselves: Django's, Flask-Caching's, cachelib's.

    class Counted(CountedGets, LocMemCache):      # in shop/caches.py
        pass

    CACHES = {"default": {"BACKEND": "shop.caches.Counted"}}      # Django's settings
    amm.watch("default", Counted)

The class is watched, not an instance: Django makes one for each thread, and their look-ups belong together.
"""

from __future__ import annotations

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
