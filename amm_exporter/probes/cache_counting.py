"""Counting hits, misses and evictions of a cachetools cache, which does not count itself.

Special methods are looked up on the class, so the cache is given a class of its own: a subclass made for it, taken away
again at the end. From Python 3.11 on an object that changed its class has lost the quick ways to what it holds; what
that costs a store, `cache_stores` makes up for. `python -m benchmarks.counting` shows what is left. An unwatched cache
costs nothing.
"""

from __future__ import annotations

import copyreg
import sys
from typing import Any

from amm_exporter.probes import cache_methods, cache_stores
from amm_exporter.probes.cache_counts import Counts, library_class
from amm_exporter.probes.cache_stats import CacheStats


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
            cache.__class__ = counting_class(cache)
        except TypeError:
            return
        # Its attributes then lie in a dict that no bytecode is specialised for (PEP 659), 300 to 400 ns more for each
        # eviction, until it has a dict of its own. No call in this line: no other thread runs within it.
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


def counting_class(cache: Any) -> type:
    """A subclass that counts. A miss is what reaches `__missing__`, an eviction what `popitem` takes out."""
    original: Any = type(cache)
    counts = Counts(original)
    kind: Any = library_class(original)

    class Beneath(kind):  # type: ignore[misc]  # a class of cachetools; `super()` of somebody's own class leads here
        pass

    class Counting(*((Beneath,) if original is kind else (original, Beneath))):  # type: ignore[misc]  # of either
        _amm_counts = counts

        def __reduce_ex__(self, protocol: Any) -> Any:
            """Copies and pickles are of the original class, and need no AMM to be loaded."""
            _, _, *state = super().__reduce_ex__(2)
            return (copyreg._reconstructor, (original, object, None), *state)  # type: ignore[attr-defined]  # not in its stub

    if hasattr(original, "__copy__"):
        Counting.__copy__ = _copy_as(original)  # as in cachetools 7
    cache_methods.count_look_ups(Counting, Beneath, counts)
    cache_stores.count_evictions(Counting, Beneath, cache, counts)
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
