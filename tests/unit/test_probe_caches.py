"""Watched caches and pools: the real libraries, and an independent count of what was asked of them."""

from __future__ import annotations

import copy
import functools
import gc
import logging
import os
import pickle
import random
import sys
import threading
import types
from dataclasses import dataclass
from typing import Any, NamedTuple

import cachetools
import pytest
from hurried import run_together

from amm_exporter.errors import AMMError
from amm_exporter.probes.cache_finding import decorated_functions
from amm_exporter.probes.cache_stats import CacheStats, PoolStats, parse_stats
from amm_exporter.probes.caches import CacheRegistry

CACHES: dict[str, Any] = {
    "Cache": lambda: cachetools.Cache(4),
    "FIFOCache": lambda: cachetools.FIFOCache(4),
    "LFUCache": lambda: cachetools.LFUCache(4),
    "LRUCache": lambda: cachetools.LRUCache(4),
    "RRCache": lambda: cachetools.RRCache(4),
    "TTLCache": lambda: cachetools.TTLCache(4, 60),
    "TLRUCache": lambda: cachetools.TLRUCache(4, lasting),
}


def lasting(key: object, value: object, now: float) -> float:
    return now + 60


@functools.lru_cache(maxsize=3)
def square(number: int) -> int:
    return number * number


def cache_stats(registry: CacheRegistry, name: str) -> CacheStats:
    stats = registry.read()[name]
    assert isinstance(stats, CacheStats)
    return stats


@pytest.fixture
def registry() -> Any:
    registry = CacheRegistry()
    yield registry
    registry.close()
    square.cache_clear()


def test_lru_cache_is_read_as_it_is(registry: CacheRegistry) -> None:
    registry.watch("square", square)
    for number in (1, 2, 1, 1):
        square(number)
    assert registry.read() == {"square": CacheStats(hits=2, misses=2, entries=2, max_entries=3)}
    assert cache_stats(registry, "square").hit_ratio == 0.5


def test_an_unused_cache_has_no_hit_ratio(registry: CacheRegistry) -> None:
    registry.watch("square", square)
    assert cache_stats(registry, "square").hit_ratio is None


def test_counters_do_not_go_back_when_a_cache_is_cleared(registry: CacheRegistry) -> None:
    registry.watch("square", square)
    for number in (1, 1, 2):
        square(number)
    registry.read()
    square.cache_clear()
    square(5)
    stats = cache_stats(registry, "square")
    assert (stats.hits, stats.misses, stats.entries) == (1, 3, 1)
    square.cache_clear()
    stats = cache_stats(registry, "square")
    assert (stats.hits, stats.misses, stats.entries) == (1, 3, 0)


def test_a_cached_method_is_watched_through_an_instance(registry: CacheRegistry) -> None:
    class Service:
        @functools.lru_cache  # noqa: B019 - the very case
        def load(self) -> int:
            return 1

    service = Service()
    registry.watch("load", Service.load)
    service.load()
    assert cache_stats(registry, "load").misses == 1


@pytest.mark.parametrize("make", CACHES.values(), ids=CACHES.keys())
def test_a_cachetools_cache_is_counted(registry: CacheRegistry, make: Any) -> None:
    cache = make()
    registry.watch("c", cache)
    for key in range(4):
        cache[key] = key
    assert [cache[0], cache.get(1), cache.get(2, "x"), cache.get(99), cache.get(98, "y")] == [0, 1, 2, None, "y"]
    with pytest.raises(KeyError):
        cache[97]
    assert registry.read() == {"c": CacheStats(hits=3, misses=3, entries=4, max_entries=4, evictions=0)}


@pytest.mark.parametrize("make", CACHES.values(), ids=CACHES.keys())
def test_what_a_full_cache_pushes_out_is_counted_and_is_no_hit(registry: CacheRegistry, make: Any) -> None:
    cache = make()
    registry.watch("c", cache)
    for key in range(10):
        cache[key] = key
    assert registry.read() == {"c": CacheStats(hits=0, misses=0, entries=4, max_entries=4, evictions=6)}


