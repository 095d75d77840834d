"""What watching a cache costs each of its accesses: `python -m benchmarks.counting [--rounds N]`, two minutes.

Each cache runs in a process of its own, once plain and once watched, in turns; the best of the rounds. In brackets:
both kinds in one process, turn about, where each spoils the inline caches (PEP 659) that the other has specialised.
"Sizes" are caches with a `getsizeof`, "own" a class of somebody's own whose methods go on by `super()`, "by name" one
whose methods go on by `LRUCache.__getitem__(self, ...)`, and "floor" the same after a change of class, with a method
around its `__getitem__` that counts nothing. A functools.lru_cache counts itself: watching leaves it as it is.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import cachetools

from amm_exporter.kit.cache import Cache
from amm_exporter.kit.counted import CountedGets
from amm_exporter.probes.caches import CacheRegistry

ENTRIES = 128
CALLS = 500
PROCESSES = 5
AT_MOST = 100
"""ns that AMM has set itself for each access. A figure beyond is marked; on a loaded machine, some are by chance."""
Loop = Callable[[int], None]
Figures = dict[str, float]


class Own(cachetools.LRUCache):  # type: ignore[type-arg]
    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(key, default)

    def popitem(self) -> Any:
        return super().popitem()


class ByName(cachetools.LRUCache):  # type: ignore[type-arg]
    def __getitem__(self, key: Any) -> Any:
        return cachetools.LRUCache.__getitem__(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        cachetools.LRUCache.__setitem__(self, key, value)


class Floor(ByName):
    """What AMM must do to ByName, without any counting."""

    def __getitem__(self, key: Any) -> Any:
        return _BY_NAME_GETITEM(self, key)


_BY_NAME_GETITEM = ByName.__getitem__
LASTING: dict[str, tuple[Any, ...]] = {"TTLCache": (600,), "TLRUCache": (lambda key, value, now: now + 600,)}
CLASSES = ("LRUCache", "LFUCache", "FIFOCache", "RRCache", "TTLCache", "TLRUCache", "Cache")


def maker(kind: Any, **size: Any) -> Callable[[], Any]:
    return lambda: kind(ENTRIES, *LASTING.get(kind.__name__, ()), **size)


CACHES: dict[str, Callable[[], Any]] = {
    **{name: maker(getattr(cachetools, name)) for name in CLASSES},
    **{f"{name}, sizes": maker(getattr(cachetools, name), getsizeof=lambda value: 1) for name in CLASSES},
    "LRUCache, own": maker(Own),
    "the same, sizes": maker(Own, getsizeof=lambda value: 1),
    "LRUCache, by name": maker(ByName),
    "its floor": maker(ByName),
}
WATCH = CacheRegistry()


class Backend:
    """As those of Django."""

    def get(self, key: Any, default: Any = None, version: Any = None) -> Any:
        return default


class CountedBackend(CountedGets, Backend):
    pass


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

    def replace(calls: int) -> None:
        for _ in range(calls):
            cache[0] = 1

    def evict(calls: int) -> None:
        for _ in range(calls):
            cache[next(keys)] = 1

    return {
        "[] hit": hit,
        "get hit": get_hit,
        "get miss": get_miss,
        "KeyError": miss,
        "replacing": replace,
        "eviction": evict,
    }


def made(name: str, watched: bool) -> dict[str, Loop]:
    cache = CACHES[name]()
    if watched and name == "its floor":
        cache.__class__ = Floor
        cache.__dict__ = {**cache.__dict__}
    elif watched:
        WATCH.watch(name, cache)
    return loops(cache)


def nanoseconds(alternatives: Iterable[Loop], rounds: int) -> list[float]:
    """The best of each, run in turns."""
    best = {loop: float("inf") for loop in alternatives}
    for _ in range(rounds):
        for loop in best:
            start = time.perf_counter()
            loop(CALLS)
            best[loop] = min(best[loop], time.perf_counter() - start)
    return [seconds / CALLS * 1e9 for seconds in best.values()]


def measure(name: str, kind: str, rounds: int) -> Figures:
    """ns an access; for "mixed", how much more it is of a watched one than of a plain one in the same process."""
    if kind != "mixed":
        return {access: nanoseconds([loop], rounds)[0] for access, loop in made(name, kind == "watched").items()}
    plain, watched = made(name, False), made(name, True)
    pairs = {access: nanoseconds([plain[access], watched[access]], rounds) for access in plain}
    return {access: pair[1] - pair[0] for access, pair in pairs.items()}


def in_a_process(name: str, kind: str, rounds: int) -> Figures:
    command = [sys.executable, "-m", "benchmarks.counting", "--rounds", str(rounds), "--one", name, "--kind", kind]
    figures: Figures = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return figures


def best_of(runs: list[Figures]) -> Figures:
    return {access: min(run[access] for run in runs) for access in runs[0]}


def compare(name: str, rounds: int) -> dict[str, tuple[float, float]]:
    """Access: ns plain, and what watching adds."""
    runs = [(in_a_process(name, "plain", rounds), in_a_process(name, "watched", rounds)) for _ in range(PROCESSES)]
    plain, watched = best_of([run[0] for run in runs]), best_of([run[1] for run in runs])
    return {access: (plain[access], watched[access] - plain[access]) for access in plain}


def show(name: str, rounds: int) -> None:
    mixed = in_a_process(name, "mixed", rounds)
    cells = [
        f"{plain:5.0f} {added:+4.0f}{'!' if added > AT_MOST else ' '}({mixed[access]:+4.0f})"
        for access, (plain, added) in compare(name, rounds).items()
    ]
    print(f"{name:18}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


def calling(step: Callable[..., object], *arguments: object) -> Loop:
    def loop(calls: int) -> None:
        for _ in range(calls):
            step(*arguments)

    return loop


def nothing(calls: int) -> None:
    for _ in range(calls):
        pass


def show_others(rounds: int) -> None:
    """What counts without being watched; a functools.lru_cache before and after `watch`."""
    plain, watched = (functools.lru_cache(maxsize=ENTRIES)(lambda number: number) for _ in range(2))
    WATCH.watch("lru_cache", watched)
    pairs = {
        "a hit of functools.lru_cache, watched": (calling(plain, 0), calling(watched, 0)),
        "CountedGets: a get": (calling(Backend().get, 0), calling(CountedBackend().get, 0)),
        "kit Cache: the step that counts": (nothing, calling(Cache[int, int](ENTRIES)._hit)),
    }
    for name, (without, with_it) in pairs.items():
        figures = nanoseconds([without, with_it], rounds * 10)
        print(f"{name:40}{figures[0]:5.0f} {figures[1] - figures[0]:+4.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.kind, arguments.rounds)))
        return
    print(
        f"Python {platform.python_version()}, cachetools {cachetools.__version__}: ns plain, added by watching (mixed)"
    )
    print(" " * 18 + "".join(f"{access:>18}" for access in made("Cache", False)))
    for name in CACHES:
        show(name, arguments.rounds)
    show_others(arguments.rounds)


if __name__ == "__main__":
    main()
