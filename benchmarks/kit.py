"""Time per operation of the kit's cache and pool beside the alternatives: `python -m benchmarks.kit [--rounds N]`.

The best of the rounds, interleaved: what the code costs when nobody else wants the machine. cachetools' caches are
shown plain and watched; the difference is what AMM's counting costs.
"""

from __future__ import annotations

import argparse
import functools
import threading
import time
from collections.abc import Callable
from typing import Any

import cachetools

from amm_exporter.kit.cache import Cache
from amm_exporter.kit.pool import Pool
from amm_exporter.probes.caches import CacheRegistry

CALLS = 2_000
ENTRIES = 128
Step = Callable[[], object]


class Widget:
    def __init__(self) -> None:
        self.a, self.b, self.c, self.d, self.e = {}, [], set(), {}, []  # type: ignore[var-annotated]


class Slim:
    __slots__ = ("a",)


def hit_and_miss(get: Callable[[int], object], put: Callable[[int], object]) -> tuple[Step, Step]:
    """A look-up that hits, and one that misses and stores, pushing something out."""
    put(0)
    key = [ENTRIES]

    def miss() -> None:
        key[0] += 1
        get(key[0])
        put(key[0])

    return (lambda: get(0)), miss


def caches() -> dict[str, tuple[Step, Step]]:
    square = functools.lru_cache(maxsize=ENTRIES)(lambda number: number)
    plain: Any = cachetools.LRUCache(ENTRIES)
    watched: Any = cachetools.LRUCache(ENTRIES)
    locked: Any = cachetools.LRUCache(ENTRIES)
    timed: Any = cachetools.TTLCache(ENTRIES, 600)
    timed_watched: Any = cachetools.TTLCache(ENTRIES, 600)
    lock = threading.Lock()
    WATCH.watch("watched", watched)
    WATCH.watch("timed_watched", timed_watched)
    kit, kit_timed = Cache[int, int](ENTRIES), Cache[int, int](ENTRIES, ttl_seconds=600)
    kit_bytes = Cache[int, int](ENTRIES, max_bytes=1 << 30, size_of=lambda number: 32)

    def locked_get(key: int) -> object:
        with lock:
            return locked.get(key)

    def locked_put(key: int) -> None:
        with lock:
            locked[key] = key

    return {
        "functools.lru_cache": hit_and_miss(square, square),
        "cachetools LRUCache": hit_and_miss(plain.get, lambda key: plain.__setitem__(key, key)),
        "cachetools LRUCache, watched": hit_and_miss(watched.get, lambda key: watched.__setitem__(key, key)),
        "cachetools LRUCache, locked": hit_and_miss(locked_get, locked_put),
        "cachetools TTLCache": hit_and_miss(timed.get, lambda key: timed.__setitem__(key, key)),
        "cachetools TTLCache, watched": hit_and_miss(
            timed_watched.get, lambda key: timed_watched.__setitem__(key, key)
        ),
        "kit Cache": hit_and_miss(kit.get, lambda key: kit.put(key, key)),
        "kit Cache, ttl": hit_and_miss(kit_timed.get, lambda key: kit_timed.put(key, key)),
        "kit Cache, max_bytes": hit_and_miss(kit_bytes.get, lambda key: kit_bytes.put(key, key)),
    }


WATCH = CacheRegistry()


def pools() -> dict[str, tuple[Step, Step]]:
    """Making it each time, and borrowing it."""

    def pair(make: Callable[[], object]) -> tuple[Step, Step]:
        pool = Pool(make)
        return make, lambda: pool.release(pool.acquire())

    return {
        "{}": pair(dict),
        "small instance": pair(Slim),
        "widget of 5 containers": pair(Widget),
        "buffer of 64 KiB": pair(lambda: bytearray(65536)),
        "buffer of 1 MiB": pair(lambda: bytearray(1 << 20)),
    }


def nanoseconds(step: Step, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        step()
    return (time.perf_counter() - start) / calls * 1e9


def show(title: str, columns: tuple[str, str], table: dict[str, tuple[Step, Step]], rounds: int) -> None:
    best = {name: [float("inf")] * 2 for name in table}
    empty = min(nanoseconds(lambda: None, CALLS) for _ in range(rounds))
    for _ in range(rounds):
        for name, steps in table.items():
            for column, step in enumerate(steps):
                best[name][column] = min(best[name][column], nanoseconds(step, CALLS) - empty)
    print(f"{title:32}{columns[0]:>12}{columns[1]:>12}")
    for name, (first, second) in best.items():
        print(f"{name:32}{first:12.0f}{second:12.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    rounds = parser.parse_args().rounds
    show("cache, ns", ("hit", "miss"), caches(), rounds)
    show("pool, ns", ("make", "borrow"), pools(), rounds)


if __name__ == "__main__":
    main()