def make_timed(size: Any, now: list[float], seed: int) -> dict[str, Any]:
    """One cache of each class, to be made the same twice; time is `now[0]`."""
    clock: Any = {"timer": lambda: now[0], "getsizeof": size}
    choose = random.Random(seed).choice
    return {
        "Cache": cachetools.Cache(5, getsizeof=size),
        "FIFOCache": cachetools.FIFOCache(5, getsizeof=size),
        "LFUCache": cachetools.LFUCache(5, getsizeof=size),
        "LRUCache": cachetools.LRUCache(5, getsizeof=size),
        "RRCache": cachetools.RRCache(5, choice=choose, getsizeof=size),
        "TTLCache": cachetools.TTLCache(5, 9, **clock),
        "TLRUCache": cachetools.TLRUCache(5, lambda key, value, then: then + key, **clock),
    }


def attempt(method: Any, *arguments: Any) -> Any:
    try:
        return method(*arguments)
    except (KeyError, ValueError) as error:
        return repr(error)


STEPS: dict[str, Any] = {
    "look": lambda cache, key, value: cache[key],
    "get": lambda cache, key, value: cache.get(key),
    "store": lambda cache, key, value: cache.__setitem__(key, value),
    "store too": lambda cache, key, value: cache.__setitem__(key, value),
    "setdefault": lambda cache, key, value: cache.setdefault(key, value),
    "pop": lambda cache, key, value: cache.pop(key, None),
    "popitem": lambda cache, key, value: cache.popitem(),
    "delete": lambda cache, key, value: cache.__delitem__(key),
    "update": lambda cache, key, value: cache.update({key: value, key + 1: 1}),
    "clear": lambda cache, key, value: cache.clear() if key == 0 else len(cache),
}


def with_own_methods(kind: Any) -> Any:
    """The class with methods of its own, which tell that they were called and go on to those of cachetools."""

    class Own(kind):  # type: ignore[misc]  # any of them
        @property
        def told(self) -> list[str]:
            told: list[str] = vars(self).setdefault("_told", [])
            return told

        def __getitem__(self, key: Any) -> Any:
            self.told.append(f"getitem {key}")
            return super().__getitem__(key)

        def __missing__(self, key: Any) -> Any:
            self.told.append(f"missing {key}")
            return super().__missing__(key)

        def __contains__(self, key: Any) -> bool:
            self.told.append(f"contains {key}")
            return bool(super().__contains__(key))

        def __setitem__(self, key: Any, value: Any) -> None:
            self.told.append(f"setitem {key}")
            super().__setitem__(key, value)

        def __delitem__(self, key: Any) -> None:
            self.told.append(f"delitem {key}")
            super().__delitem__(key)

        def get(self, key: Any, default: Any = None) -> Any:
            self.told.append(f"get {key}")
            return super().get(key, default)

        def pop(self, key: Any, *default: Any) -> Any:
            self.told.append(f"pop {key}")
            return super().pop(key, *default)

        def popitem(self) -> Any:
            self.told.append("popitem")
            return super().popitem()

    return Own


def of_its_own(cache: Any) -> Any:
    cache.__class__ = with_own_methods(type(cache))
    return cache


@pytest.mark.parametrize("own", [lambda cache: cache, of_its_own], ids=["cachetools", "own"])
@pytest.mark.parametrize("size", [None, lambda value: value], ids=["count", "size"])
@pytest.mark.parametrize("name", CACHES)
def test_a_watched_cache_does_what_an_unwatched_one_does(
    registry: CacheRegistry, name: str, size: Any, own: Any
) -> None:
    """Whatever is asked of both, in whatever order; entries expire meanwhile, and some are too large."""
    now, steps = [0.0], random.Random(7)
    plain, watched = (own(make_timed(size, now, 3)[name]) for _ in range(2))
    registry.watch("c", watched)
    for _ in range(3_000):
        now[0] += steps.choice([0, 0, 1])
        step, key, value = steps.choice(list(STEPS)), steps.randrange(12), steps.randrange(-1, 8)
        assert attempt(STEPS[step], watched, key, value) == attempt(STEPS[step], plain, key, value), step
        assert (list(watched), watched.currsize) == (list(plain), plain.currsize), step
    assert vars(watched).get("_told") == vars(plain).get("_told")
    registry.unwatch("c")
    assert vars(watched).keys() == vars(plain).keys()


