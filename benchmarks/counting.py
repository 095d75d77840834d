"""What watching a cache costs each of its accesses: `python -m benchmarks.counting [--rounds N]`.

Each cache runs in a process of its own, once plain and once watched, in turns; the best of the rounds. In one process
the two kinds would spoil each other's inline caches, which no program that has one kind suffers from.
A functools.lru_cache counts itself: watching leaves it as it is.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import cachetools

from amm_exporter.probes.caches import CacheRegistry

ENTRIES = 128
CALLS = 1_000
PROCESSES = 3
Loop = Callable[[int], None]

CACHES: dict[str, Callable[[], Any]] = {
    "LRUCache": lambda: cachetools.LRUCache(ENTRIES),
    "TTLCache": lambda: cachetools.TTLCache(ENTRIES, 600),
    "LFUCache": lambda: cachetools.LFUCache(ENTRIES),
    "Cache": lambda: cachetools.Cache(ENTRIES),
}


def loops(cache: Any) -> dict[str, Loop]:
    """One access each, many times over."""
    keys = itertools.count(ENTRIES)
    cache[0] = 0

    def hit(calls: int) -> None:
        for _ in range(calls):
            cache[0]

    def get_hit(calls: int) -> None:
        get = cache.get
        for _ in range(calls):
            get(0)

    def get_miss(calls: int) -> None:
        get = cache.get
        for _ in range(calls):
            get(1)

    def miss(calls: int) -> None:
        for _ in range(calls):
            try:  # noqa: SIM105 - suppress() would cost more than what is measured
                cache[1]
            except KeyError:
                pass

    def evict(calls: int) -> None:
        for _ in range(calls):
            cache[next(keys)] = 1

    return {"[] hit": hit, "get hit": get_hit, "get miss": get_miss, "KeyError": miss, "eviction": evict}


WATCH = CacheRegistry()


def nanoseconds(loop: Loop, rounds: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        loop(CALLS)
        best = min(best, time.perf_counter() - start)
    return best / CALLS * 1e9


def measure(name: str, watched: bool, rounds: int) -> dict[str, float]:
    cache = CACHES[name]()
    if watched:
        WATCH.watch(name, cache)
    return {access: nanoseconds(loop, rounds) for access, loop in loops(cache).items()}


def in_a_process(name: str, watched: bool, rounds: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.counting", "--rounds", str(rounds), "--one", name]
    text = subprocess.run([*command, *["--watched"] * watched], capture_output=True, text=True, check=True).stdout
    figures: dict[str, float] = json.loads(text)
    return figures


def compare(name: str, rounds: int) -> dict[str, tuple[float, float]]:
    """Access: ns plain, and what watching adds."""
    plain, watched = zip(
        *((in_a_process(name, False, rounds), in_a_process(name, True, rounds)) for _ in range(PROCESSES)), strict=True
    )
    best = [{access: min(run[access] for run in runs) for access in runs[0]} for runs in (plain, watched)]
    return {access: (best[0][access], best[1][access] - best[0][access]) for access in best[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--watched", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.watched, arguments.rounds)))
        return
    for name in CACHES:
        row = compare(name, arguments.rounds)
        print(
            f"{name:12}" + "".join(f"{access:>10} {plain:5.0f} {added:+5.0f}" for access, (plain, added) in row.items())
        )


if __name__ == "__main__":
    main()
