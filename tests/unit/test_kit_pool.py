"""The kit's pool."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hurried import run_together

from amm_exporter.errors import AMMError
from amm_exporter.kit.pool import Pool, PoolExhausted
from amm_exporter.probes.cache_stats import PoolStats
from amm_exporter.probes.caches import CacheRegistry


def test_what_comes_back_is_lent_again_the_last_one_first() -> None:
    pool = Pool(bytearray)
    first, second = pool.acquire(), pool.acquire()
    pool.release(first)
    pool.release(second)
    assert pool.acquire() is second
    assert pool.acquire() is first
    assert pool.amm_stats() == PoolStats(in_use=2, idle=0, hits=2, misses=2, waits=0)


def test_a_block_borrows_and_gives_back_even_when_it_fails() -> None:
    pool = Pool(bytearray)

    def fail_while_holding() -> None:
        with pool.borrow():
            assert pool.amm_stats().in_use == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_while_holding()
    assert (pool.amm_stats().in_use, pool.amm_stats().idle) == (0, 1)


@pytest.mark.parametrize(("lent", "idle"), [(1, 1), (2, 2), (3, 2)])
def test_no_more_than_max_idle_are_kept(lent: int, idle: int) -> None:
    pool = Pool(bytearray, max_idle=2)
    for obj in [pool.acquire() for _ in range(lent)]:
        pool.release(obj)
    assert pool.amm_stats().idle == idle


def test_an_object_is_reset_before_it_is_lent_again() -> None:
    pool = Pool(list, reset=list.clear)
    with pool.borrow() as items:
        items.append(1)
    assert pool.acquire() == []


def test_an_object_that_cannot_be_reset_is_dropped_and_its_place_is_free() -> None:
    def fail(obj: object) -> None:
        raise OSError("connection lost")

    pool = Pool(bytearray, reset=fail, max_objects=1)
    with pytest.raises(OSError, match="connection lost"):
        pool.release(pool.acquire())
    assert pool.amm_stats().idle == 0
    assert pool.acquire(timeout_seconds=0) is not None


@pytest.mark.parametrize("times", [1, 2])
def test_what_is_not_lent_cannot_be_given_back(times: int) -> None:
    """Given back twice, two borrowers would share it."""
    pool = Pool(bytearray)
    obj: Any = pool.acquire()
    pool.release(obj)
    with pytest.raises(AMMError, match="is not lent by this pool, or was given back already"):
        pool.release(obj if times == 2 else bytearray())
    assert pool.amm_stats().idle == 1


def test_beyond_max_objects_the_borrower_waits_and_is_told() -> None:
    pool = Pool(bytearray, max_objects=1)
    pool.acquire()
    with pytest.raises(PoolExhausted) as caught:
        pool.acquire(timeout_seconds=0.01)
    assert str(caught.value) == (
        "all 1 objects of the pool are in use, and none came back within 0.01 s; "
        "give them back sooner, or raise max_objects"
    )
    assert pool.amm_stats() == PoolStats(in_use=1, idle=0, max_objects=1, hits=0, misses=1, waits=1)


def test_a_waiting_borrower_gets_what_comes_back() -> None:
    pool = Pool(bytearray, max_objects=1)
    obj = pool.acquire()
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(pool.acquire(timeout_seconds=5)))
    thread.start()
    while pool.amm_stats().waits == 0:
        pass
    pool.release(obj)
    thread.join()
    assert got == [obj]


def test_an_object_that_cannot_be_made_leaves_its_place_free() -> None:
    answers = iter([OSError("refused"), bytearray()])

    def make() -> bytearray:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    pool = Pool(make, max_objects=1)
    with pytest.raises(OSError, match="refused"):
        pool.acquire()
    assert pool.acquire(timeout_seconds=0) == bytearray()


@pytest.mark.parametrize(("ratio", "kept"), [(0, 0), (0.5, 2), (1, 4)])
def test_shrink_drops_the_coldest(ratio: float, kept: int) -> None:
    pool = Pool(bytearray)
    lent = [pool.acquire() for _ in range(4)]
    for obj in lent:
        pool.release(obj)
    assert pool.shrink(ratio) == 4 - kept
    assert pool.amm_stats().idle == kept
    if kept:
        assert pool.acquire() is lent[-1]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_idle": -1}, "max_idle: got -1; expected 0 or more"),
        ({"max_objects": 0}, "max_objects: got 0; expected 1 or more, or None for no bound"),
    ],
)
def test_bounds_that_cannot_be_kept_are_refused(options: Any, text: str) -> None:
    with pytest.raises(AMMError) as caught:
        Pool(bytearray, **options)
    assert str(caught.value) == text


def test_a_ratio_out_of_bounds_is_refused() -> None:
    with pytest.raises(AMMError, match="expected a ratio between 0 and 1"):
        Pool(bytearray).shrink(2)


@pytest.mark.parametrize("max_objects", [None, 3])
def test_no_two_threads_hold_the_same_object(max_objects: int | None) -> None:
    pool: Pool[list[int]] = Pool(list, max_objects=max_objects)
    wrong: list[object] = []

    def work(me: int) -> None:
        for _ in range(1_000):
            with pool.borrow() as held:
                held.append(me)
                if held != [me]:
                    wrong.append(list(held))
                held.clear()

    run_together(work, range(6))
    assert wrong == []
    stats = pool.amm_stats()
    assert stats.hits is not None
    assert stats.misses is not None
    assert (stats.in_use, stats.hits + stats.misses) == (0, 6_000)
    assert stats.misses <= (max_objects or 6)


def test_it_can_be_watched() -> None:
    registry = CacheRegistry()
    pool = Pool(bytearray)
    registry.watch("buffers", pool)
    pool.acquire()
    assert registry.read() == {"buffers": PoolStats(in_use=1, idle=0, hits=0, misses=1, waits=0)}
