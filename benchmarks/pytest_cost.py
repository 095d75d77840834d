"""What the pytest plugin costs, beside plain pytest and, where it is installed, pytest-memray.

    python benchmarks/pytest_cost.py [empty] [suites] [timing] [mark] [--tests 5000] [--rounds 7]

    empty    CPU time of collecting and running empty tests: a run, a test, and all in
    suites   the same for tests that allocate all the time, in Python and in numpy
    timing   what pytest-benchmark measures with the plugin and without
    mark     resetting and reading the kernel's high-water mark, from 28 MB to 3 GB resident

All variants take turns within each round, so that what else the machine does falls on all of them. Shown are the least
CPU seconds of all rounds, since what others do only ever adds. The watchdog is a process of its own: its CPU time is
shown apart, and is in no other figure but "all in".
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

AMM = ("-p", "pytest_amm.plugin")
BUDGETS = ("--amm-budget=1536MB", "--amm-test-budget=512MB")
PLAIN, PEER = "plain pytest", "pytest-memray --memray"
VARIANTS: dict[str, tuple[str, ...]] = {
    PLAIN: (),
    "pytest_amm installed, unused": AMM,
    "pytest_amm --amm-peaks": (*AMM, "--amm-peaks"),
    "pytest_amm budgets, --amm-on-breach=fail": (*AMM, *BUDGETS, "--amm-on-breach=fail"),
    "pytest_amm budgets, watchdog armed": (*AMM, *BUDGETS),
    PEER: ("-p", "memray", "--memray"),
}
SUITES = {
    "allocating Python": """
        import pytest
        @pytest.mark.parametrize("number", range(150))
        def test_it(number):
            rows = [{"key": each, "text": str(each)} for each in range(60_000)]
            assert sum(len(row["text"]) for row in rows) > 0
    """,
    "numpy": """
        import numpy, pytest
        @pytest.mark.parametrize("number", range(150))
        def test_it(number):
            base = numpy.arange(250_000, dtype=float)
            for _ in range(20):
                base = numpy.sqrt(base * base + 1.0)
            assert base.sum() > 0
    """,
}
TIMED = """
def test_it(benchmark):
    benchmark.pedantic(lambda: sorted([{"key": -each} for each in range(2_000)], key=lambda row: row["key"]),
                       rounds=400, iterations=1, warmup_rounds=20)
"""
MARK = """
import statistics, sys, time
from pytest_amm.meter import Meter
base = b"1" * (int(sys.argv[1]) << 20)
meter = Meter()
quiet, grown = [], []
for number in range(150):
    for spike_bytes, costs in ((0, quiet), (2 << 20, grown)):
        before = time.process_time_ns()
        meter.start()
        between = time.process_time_ns()
        spike = b"1" * spike_bytes
        del spike
        resumed = time.process_time_ns()
        meter.stop()
        costs.append(between - before + time.process_time_ns() - resumed)
