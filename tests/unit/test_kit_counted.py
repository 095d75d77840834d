"""Caches of frameworks, counted: the real ones of Django and Flask-Caching."""

from __future__ import annotations

import os

import pytest
from counted_cache import Counted
from django.conf import settings
from django.core.cache.backends.locmem import LocMemCache
from flask import Flask
from flask_caching import Cache

from amm_exporter.kit.cache import Cache as KitCache
from amm_exporter.kit.counted import CountedGets
from amm_exporter.probes.cache_stats import CacheStats
from amm_exporter.probes.caches import CacheRegistry


@pytest.fixture(scope="module", autouse=True)
def django() -> None:
    if not settings.configured:
        settings.configure()


@pytest.fixture
def registry():
    made = CacheRegistry()
    yield made
    made.close()


@pytest.fixture
def articles():
    class Articles(CountedGets, LocMemCache):
        pass

    yield Articles
    Articles("articles", {}).clear()


def test_gets_of_a_django_cache_are_counted_over_all_its_instances(articles, registry):
    registry.watch("articles", articles)
    one, other = articles("articles", {}), articles("articles", {})
    one.set("a", 1)
    assert [one.get("a"), other.get("a")] == [1, 1]
    assert [one.get("b"), other.get("b", 7), one.get("b", default=8)] == [None, 7, 8]
    assert one.get_many(["a", "b", "c"]) == {"a": 1}
    assert registry.read() == {"articles": CacheStats(hits=3, misses=5)}


def test_what_flask_looks_up_is_counted(registry):
    registry.watch("prices", Counted)
    cache = Cache(Flask("shop"), config={"CACHE_TYPE": "counted_cache.Counted"})
    before = Counted.amm_stats()
    cache.set("a", 1)
    assert [cache.get("a"), cache.get("b"), *cache.get_many("a", "b", "c")] == [1, None, 1, None, None]
    after = registry.read()["prices"]
    assert (after.hits - before.hits, after.misses - before.misses) == (2, 3)


def test_each_class_counts_for_itself(articles):
    class Others(articles):
        pass

    Others("others", {}).get("a")
    assert (articles.amm_stats(), Others.amm_stats()) == (CacheStats(hits=0, misses=0), CacheStats(hits=0, misses=1))


def test_a_class_with_a_get_of_its_own_counts_what_that_asks_for(articles):
    class Own(articles):
        def get(self, key, default=None, version=None):
            return super().get(f"own_{key}", default, version)

    class Mixin:
        def get(self, key, *args, **kwargs):
            return super().get(f"mixed_{key}", *args, **kwargs)

    class Mixed(Mixin, articles):
        pass

    for kind, stored in ((articles, "a"), (Own, "own_a"), (Mixed, "mixed_a")):
        cache = kind("articles", {})
        cache.set(stored, 1)
        assert [cache.get("a"), cache.get("b", version=2), cache.get("c", 7)] == [1, None, 7]
    assert [kind.amm_stats() for kind in (articles, Own, Mixed)] == [CacheStats(hits=1, misses=2)] * 3


def test_a_back_end_of_any_shape_is_counted():
    class Backend:
        def get(self, key, fallback=None, *, touch=False):
            return {"a": 1}.get(key, fallback)

    class Base(CountedGets):
        """Of no back end yet."""

    class Whole(Base, Backend):
        pass

    cache = Whole()
    assert [cache.get("a", touch=True), cache.get("b"), cache.get("c", 7)] == [1, None, 7]
    assert Whole.amm_stats() == CacheStats(hits=1, misses=2)


def test_a_forked_child_counts_its_own_look_ups_of_ours_only(articles, registry):
    users = KitCache(max_entries=5)
    registry.watch("users", users)
    registry.watch("articles", articles)
    users.get(1)
    articles("articles", {}).get(1)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            users.get(1)
            users.get(2)
            stats = registry.read()
            os.write(write, bytes([stats["users"].misses, stats["articles"].misses]))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)  # else a child that told nothing would be waited for
    told = os.read(read, 2)
    os.close(read)
    assert told == bytes([2, 0])