@pytest.mark.parametrize("own", [lambda cache: cache, of_its_own], ids=["cachetools", "own"])
@pytest.mark.parametrize("size", [None, lambda value: value], ids=["count", "size"])
@pytest.mark.parametrize("name", CACHES)
def test_every_look_and_every_entry_pushed_out_is_counted_once(
    registry: CacheRegistry, name: str, size: Any, own: Any
) -> None:
    now, steps = [0.0], random.Random(11)
    cache = own(make_timed(size, now, 3)[name])
    registry.watch("c", cache)
    hits = misses = left = 0
    for _ in range(2_000):
        key, stored = steps.randrange(12), len(cache)
        if steps.random() < 0.5:
            present = key in cache
            cache.get(key) if steps.random() < 0.5 else attempt(cache.__getitem__, key)
            hits, misses = hits + present, misses + (not present)
        else:
            new = key not in cache
            cache[key] = 1
            left += stored + (new and key in cache) - len(cache)
    stats = cache_stats(registry, "c")
    assert (stats.hits, stats.misses, stats.evictions) == (hits, misses, left)
    assert left > 100


class Explicit(cachetools.LRUCache):  # type: ignore[type-arg]
    """Names the class it is made from, as before there was `super()`."""

    def __getitem__(self, key: Any) -> Any:
        return cachetools.LRUCache.__getitem__(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        cachetools.LRUCache.__setitem__(self, key, value)

    def get(self, key: Any, default: Any = None) -> Any:
        return cachetools.LRUCache.get(self, key, default)

    def popitem(self) -> Any:
        return cachetools.LRUCache.popitem(self)


class Catching(cachetools.LRUCache):  # type: ignore[type-arg]
    def get(self, key: Any, default: Any = None) -> Any:
        try:
            return self[key]
        except KeyError:
            return default


class Glancing(cachetools.LRUCache):  # type: ignore[type-arg]
    def get(self, key: Any, default: Any = None, *, touch: bool = True) -> Any:
        return self[key] if touch and key in self else default


class Slotted(cachetools.LRUCache):  # type: ignore[type-arg]
    __slots__ = ("seen",)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.seen = key
        super().__setitem__(key, value)


class Loud:
    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key)  # type: ignore[misc]  # a mixin


class Mixed(Loud, cachetools.LRUCache):  # type: ignore[type-arg]
    pass


@pytest.mark.parametrize(
    "kind",
    [with_own_methods(cachetools.LRUCache), Explicit, Catching, Glancing, Slotted, Mixed],
    ids=lambda k: k.__name__,
)
@pytest.mark.parametrize("size", [None, len], ids=["count", "size"])
def test_a_class_with_methods_of_its_own_keeps_them_and_is_counted(
    registry: CacheRegistry, kind: Any, size: Any
) -> None:
    cache = kind(2, getsizeof=size)
    registry.watch("c", cache)
    for key in range(3):
        cache[key] = str(key)
    assert (cache[2], cache.get(1), cache.get(7), cache.get(8, "x")) == ("2", "1", None, "x")
    with pytest.raises(KeyError, match="0"):
        cache[0]
    stats = cache_stats(registry, "c")
    assert (stats.hits, stats.misses, stats.entries, stats.evictions) == (2, 3, 2, 1)
    assert type(copy.copy(cache)) is kind
    registry.unwatch("c")
    assert type(cache) is kind


@pytest.mark.parametrize("base", [cachetools.Cache, cachetools.LRUCache, cachetools.TTLCache])
def test_a_class_that_tells_what_it_pushes_out_goes_on_telling(registry: CacheRegistry, base: Any) -> None:
    class Telling(base):  # type: ignore[misc]  # any of them
        def popitem(self) -> Any:
            pair = super().popitem()
            told.append(pair)
            return pair

    told: list[tuple[int, int]] = []
    cache = Telling(2, 60) if base is cachetools.TTLCache else Telling(2)
    registry.watch("c", cache)
    for key in range(5):
        cache[key] = key
    assert told == [(0, 0), (1, 1), (2, 2)]
    assert registry.read() == {"c": CacheStats(hits=0, misses=0, entries=2, max_entries=2, evictions=3)}


def test_a_timed_class_that_watches_for_expiry_is_asked_as_often(registry: CacheRegistry) -> None:
    class Watching(cachetools.TTLCache):
        def expire(self, time: Any = None) -> Any:
            self.looks = getattr(self, "looks", 0) + 1
            return super().expire(time)

    watched, plain = Watching(2, 60), Watching(2, 60)
    registry.watch("c", watched)
    for cache in (watched, plain):
        cache.update({key: key for key in range(5)})
    assert watched.looks == plain.looks > 5


