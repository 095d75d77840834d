"""The kit's cache: against a plain model of an LRU cache, and at its bounds."""

from __future__ import annotations

import gc
import os
import threading
from collections import OrderedDict
from typing import Any

import pytest
from hurried import run_together
from hypothesis import given
from hypothesis import strategies as st

from amm_exporter.errors import AMMError
from amm_exporter.kit.cache import Cache
from amm_exporter.probes.caches import CacheRegistry


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["get", "put", "pop", "contains"]), st.integers(min_value=0, max_value=7)), max_size=60
)


@given(OPERATIONS, st.integers(min_value=1, max_value=5))
def test_it_behaves_as_a_model_of_lru_does(operations: list[tuple[str, int]], bound: int) -> None:
    cache: Cache[int, int] = Cache(bound)
    model: OrderedDict[int, int] = OrderedDict()
    hits = misses = evictions = 0
    for step, (operation, key) in enumerate(operations):
        if operation == "get":
            hits, misses = (hits + 1, misses) if key in model else (hits, misses + 1)
            assert cache.get(key) == model.get(key)
            if key in model:
                model.move_to_end(key)
        elif operation == "put":
            cache.put(key, step)
            model[key] = step
            model.move_to_end(key)
            if len(model) > bound:
                model.popitem(last=False)
                evictions += 1
        elif operation == "pop":
            assert cache.pop(key) == model.pop(key, None)
        else:
            assert (key in cache) == (key in model)
        assert list(cache) == list(model)
    stats = cache.amm_stats()
    assert (stats.hits, stats.misses, stats.evictions, stats.entries) == (hits, misses, evictions, len(model))


@pytest.mark.parametrize(("age", "found"), [(9.99, 1), (10.0, None), (10.01, None)])
def test_an_entry_lives_as_long_as_it_was_given(age: float, found: int | None) -> None:
    clock = Clock()
    cache: Cache[str, int] = Cache(3, ttl_seconds=10, clock=clock)
    cache.put("a", 1)
    clock.now = age
    assert cache.get("a") == found
    assert len(cache) == (1 if found else 0)


def test_storing_anew_starts_a_new_life() -> None:
    clock = Clock()
    cache: Cache[str, int] = Cache(3, ttl_seconds=10, clock=clock)
    cache.put("a", 1)
    clock.now = 8
    cache.put("a", 2)
    clock.now = 12
    assert cache.get("a") == 2


def test_expire_drops_the_old_ones_and_no_other() -> None:
    clock = Clock()
    cache: Cache[str, int] = Cache(9, ttl_seconds=10, clock=clock)
    for key, at in (("a", 0), ("b", 1), ("c", 5)):
        clock.now = at
        cache.put(key, 1)
    clock.now = 11
    assert cache.expire() == 2
    assert list(cache) == ["c"]
    assert cache.amm_stats().evictions == 0


@pytest.mark.parametrize(("size", "kept"), [(4, ["a", "b"]), (5, ["a", "b"]), (6, ["b"])])
def test_bytes_are_bounded_by_pushing_out_the_oldest(size: int, kept: list[str]) -> None:
    cache: Cache[str, bytes] = Cache(9, max_bytes=10, size_of=len)
    cache.put("a", bytes(5))
    cache.put("b", bytes(size))
    assert list(cache) == kept
    assert cache.amm_stats().size_bytes == size + (5 if "a" in kept else 0)


def test_a_value_larger_than_the_whole_cache_is_not_kept_and_pushes_nothing_out() -> None:
    cache: Cache[str, bytes] = Cache(9, max_bytes=10, size_of=len)
    cache.put("a", bytes(5))
    cache.put("b", bytes(11))
    assert list(cache) == ["a"]


def test_a_replaced_value_is_weighed_anew() -> None:
    cache: Cache[str, bytes] = Cache(9, max_bytes=10, size_of=len)
    cache.put("a", bytes(8))
    cache.put("a", bytes(3))
    cache.put("b", bytes(7))
    assert cache.amm_stats().size_bytes == 10
    assert len(cache) == 2


def test_get_or_make_makes_once() -> None:
    cache: Cache[int, int] = Cache(3)
    made = []
    for _ in range(3):
        assert cache.get_or_make(7, lambda key: made.append(key) or key * 2) == 14
    assert made == [7]
    assert cache.amm_stats().hits == 2


def test_a_stored_none_is_a_hit() -> None:
    cache: Cache[int, Any] = Cache(3)
    cache.put(1, None)
    assert cache.get_or_make(1, lambda key: pytest.fail("made again")) is None
    assert cache.amm_stats().hits == 1


