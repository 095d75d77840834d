"""What it costs a test to count refused allocations, as `--amm-hard` and isolated tests with a budget do.

    python benchmarks/pytest_refusals.py [--rounds 15]

From Python 3.12 on raised exceptions are told alone; before, every call and return is traced. CPU time, the least of
the rounds, in which each kind of code runs with and without in turn. 5 seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable

from pytest_amm.refusals import Refusals


def calls(depth: int = 20) -> int:
    return depth if depth < 2 else calls(depth - 1) + calls(depth - 2)


def loop() -> int:
    total = 0
    for number in range(300_000):
        total += number & 3
    return total


def rows() -> int:
    table = [{"key": each, "text": str(each)} for each in range(40_000)]
    return sum(len(str(row["text"])) for row in table)


def library() -> str:
    """Much of json's encoder with an indent is Python code."""
    return json.dumps([{"name": each, "values": [1, 2, 3]} for each in range(2_000)], indent=1)


def builtins() -> int:
    return sum(sorted(range(1_000_000, 0, -1))) + len(bytes(5_000_000).translate(bytes(range(256))))


KINDS: dict[str, Callable[[], object]] = {
    "nothing but calls": calls,
    "a loop without calls": loop,
    "allocating rows": rows,
    "a library in Python": library,
    "C code": builtins,
}


def seconds(code: Callable[[], object], *, counted: bool) -> float:
    refusals = Refusals()
    if counted and not refusals.start():
        sys.exit("another tracer is on: nothing to measure")
    before = time.process_time()
    code()
    spent = time.process_time() - before
    refusals.close()
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    print(f"Python {sys.version.split()[0]}: CPU time with refusals counted, times that without")
    for name, code in KINDS.items():
        pairs = [(seconds(code, counted=False), seconds(code, counted=True)) for _ in range(rounds)]
        plain, counted = (min(column) for column in zip(*pairs, strict=True))
        print(f"  {name:<22}{plain * 1e3:8.1f} ms{counted / plain:8.2f}")


if __name__ == "__main__":
    main()
