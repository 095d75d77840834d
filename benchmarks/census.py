"""How long other threads stand still for a count of objects: `python -m benchmarks.census [--objects N] [--shuffle]`.

A thread looks at the clock without pause; the longest gap it sees while another thread counts is the pause. Beside our
census: gc.get_objects, which objgraph and muppy build on, and objgraph.growth; beside our search for what keeps a type
alive: objgraph's. `--shuffle` makes the objects lie in memory in another order than they were made, as they do in a
program that has run for a while.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import threading
import time
from collections.abc import Callable

import objgraph

from amm_exporter.control.chains import chain_to
from amm_exporter.probes.objects import ObjectProbe, type_name


class Row:
    """An instance as programs have them."""

    def __init__(self, number: int) -> None:
        self.number = number


ROW = type_name(Row)
KEPT: list[object] = []


class Gap:
    """The longest time between two looks at the clock of a thread that does nothing else."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._stopping = False
        self._anew = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        last = time.perf_counter()
        while not self._stopping:
            now = time.perf_counter()
            if self._anew.is_set():
                self.longest, last = 0.0, now
                self._anew.clear()
            self.longest, last = max(self.longest, now - last), now

    def during(self, step: Callable[[], object]) -> tuple[float, float]:
        """Longest gap and CPU time of the step, in milliseconds."""
        self._anew.set()
        while self._anew.is_set():
            time.sleep(0.001)
        cpu = time.thread_time()
        result = step()
        cpu = time.thread_time() - cpu
        time.sleep(0.02)
        longest = self.longest
        del result
        return longest * 1e3, cpu * 1e3

    def stop(self) -> None:
        self._stopping = True
        self._thread.join()


def make_objects(count: int, shuffle: bool) -> list[object]:
    makers: list[Callable[[], object]] = [lambda: Row(1), list, list, dict, lambda: ([],)]
    kept = [make() for make in makers for _ in range(count // len(makers))]
    if shuffle:
        random.Random(1).shuffle(kept)
        for number in range(0, len(kept), 2):  # into the place of an older one, somewhere else
            kept[number] = None
            kept[number] = makers[number % len(makers)]()
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=5_000_000)
    parser.add_argument("--shuffle", action="store_true")
    options = parser.parse_args()
    gc.disable()
    kept = KEPT[:] = make_objects(options.objects, options.shuffle)
    probe, gap = ObjectProbe(), Gap()
    steps: dict[str, Callable[[], object]] = {
        "nothing": lambda: time.sleep(0.1),
        "census, 50 ms": probe.census,
        "census, 1 s": lambda: probe.census(1.0),
        "gc.get_objects": gc.get_objects,
        "objgraph.growth": lambda: objgraph.growth(limit=20),
        "chain": lambda: chain_to(ROW),
        "chain, objgraph's": lambda: chain_to(ROW, small_heap_blocks=sys.maxsize),
    }
    print(f"{len(kept):,} objects{', shuffled' if options.shuffle else ''}")
    print(f"{'':24}{'pause, ms':>12}{'CPU, ms':>12}")
    for name, step in steps.items():
        pause, cpu = gap.during(step)
        print(f"{name:24}{pause:12.1f}{cpu:12.1f}")
    gap.stop()


if __name__ == "__main__":
    main()