print(meter.rss_bytes() >> 20, statistics.median(quiet) / 1000, statistics.median(grown) / 1000)
"""


class Cost(NamedTuple):
    """CPU seconds of one run: pytest with the children it waited for, and the watchdog, which it does not wait for."""

    pytest_seconds: float
    watchdog_seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--tests", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    adopt_orphans()
    for what in arguments.what or PARTS:
        with tempfile.TemporaryDirectory() as directory:
            PARTS[what](Path(directory), arguments)
        print()


def empty(directory: Path, arguments: argparse.Namespace) -> None:
    """What a run costs with one test, what each further test adds, and all of it divided by the tests."""
    count = arguments.tests
    single, many = directory / "test_one.py", directory / "test_many.py"
    single.write_text("def test_0(): pass\n")
    many.write_text("".join(f"def test_{number}(): pass\n" for number in range(count)))
    runs = rounds(dict.fromkeys(installed(), (single, many)), arguments.rounds)
    plain_one, plain_many = runs[PLAIN, single], runs[PLAIN, many]
    heads = "".join(f"{head:>11}" for head in ("CPU", "over plain", "a run", "a test", "watchdog", "all in"))
    print(f"{f'{count} empty tests':42}{heads}")
    for name in installed():
        one, all_ = runs[name, single], runs[name, many]
        fixed = one.pytest_seconds - plain_one.pytest_seconds
        extra = all_.pytest_seconds - plain_many.pytest_seconds
        watchdog = all_.watchdog_seconds
        print(
            f"{name:42}{all_.pytest_seconds:9.2f} s{extra / plain_many.pytest_seconds:+11.1%}{fixed * 1000:+8.0f} ms"
            f"{(extra - fixed) / (count - 1) * 1000:+8.3f} ms{watchdog / count * 1000:+8.3f} ms"
            f"{(extra + watchdog) / count * 1000:+8.3f} ms"
        )


def suites(directory: Path, arguments: argparse.Namespace) -> None:
    """How much longer a suite takes that allocates all the time."""
    print(f"{'':42}" + "".join(f"{title:>20}" for title in SUITES))
    files = []
    for number, text in enumerate(SUITES.values()):
        files.append(directory / f"test_{number}.py")
        files[-1].write_text("\n".join(line[8:] for line in text.splitlines()))
    runs = rounds({name: tuple(files) for name in installed()}, arguments.rounds)
    for name in installed():
        plain = [runs[PLAIN, file].pytest_seconds for file in files]
        ratios = [runs[name, file].pytest_seconds / before for file, before in zip(files, plain, strict=True)]
        print(f"{name:42}" + "".join(f"{ratio - 1:+20.1%}" for ratio in ratios))


def timing(directory: Path, arguments: argparse.Namespace) -> None:
    """What pytest-benchmark says of the same function."""
    file, report = directory / "test_timed.py", directory / "timed.json"
    file.write_text(TIMED)
    names = [name for name in VARIANTS if name != PEER]
    least: dict[str, list[float]] = {name: [] for name in names}
    middle: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(arguments.rounds):
        for name in names:
            cost(file, (*VARIANTS[name], "-p", "pytest_benchmark.plugin", f"--benchmark-json={report}"))
            stats = json.loads(report.read_text())["benchmarks"][0]["stats"]
            least[name].append(stats["min"])
            middle[name].append(stats["median"])
    print(f"{'pytest-benchmark says':42}{'least':>10}{'':>9}{'median':>12}")
    for name in names:
        low, mid = min(least[name]), min(middle[name])
        shares = low / min(least[PLAIN]) - 1, mid / min(middle[PLAIN]) - 1
        print(f"{name:42}{low * 1e6:7.1f} us{shares[0]:+9.1%}{mid * 1e6:9.1f} us{shares[1]:+9.1%}")


def mark(directory: Path, arguments: argparse.Namespace) -> None:
    """CPU time of one reset and reading, where the test grew and where it did not."""
    del directory
    print(f"{'resident':>10}{'quiet test':>14}{'test that grew':>18}")
    for base_mb in (0, 300, 1000, 3000):
        found = []
        for _ in range(max(1, arguments.rounds // 2)):
            command = [sys.executable, "-c", MARK, str(base_mb)]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found.append([float(word) for word in output.split()])
        rss, quiet, grown = (min(column) for column in zip(*found, strict=True))
        print(f"{rss:7.0f} MB{quiet:11.1f} us{grown:15.1f} us")


PARTS = {"empty": empty, "suites": suites, "timing": timing, "mark": mark}


def installed() -> list[str]:
    return [name for name in VARIANTS if name != PEER or importlib.util.find_spec("pytest_memray")]


def rounds(files: dict[str, tuple[Path, ...]], count: int) -> dict[tuple[str, Path], Cost]:
    """The least cost of each variant and file; the variants take turns."""
    found: dict[tuple[str, Path], list[Cost]] = {}
    for number in range(count):
        for name, each in files.items():
            if number and name == PEER:  # its cost is far above the noise, and it takes minutes
                continue
            for file in each:
                found.setdefault((name, file), []).append(cost(file, VARIANTS[name]))
    return {key: Cost(*(min(column) for column in zip(*costs, strict=True))) for key, costs in found.items()}


def cost(suite: Path, options: tuple[str, ...]) -> Cost:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(suite)]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    process = subprocess.Popen(
        command, cwd=suite.parent, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return Cost(usage.ru_utime + usage.ru_stime, orphans_seconds())


def adopt_orphans() -> None:
    """The watchdog leaves its family: it becomes a child of this process (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


def orphans_seconds() -> float:
    """CPU time of the orphans, once they have ended."""
    seconds = 0.0
    while True:
        try:
            _, _, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return seconds
        seconds += usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