def test_what_has_expired_is_a_miss(registry: CacheRegistry) -> None:
    now = [0.0]
    cache = cachetools.TTLCache(4, 10, timer=lambda: now[0])
    registry.watch("c", cache)
    cache["a"] = 1
    assert cache["a"] == cache.get("a") == 1
    now[0] = 11.0
    assert cache.get("a") is None
    with pytest.raises(KeyError):
        cache["a"]
    stats = cache_stats(registry, "c")
    assert (stats.hits, stats.misses) == (2, 2)


def test_an_empty_cache_has_nothing_to_push_out(registry: CacheRegistry) -> None:
    for name, make in CACHES.items():
        cache = make()
        registry.watch(name, cache)
        with pytest.raises(KeyError):
            cache.popitem()
        assert cache_stats(registry, name).evictions == 0


def test_a_computing_cache_counts_a_miss_once(registry: CacheRegistry) -> None:
    class Squares(cachetools.LRUCache):
        def __missing__(self, key: int) -> int:
            self[key] = key * key
            return self[key] if False else key * key

    cache = Squares(4)
    registry.watch("c", cache)
    assert [cache[3], cache[3]] == [9, 9]
    stats = cache_stats(registry, "c")
    assert (stats.hits, stats.misses) == (1, 1)


def test_a_function_decorated_by_cachetools_counts_through_its_cache(registry: CacheRegistry) -> None:
    cache: Any = cachetools.LRUCache(4)
    calls = []

    @cachetools.cached(cache, lock=threading.Lock())
    def load(key: int) -> int:
        calls.append(key)
        return key

    registry.watch("c", cache)
    for key in (1, 2, 1, 1):
        load(key)
    stats = cache_stats(registry, "c")
    assert (stats.hits, stats.misses, calls) == (2, 2, [1, 2])


def test_a_decorated_function_with_info_tells_itself(registry: CacheRegistry) -> None:
    @cachetools.cached(cachetools.LRUCache(4), info=True)
    def load(key: int) -> int:
        return key

    registry.watch("load", load)
    for key in (1, 1):
        load(key)
    assert registry.read() == {"load": CacheStats(hits=1, misses=1, entries=1, max_entries=4)}


def test_reading_does_not_make_a_timed_cache_drop_what_expired(registry: CacheRegistry) -> None:
    """The scrape runs in another thread, and cachetools caches are not safe to change from there."""
    now = [0.0]
    cache = cachetools.TTLCache(4, 10, timer=lambda: now[0])
    cache["a"] = 1
    registry.watch("c", cache)
    now[0] = 11.0
    assert cache_stats(registry, "c").entries == 1
    assert "a" not in cache


@pytest.mark.parametrize(
    ("sizer", "size", "entries"),
    [(len, 5, None), (sys.getsizeof, sys.getsizeof(b"12345"), None), (lambda x: 2, None, None)],
)
def test_sizes_are_told_where_they_are_bytes(registry: CacheRegistry, sizer: Any, size: Any, entries: Any) -> None:
    cache = cachetools.LRUCache(1000, getsizeof=sizer)
    cache["a"] = b"12345"
    registry.watch("c", cache)
    stats = cache_stats(registry, "c")
    assert (stats.size_bytes, stats.max_entries, stats.entries) == (size, entries, 1)


def test_unwatch_leaves_the_cache_as_it_was(registry: CacheRegistry) -> None:
    cache = cachetools.LRUCache(4)
    cache["a"] = 1
    attributes = dict(vars(cache))
    registry.watch("c", cache)
    registry.unwatch("c")
    assert type(cache) is cachetools.LRUCache
    assert vars(cache) == attributes
    assert registry.read() == {}


@pytest.mark.parametrize("kind", [cachetools.LRUCache, Mixed])
def test_unwatch_leaves_no_class_behind(registry: CacheRegistry, kind: Any) -> None:
    gc.collect()
    before = cachetools.LRUCache.__subclasses__(), kind.__subclasses__()
    cache = kind(4)
    registry.watch("c", cache)
    registry.unwatch("c")
    gc.collect()
    assert (cachetools.LRUCache.__subclasses__(), kind.__subclasses__()) == before


@pytest.mark.parametrize("name", CACHES)
def test_a_watched_cache_prints_copies_and_pickles_as_its_own_class(registry: CacheRegistry, name: str) -> None:
    kind, cache = getattr(cachetools, name), CACHES[name]()
    cache["a"] = 1
    registry.watch("c", cache)
    assert repr(cache).startswith(f"{name}(")
    assert isinstance(cache, kind)
    for twin in (copy.copy(cache), pickle.loads(pickle.dumps(cache))):
        assert type(twin) is kind
        assert vars(twin).keys() == vars(cache).keys()
        assert twin["a"] == 1


