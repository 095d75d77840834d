"""CPU per reading, ours beside psutil, interleaved in one run: `python -m benchmarks.probes [--rounds N]`.

Times are CPU of this process (user and system), the median over the rounds. A round takes each reading in turn, so that
a noisy neighbour is noise for all alike. "moving" readings are made to differ from the last one, as they do in a busy
program: a probe that is asked again while nothing moved is cheaper.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable

import psutil

from amm_exporter.analysis.tiers import classify
from amm_exporter.model import Tier
from amm_exporter.probes.allocator import AllocatorProbe
from amm_exporter.probes.gc_events import GcProbe
from amm_exporter.probes.limit import LimitProbe
from amm_exporter.probes.pressure import PressureProbe
from amm_exporter.probes.process import HighWaterMark, ProcessProbe, TreeProbe

ENTER_RATIOS = (0.6, 0.7, 0.8, 0.85)
CALLS = 200


class Readings:
    """What is measured. `Tick` is what a governor does at every interval, each probe asked once."""

    def __init__(self) -> None:
        self.process = ProcessProbe()
        self.tree = TreeProbe()
        self.mark = HighWaterMark()
        self.limit = LimitProbe()
        self.pressure = PressureProbe()
        self.allocators = AllocatorProbe(clock=lambda: 0.0)  # as if each reading were the first: it paces itself
        self.psutil = psutil.Process()
        self.tier = Tier.NORMAL

    def moving_read(self) -> None:
        self.process._last = None
        self.process.read()

    def mark_cycle(self) -> None:
        self.mark.reset()
        self.mark.read_bytes()

    def tick(self) -> None:
        self.process._last = None
        memory = self.process.read()
        self.pressure.read()
        cgroup = self.limit.cgroup()
        used = cgroup.working_set_bytes if cgroup else memory.rss_bytes
        self.tier = classify(used / self.limit.read()[0].size_bytes, self.tier, ENTER_RATIOS, 0.03)

    def psutil_tick(self) -> None:
        self.psutil.memory_info()
        used = psutil.virtual_memory().percent / 100
        self.tier = classify(used, self.tier, ENTER_RATIOS, 0.03)

    def table(self) -> dict[str, tuple[Callable[[], object], Callable[[], object] | None]]:
        """Name: ours, and psutil's nearest counterpart."""
        return {
            "RSS": (self.process.rss_bytes, self.psutil.memory_info),
            "RSS and virtual, moving": (self.moving_read, self.psutil.memory_info),
            "process details": (self.process.details, self.psutil.memory_full_info),
            "process tree": (self.tree.read, lambda: self.psutil.children(recursive=True)),
            "peak: reset and read": (self.mark_cycle, None),
            "host RAM and swap": (self.limit.host, psutil.virtual_memory),
            "limits": (self.limit.read, None),
            "limits, all read again": (self.limit._read_all, None),
            "cgroup usage, working set": (self.limit.cgroup, None),
            "pressure": (self.pressure.read, None),
            "allocators": (self.allocators.read, None),
            "full tick": (self.tick, self.psutil_tick),
        }


def cpu_us(call: Callable[[], object], calls: int = CALLS) -> float:
    start = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - start) / calls * 1e6


def measure(rounds: int) -> list[tuple[str, float, float | None]]:
    table = Readings().table()
    ours: dict[str, list[float]] = {name: [] for name in table}
    theirs: dict[str, list[float]] = {name: [] for name in table}
    for _ in range(rounds):
        for name, (mine, other) in table.items():
            ours[name].append(cpu_us(mine))
            if other:
                theirs[name].append(cpu_us(other, CALLS // 10))
    return [
        (name, statistics.median(ours[name]), statistics.median(theirs[name]) if theirs[name] else None)
        for name in table
    ]


def gc_callback_us(rounds: int) -> float:
    """What the callback adds to one collection of the youngest generation, nothing in it."""
    probe = GcProbe()
    gc.collect()
    gc.freeze()
    added = []
    for _ in range(rounds):
        without = cpu_us(lambda: gc.collect(0))
        probe.start()
        added.append(cpu_us(lambda: gc.collect(0)) - without)
        probe.stop()
    gc.unfreeze()
    return statistics.median(added)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    rounds = parser.parse_args().rounds
    print(f"{'CPU per reading, us':32}{'ours':>10}{'psutil':>10}")
    for name, ours, theirs in measure(rounds):
        print(f"{name:32}{ours:10.2f}{'' if theirs is None else f'{theirs:.2f}':>10}")
    print(f"{'gc callback, per collection':32}{gc_callback_us(rounds):10.2f}")


if __name__ == "__main__":
    main()
