"""What the leak gate says of functions that leak from 100 bytes a call on, and of clean ones that look guilty.

    python -m benchmarks.leak_gate [--body-ms 1] [--max-per-call 64B] [--json FILE] [--only TEXT]

Each case runs in a process of its own. Its body computes until it has taken the given CPU time; `--body-ms 0` runs the
cases as fast as they go.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from amm_exporter.control.leak_gate import leak_per_call
from amm_exporter.units import format_size, parse_size
from benchmarks.leak_gate_cases import Build, all_cases


def filled(call: Callable[[], object], body_seconds: float) -> Callable[[], object]:
    """The call, and computing until the thread has spent so much CPU time on both."""

    def body() -> None:
        until = time.thread_time() + body_seconds
        call()
        while time.thread_time() < until:
            sum(range(100))

    return body if body_seconds else call


def decide(build: Build, *, body_seconds: float, max_per_call_bytes: int) -> dict[str, Any]:
    body = filled(build(), body_seconds)
    started, cpu = time.perf_counter(), time.process_time()
    verdict = leak_per_call(body, max_per_call_bytes=max_per_call_bytes, explain=False)
    return {
        "decision": verdict.decision,
        "bytes_per_call": verdict.bytes_per_call,
        "calls": verdict.calls,
        "series": verdict.series,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
    }


def right(size: int, decision: str) -> bool:
    return decision == ("leak" if size else "clean")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--body-ms", type=float, default=1.0)
    parser.add_argument("--max-per-call", default="64B")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default="", help="cases with this in their name")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        (build,) = (build for name, _, build in all_cases() if name == arguments.case)
        allowed = int(parse_size(arguments.max_per_call))
        print(json.dumps(decide(build, body_seconds=arguments.body_ms / 1000, max_per_call_bytes=allowed)))
        return
    rows = [row(name, size) for name, size, _ in all_cases() if arguments.only in name]
    if arguments.json:
        arguments.json.write_text(json.dumps(rows))
    show(rows)


def row(name: str, size: int) -> dict[str, Any]:
    """The outcome of one case in a process of its own, with the options of this one."""
    command = [sys.executable, "-m", "benchmarks.leak_gate", *sys.argv[1:], "--case", name]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return {"name": name, "leaks_bytes": size, **json.loads(result.stdout)}


def show(rows: list[dict[str, Any]]) -> None:
    print("| Case | leaks a call | decision | measured a call | by | calls | seconds | CPU |")
    print("|---|--:|---|--:|---|--:|--:|--:|")
    for each in rows:
        mark = "" if right(each["leaks_bytes"], each["decision"]) else " **wrong**"
        leaks = format_size(each["leaks_bytes"]) if each["leaks_bytes"] else "-"
        measured = format_size(each["bytes_per_call"])
        figures = f"{measured} | {each['series']} | {each['calls']} | {each['seconds']:.1f} | {each['cpu_seconds']:.1f}"
        print(f"| {each['name']} | {leaks} | {each['decision']}{mark} | {figures} |")
    wrong = sum(not right(each["leaks_bytes"], each["decision"]) for each in rows)
    wall, cpu = (statistics.median(each[name] for each in rows) for name in ("seconds", "cpu_seconds"))
    print(f"\n{len(rows)} cases, {wrong} wrong, median decision after {wall:.1f} s ({cpu:.1f} s of CPU)")


if __name__ == "__main__":
    main()