def test_what_holds_nothing_refuses_while_it_is_watched(registry: CacheRegistry) -> None:
    cache = cachetools.LRUCache(0)
    registry.watch("c", cache)
    with pytest.raises(ValueError, match="value too large"):
        cache["a"] = 1
    assert cache_stats(registry, "c").evictions == 0


def test_a_cache_under_two_names_is_counted_until_the_last_one_goes(registry: CacheRegistry) -> None:
    cache = cachetools.LRUCache(4)
    registry.watch("one", cache)
    registry.watch("two", cache)
    cache.get("x")
    assert cache_stats(registry, "one").misses == cache_stats(registry, "two").misses == 1
    registry.unwatch("one")
    cache.get("x")
    assert cache_stats(registry, "two").misses == 2
    registry.unwatch("two")
    assert type(cache) is cachetools.LRUCache


def test_counting_loses_nothing_between_threads(registry: CacheRegistry) -> None:
    cache = cachetools.Cache(4)
    cache["a"] = 1
    registry.watch("c", cache)
    run_together(lambda _: [(cache["a"], cache.get("b")) for _ in range(20_000)], range(4))
    stats = cache_stats(registry, "c")
    assert (stats.hits, stats.misses) == (80_000, 80_000)


def test_an_object_that_is_gone_disappears(registry: CacheRegistry) -> None:
    cache = cachetools.LRUCache(4)
    registry.watch("c", cache)
    del cache
    gc.collect()
    assert registry.read() == {}
    assert registry.objects() == {}


def test_what_is_gone_is_forgotten_where_nobody_reads(registry: CacheRegistry) -> None:
    """A program may watch a cache for each request, and no exporter run."""
    for number in range(20):
        registry.watch(str(number), cachetools.LRUCache(4))
        gc.collect()
    assert len(registry._watched) <= 2


class WithStats:
    """Of any shape."""

    def __init__(self, answer: object, method: str = "stats") -> None:
        self.answer = answer
        setattr(self, method, self.tell)

    def tell(self) -> object:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Info(NamedTuple):
    hits: int
    misses: int
    maxsize: int
    currsize: int


@dataclass
class Record:
    hits: int
    entries: int


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (CacheStats(hits=1), CacheStats(hits=1)),
        (CacheStats(hits="3", misses="many", entries=2.0), CacheStats(hits=3, entries=2)),  # type: ignore[arg-type]  # wrong
        (PoolStats(idle=1), PoolStats(idle=1)),
        ({"hits": 1, "misses": 2, "other": "x"}, CacheStats(hits=1, misses=2)),
        (Info(1, 2, 3, 4), CacheStats(hits=1, misses=2, max_entries=3, entries=4)),
        (Record(1, 4), CacheStats(hits=1, entries=4)),
        ({b"get_hits": b"7", b"curr_items": b"3"}, CacheStats(hits=7, entries=3)),
        ([("s1", {"get_hits": "7"}), ("s2", {"get_hits": "5", "bytes": "9"})], CacheStats(hits=12, size_bytes=9)),
        ({"in_use": 2, "idle": 1, "waits": 0}, PoolStats(in_use=2, idle=1, waits=0)),
        ({"hits": 0}, CacheStats(hits=0)),
        ({"hits": -1, "misses": 3}, CacheStats(misses=3)),
        ({"hits": float("nan"), "misses": float("inf"), "entries": 3.0}, CacheStats(entries=3)),
        ({"hits": True, "misses": None, "entries": "many", "evictions": "9" * 30}, None),
        ((7, 2), CacheStats(hits=7, misses=2)),
        ((7, True), None),
        ((7, 2, 1), None),
        ({}, None),
        (None, None),
        ("hits", None),
        ([], None),
        ([1, "x", ("a",)], None),
    ],
)
def test_statistics_of_many_shapes_are_understood(answer: object, expected: object) -> None:
    assert parse_stats(answer) == expected


@pytest.mark.parametrize("method", ["amm_stats", "stats", "get_stats", "cache_info"])
def test_each_method_of_the_protocol_is_found(registry: CacheRegistry, method: str) -> None:
    thing = WithStats({"hits": 3}, method)
    registry.watch("thing", thing)
    assert registry.read() == {"thing": CacheStats(hits=3)}