@pytest.mark.parametrize(
    ("ratio", "kept"), [(0, []), (0.5, [2, 3]), (0.74, [2, 3]), (0.75, [1, 2, 3]), (1, [0, 1, 2, 3])]
)
def test_shrink_keeps_the_most_recent(ratio: float, kept: list[int]) -> None:
    cache: Cache[int, int] = Cache(4)
    for key in range(4):
        cache.put(key, key)
    assert cache.shrink(ratio) == 4 - len(kept)
    assert list(cache) == kept


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_a_ratio_out_of_bounds_is_refused(ratio: float) -> None:
    with pytest.raises(AMMError, match="expected a ratio between 0 and 1"):
        Cache[int, int](4).shrink(ratio)


def test_resize_pushes_out_at_once() -> None:
    cache: Cache[int, int] = Cache(4)
    for key in range(4):
        cache.put(key, key)
    cache.resize(2)
    assert list(cache) == [2, 3]
    assert cache.amm_stats().max_entries == 2


def test_clear_drops_everything_but_the_counters() -> None:
    cache: Cache[str, bytes] = Cache(4, ttl_seconds=1, max_bytes=10, size_of=len)
    cache.put("a", b"1")
    cache.get("a")
    cache.clear()
    stats = cache.amm_stats()
    assert (stats.entries, stats.size_bytes, stats.hits) == (0, 0, 1)
    cache.put("b", b"1")
    assert cache.get("b") == b"1"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_entries": 0}, "max_entries: got 0; expected a whole number of 1 or more"),
        ({"max_entries": True}, "max_entries: got True; expected a whole number of 1 or more"),
        ({"max_entries": 1.5}, "max_entries: got 1.5; expected a whole number of 1 or more"),
        ({"max_entries": 1, "ttl_seconds": 0}, "ttl_seconds: got 0; expected more than 0, or None for no lifetime"),
        (
            {"max_entries": 1, "ttl_seconds": float("nan")},
            "ttl_seconds: got nan; expected more than 0, or None for no lifetime",
        ),
        (
            {"max_entries": 1, "max_bytes": 0, "size_of": len},
            "max_bytes: got 0; expected 1 or more, or None for no bound in bytes",
        ),
        (
            {"max_entries": 1, "max_bytes": 5},
            "max_bytes needs size_of, a function that tells the bytes of a value: len or sys.getsizeof, say",
        ),
    ],
)
def test_bounds_that_cannot_be_kept_are_refused(options: Any, text: str) -> None:
    with pytest.raises(AMMError) as caught:
        Cache(**options)
    assert str(caught.value) == text


@pytest.mark.parametrize("options", [{}, {"ttl_seconds": 0.0005}, {"max_bytes": 40, "size_of": lambda value: 4}])
def test_threads_do_not_disturb_one_another(options: Any) -> None:
    """Every look-up is counted, values belong to their keys, and the bounds hold."""
    cache: Cache[int, int] = Cache(16, **options)
    wrong: list[object] = []

    def work(seed: int) -> None:
        for step in range(4_000):
            key = (step * seed) % 40
            value = cache.get_or_make(key, lambda key: key * 10)
            if value != key * 10:
                wrong.append((key, value))
            if step % 500 == 0:
                cache.shrink(0.5)
                cache.expire()

    run_together(work, (1, 3, 7, 11))
    assert wrong == []
    stats = cache.amm_stats()
    assert stats.hits is not None
    assert stats.misses is not None
    assert stats.hits + stats.misses == 16_000
    assert len(cache) <= 16
    if "size_of" in options:
        assert stats.size_bytes == 4 * len(cache) <= 40


def test_a_value_whose_end_uses_the_cache_does_not_hang_it() -> None:
    cache: Cache[int, Any] = Cache(2)

    class Clingy:
        def __del__(self) -> None:
            cache.put(99, "from the grave")

    cache.put(1, Clingy())
    cache.put(2, "b")
    cache.put(3, "c")
    gc.collect()
    assert len(cache) <= 2
    assert cache.get(99) == "from the grave"


def test_a_child_forked_while_a_thread_was_writing_does_not_hang() -> None:
    cache: Cache[int, int] = Cache(2)
    writing, done = threading.Event(), threading.Event()

    def write_long() -> None:
        with cache._writing():
            writing.set()
            done.wait(5)

    thread = threading.Thread(target=write_long)
    thread.start()
    writing.wait(5)
    pid = os.fork()
    if pid == 0:
        threading.Timer(3, lambda: os._exit(1)).start()
        cache.put(1, 1)
        os._exit(0 if cache.get(1) == 1 else 2)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_it_can_be_watched() -> None:
    registry = CacheRegistry()
    cache: Cache[int, int] = Cache(2)
    registry.watch("users", cache)
    cache.get(1)
    assert registry.read()["users"].misses == 1