def test_failing_statistics_are_isolated_logged_once_and_come_back(
    registry: CacheRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    broken, sound = WithStats(OSError("server is down")), WithStats({"hits": 1})
    registry.watch("broken", broken)
    registry.watch("sound", sound)
    with caplog.at_level(logging.WARNING, "amm.probes"):
        assert list(registry.read()) == list(registry.read()) == ["sound"]
    assert registry.failed == {"broken"}
    assert [record.getMessage() for record in caplog.records] == [
        "cannot read the statistics of 'broken', they are absent until it works again: server is down"
    ]
    broken.answer = {"hits": 2}
    assert set(registry.read()) == {"broken", "sound"}
    assert registry.failed == frozenset()


def test_statistics_that_are_not_understood_are_told_once_with_what_was_expected(
    registry: CacheRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    odd = WithStats({"hitz": 3})
    registry.watch("users", odd)
    assert registry.read() == registry.read() == {}
    assert registry.failed == {"users"}
    assert [record.getMessage() for record in caplog.records] == [
        "cannot read the statistics of 'users', they are absent until it works again: WithStats.stats() returned "
        "{'hitz': 3}; expected a mapping with hits, misses, entries, max_entries, size_bytes, evictions or some of "
        "them: add a method amm_stats() that returns one (docs/caches.md)"
    ]
    odd.answer = {"hits": 3}
    assert registry.read() == {"users": CacheStats(hits=3)}


def test_the_cache_of_a_framework_is_refused_with_the_way_to_count_it(registry: CacheRegistry) -> None:
    class LocMemCache:
        def get(self, key: str) -> None: ...

        def set(self, key: str, value: object) -> None: ...

    with pytest.raises(AMMError, match=r"amm_exporter\.kit\.counted\.CountedGets before it: watch that class"):
        registry.watch("default", LocMemCache())


def test_an_object_without_statistics_is_refused(registry: CacheRegistry) -> None:
    with pytest.raises(AMMError) as caught:
        registry.watch("users", {})
    assert str(caught.value) == (
        "cannot watch 'users': got a dict, which has no statistics; expected a functools.lru_cache function, "
        "a cachetools cache, an amm_exporter.kit object, or one with a method "
        "amm_stats() or stats() or get_stats() or cache_info()"
    )


def test_of_a_function_decorated_by_cachetools_the_cache_is_named(registry: CacheRegistry) -> None:
    function = cachetools.cached(cachetools.LRUCache(3), lock=threading.Lock())(lambda number: number)
    with pytest.raises(AMMError, match=r"watch its attribute `cache`$"):
        registry.watch("f", function)


def test_an_object_that_cannot_be_held_weakly_is_refused(registry: CacheRegistry) -> None:
    class Slotted:
        __slots__ = ()

        def stats(self) -> dict[str, int]:
            return {"hits": 1}

    with pytest.raises(AMMError) as caught:
        registry.watch("users", Slotted())
    assert str(caught.value) == "cannot watch 'users': a Slotted cannot be referenced weakly"


@pytest.mark.parametrize("name", ["", None, 3, os.fsdecode(b"a\x80")])
def test_a_name_that_is_none_is_refused(registry: CacheRegistry, name: Any) -> None:
    with pytest.raises(AMMError, match="expected a text that is not empty"):
        registry.watch(name, square)


def test_a_name_in_use_is_refused_and_the_same_object_again_is_fine(registry: CacheRegistry) -> None:
    registry.watch("square", square)
    registry.watch("square", square)
    with pytest.raises(AMMError) as caught:
        registry.watch("square", cachetools.LRUCache(3))
    assert str(caught.value) == "cannot watch 'square': another cache has that name; unwatch('square') first"


def test_an_equal_cache_is_another_one(registry: CacheRegistry) -> None:
    """Mappings compare by what they hold: two empty caches are equal, and to compare large ones looks all up."""
    first: Any = cachetools.LRUCache(3)
    registry.watch("c", first)
    with pytest.raises(AMMError, match="another cache has that name"):
        registry.watch("c", cachetools.LRUCache(3))
    first["x"] = 1
    with pytest.raises(AMMError, match="another cache has that name"):
        registry.watch("c", cachetools.LRUCache(3))
    registry.watch("c", first)
    assert cache_stats(registry, "c") == CacheStats(hits=0, misses=0, entries=1, max_entries=3, evictions=0)


def test_an_unknown_name_is_answered_with_the_nearest(registry: CacheRegistry) -> None:
    registry.watch("square", square)
    with pytest.raises(AMMError) as caught:
        registry.unwatch("sqare")
    assert str(caught.value) == "nothing is watched under the name 'sqare'; did you mean 'square'?"


@pytest.mark.parametrize(("count", "shown"), [(2, 2), (3, 3), (4, 4)])
def test_names_beyond_the_bound_are_summed_up(count: int, shown: int) -> None:
    registry = CacheRegistry(max_names=3)
    things = [WithStats({"hits": 10, "entries": 1}) for _ in range(count)]
    for number, thing in enumerate(things):
        registry.watch(str(number), thing)
    found = registry.read()
    assert len(found) == shown
    assert sum(stats.hits or 0 for stats in found.values()) == 10 * count
    assert ("_other" in found) == (count > 3)


class Counted:
    """Goes as soon as nobody holds it."""

    def __init__(self, hits: int) -> None:
        self._hits = hits

    def stats(self) -> dict[str, int]:
        return {"hits": self._hits, "entries": 1}


def test_the_sum_does_not_go_back_when_one_of_it_or_one_with_a_name_goes() -> None:
    registry = CacheRegistry(max_names=1)
    things = {str(number): Counted(10**number) for number in range(4)}
    for name, thing in things.items():
        registry.watch(name, thing)
    assert registry.read()["_other"] == CacheStats(hits=1110, entries=3)
    del things["1"], thing
    assert registry.read()["_other"] == CacheStats(hits=1110, entries=2)
    del things["2"]
    assert registry.read()["_other"] == CacheStats(hits=1110, entries=1)
    del things["0"]  # its name's place is for another, and not for one of the sum
    assert registry.read() == {"_other": CacheStats(hits=1110, entries=1)}
    registry.watch("new", new := Counted(5))
    assert registry.read() == {"new": CacheStats(hits=5, entries=1), "_other": CacheStats(hits=1110, entries=1)}
    del new
    registry.unwatch("3")
    assert registry.read() == {"_other": CacheStats(hits=1110)}


def test_pools_beyond_the_bound_are_summed_up_apart() -> None:
    registry = CacheRegistry(max_names=0)
    things = WithStats({"in_use": 1}), WithStats({"in_use": 2}), WithStats({"hits": 4})
    for number, thing in enumerate(things):
        registry.watch(str(number), thing)
    assert registry.read() == {"_other": CacheStats(hits=4), "_other_pools": PoolStats(in_use=3)}


PACKAGE = '''
import functools
from functools import lru_cache

@lru_cache
def load(x):
    return x

class Service:
    @staticmethod
    @functools.cache
    def static(x): return x

    @classmethod
    @functools.lru_cache(maxsize=2)
    def of_class(cls, x): return x

    class Inner:
        @functools.cache
        def deep(self): return 1

class Proxy:
    """As lazy objects do outside their context."""
    @property
    def __class__(self): raise RuntimeError("outside of context")
    def __getattr__(self, name): raise RuntimeError("outside of context")

proxy = Proxy()
Loop = Service
'''


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> str:
    parent, child, other = (types.ModuleType(name) for name in ("shop", "shop.models", "shopping"))
    for module in (parent, child, other):
        exec(PACKAGE, vars(module))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    vars(child)["borrowed"] = vars(parent)["load"]
    return "shop"


def test_every_decorated_function_of_a_package_is_found(registry: CacheRegistry, package: str) -> None:
    expected = tuple(
        f"{module}.{name}"
        for module in ("shop", "shop.models")
        for name in ("Service.Inner.deep", "Service.of_class", "Service.static", "load")
    )
    assert registry.watch_all(package) == expected
    sys.modules["shop"].load(1)
    assert cache_stats(registry, "shop.load").misses == 1
    assert cache_stats(registry, "shop.models.load").misses == 0
    assert registry.watch_all(package) == expected


UNUSUAL = """
import functools, math

class Doubling:
    def __call__(self, x): return x

class Unhelpful(type):
    def __getattribute__(cls, name): raise RuntimeError(name)

def maker():
    @functools.lru_cache
    def inner(x): return x
    return inner

def traced(function):
    @functools.wraps(function)
    def inner(*args): return function(*args)
    return inner

class Settings:
    @property
    @functools.cache
    def all(self): return 1

def _look(x): return x

unhelpful = Unhelpful("unhelpful", (), {})
doubling = functools.lru_cache(Doubling())
power = functools.lru_cache()(functools.partial(pow, 2))
root = functools.lru_cache()(math.sqrt)
one, two = maker(), maker()
look = functools.lru_cache()(_look)
wrapped = traced(functools.lru_cache(_look))
from fnmatch import _compile_pattern
"""


class Lazy(types.ModuleType):
    """Imports what it stands for at the first look, which fails."""

    def __getattribute__(self, name: str) -> Any:
        raise ImportError(name)


def test_unusual_ways_to_decorate_are_found_by_where_they_stand(
    registry: CacheRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd: dict[str, Any] = {"odd": types.ModuleType("odd"), "odd.lazy": Lazy("odd.lazy"), "odd.thing": object()}
    for name, module in odd.items():
        monkeypatch.setitem(sys.modules, name, module)
    exec(UNUSUAL, vars(odd["odd"]))
    names = ("Settings.all", "doubling", "look", "one", "power", "root", "two", "wrapped")
    assert registry.watch_all("odd") == tuple(f"odd.{name}" for name in names)


def test_a_package_that_is_loaded_again_can_be_searched_again(registry: CacheRegistry, package: str) -> None:
    registry.watch_all(package)
    exec(PACKAGE, vars(sys.modules["shop"]))
    gc.collect()
    registry.watch_all(package)
    sys.modules["shop"].Service.of_class(1)
    assert cache_stats(registry, "shop.Service.of_class").misses == 1


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("cachetols", "did you mean 'cachetools'?"),
        ("cachetools.kees", "did you mean 'cachetools.keys'?"),
        ("no_such_package.sub", "expected the name of a module, as it is imported"),
        ("", "expected the name of a module, as it is imported"),
    ],
)
def test_a_package_that_is_not_there_is_refused(registry: CacheRegistry, typed: str, hint: str) -> None:
    with pytest.raises(AMMError) as caught:
        registry.watch_all(typed)
    assert str(caught.value) == f"cannot watch all of {typed!r}: no such module; {hint}"


@pytest.mark.parametrize(
    ("package", "reason"),
    [
        ("cachetools", "no loaded module of it has a function decorated by functools.lru_cache or functools.cache"),
        ("this", "it is not imported yet; call watch_all after its import"),
    ],
)
def test_a_package_without_any_finds_none_and_says_so(
    registry: CacheRegistry, caplog: pytest.LogCaptureFixture, package: str, reason: str
) -> None:
    assert registry.watch_all(package) == ()
    assert [record.getMessage() for record in caplog.records] == [f"nothing is watched in {package!r}: {reason}"]
    assert "this" not in sys.modules


def test_the_standard_library_can_be_searched_whole() -> None:
    """Thousands of real module namespaces: none may raise."""
    assert any(found for name in list(sys.modules) for found in decorated_functions(name))


def test_a_forked_child_counts_its_own_look_ups_only(registry: CacheRegistry) -> None:
    """So that the sum over a prefork family has every look-up once."""
    cache: Any = cachetools.LRUCache(4)
    registry.watch("square", square)
    registry.watch("c", cache)
    for _ in range(5):
        square(1)
        cache.get("x")
    pid = os.fork()
    if pid == 0:
        square(1)
        cache.get("x")
        mine, counted = registry.read()["square"], registry.read()["c"]
        square.cache_clear()
        square(7)
        after = registry.read()["square"]
        right = (mine.hits, mine.misses, counted.misses, after.hits, after.misses) == (1, 0, 1, 1, 1)
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert cache_stats(registry, "square").hits == 4


class Reluctant:
    """Counts, but fails who asks it for anything else while `asked` is true, as a proxy whose object is gone."""

    asked = False

    def stats(self) -> dict[str, int]:
        return {"hits": 1, "misses": 2}

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name) if Reluctant.asked else AttributeError(name)


def test_what_a_watched_object_does_keeps_no_other_from_beginning_anew_in_a_child(registry: CacheRegistry) -> None:
    proxy, cache = Reluctant(), cachetools.Cache(4)
    registry.watch("proxy", proxy)
    registry.watch("c", cache)
    cache.get("a")
    Reluctant.asked = True
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(registry.read()["c"].misses)
        finally:
            os._exit(9)
    Reluctant.asked = False
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
