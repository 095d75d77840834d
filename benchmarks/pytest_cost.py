"""What the pytest plugin costs, beside plain pytest and, where it is installed, pytest-memray.

    python benchmarks/pytest_cost.py [empty] [suites] [timing] [mark] [--tests 5000] [--rounds 12] [--quick]

    empty    CPU time of 5,000 empty tests: around them, in each of them, and all of it divided by the tests
    suites   CPU time of tests that allocate all the time, in Python and in numpy, beside neighbouring ones without
    timing   what pytest-benchmark measures with the plugin and without
    mark     resetting and reading the kernel's high-water mark, from 28 MB to 3 GB resident

All variants run in each round, in an order that moves on. Plain pytest runs twice a round: each variant is compared
with the mean of the two, and the second run with the first, so that its row shows what is noise. A figure is the median
over the rounds, and how far it may be off 1 time in 20 by how far the rounds differ. In the suites each two
neighbouring blocks of tests are a pair, one with the plugin and one without (every_other_block.py), and the median is
that of all pairs of all rounds. The watchdog is a process of its own: its CPU time is shown apart, and is in no other
figure but "all in". All parts together take 17 minutes, with `--quick` four.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from pytest_cost_cases import CLOCK, MARK, SUITE_TESTS, SUITES, TIMED

Run = TypeVar("Run")
AMM = ("-p", "pytest_amm.plugin")
BUDGETS = ("--amm-budget=1536MB", "--amm-test-budget=512MB")
PLAIN, AGAIN, PEER = "plain pytest", "plain pytest, again", "pytest-memray --memray"
VARIANTS: dict[str, tuple[str, ...]] = {
    PLAIN: (),
    "pytest_amm installed, unused": AMM,
    "pytest_amm --amm-peaks": (*AMM, "--amm-peaks"),
    AGAIN: (),
    "pytest_amm budgets, --amm-on-breach=fail": (*AMM, *BUDGETS, "--amm-on-breach=fail"),
    "pytest_amm budgets, watchdog armed": (*AMM, *BUDGETS),
    PEER: ("-p", "memray", "--memray"),
}


class Cost(NamedTuple):
    """CPU seconds of one run: pytest with the children it waited for, of that its tests alone, and the watchdog."""

    run_seconds: float
    tests_seconds: float
    watchdog_seconds: float

    @property
    def around_seconds(self) -> float:
        return self.run_seconds - self.tests_seconds


class Figure(NamedTuple):
    """A median, and how far it may be off; one round says nothing of that."""

    middle: float
    error: float | None

    def show(self, form: str, unit: str = "", *, factor: float = 1.0) -> str:
        error = "" if self.error is None else f" ±{self.error * factor:{form}}"
        return f"{self.middle * factor:+{form}}{error}{unit}"


def figure(values: Sequence[float]) -> Figure:
    """The error is two standard errors of a median, by the median distance from it: a wild round counts for little."""
    middle = statistics.median(values)
    if len(values) < 3:
        return Figure(middle, None)
    distance = statistics.median(abs(value - middle) for value in values)
    return Figure(middle, 2 * 1.2533 * 1.4826 * distance / len(values) ** 0.5)


def paired(pairs: Sequence[tuple[float, float]]) -> Figure:
    """The median of what the first of each pair takes more than the second, as a share of the second.

    The error spans the order statistics between which the true median lies 19 times in 20, whatever the distribution.
    """
    middle = statistics.median(without for _, without in pairs)
    shares = sorted((with_it - without) / middle for with_it, without in pairs)
    if len(shares) < 3:
        return Figure(statistics.median(shares), None)
    reach = len(shares) ** 0.5
    low, high = shares[max(0, int(len(shares) / 2 - reach))], shares[min(len(shares) - 1, int(len(shares) / 2 + reach))]
    return Figure(statistics.median(shares), (high - low) / 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--tests", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--quick", action="store_true", help="3 rounds of 1,000 tests")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.tests, arguments.rounds = 1000, 3
    adopt_orphans()
    for what in arguments.what or PARTS:
        with tempfile.TemporaryDirectory() as directory:
            PARTS[what](Path(directory), arguments)
        print(flush=True)


def empty(directory: Path, arguments: argparse.Namespace) -> None:
    count = arguments.tests
    file = directory / "test_many.py"
    file.write_text("".join(f"def test_{number}(): pass\n" for number in range(count)))
    runs = in_turns(lambda name: cost(file, VARIANTS[name]), installed(), arguments.rounds)
    print(row(f"{count} empty tests", ("around the tests", "a test", "watchdog, a test", "all in, a test", "of plain")))
    plain = [min(each.run_seconds for each in runs[PLAIN]), min(each.tests_seconds for each in runs[PLAIN])]
    print(row(PLAIN, (f"{(plain[0] - plain[1]) * 1e3:.0f} ms", f"{plain[1] / count * 1e3:.3f} ms")))
    for name in compared():
        around = over_plain(runs, name, lambda each: each.around_seconds)
        a_test = over_plain(runs, name, lambda each: each.tests_seconds / count)
        watchdog = figure([each.watchdog_seconds / count for each in runs[name]])
        all_in = over_plain(runs, name, lambda each: (each.run_seconds + each.watchdog_seconds) / count)
        share = share_of_plain(runs, name, lambda each: each.run_seconds)
        each_test = [found.show(".3f", " ms", factor=1e3) for found in (a_test, watchdog, all_in)]
        print(row(name, (around.show(".0f", " ms", factor=1e3), *each_test, share.show(".1%"))))


def suites(directory: Path, arguments: argparse.Namespace) -> None:
    print(row("beside the neighbouring tests", tuple(SUITES)))
    found = {}
    for number, (title, text) in enumerate(SUITES.items()):
        file = directory / f"test_{number}.py"
        file.write_text(f"SUITE_TESTS = {SUITE_TESTS}\n{textwrap.dedent(text)}")
        measure = functools.partial(neighbours, file)
        found[title] = {
            name: [pair for pairs in rounds for pair in pairs]
            for name, rounds in in_turns(measure, installed(), arguments.rounds).items()
        }
    plain = [statistics.median(without for _, without in pairs[PLAIN]) for pairs in found.values()]
    print(row(PLAIN, [f"{seconds * 1e3:.1f} ms a test" for seconds in plain]))
    for name in compared():
        print(row(name, [paired(pairs[name]).show(".2%") for pairs in found.values()]))


def neighbours(file: Path, name: str) -> list[tuple[float, float]]:
    """CPU seconds a test of each two neighbouring blocks of one run, the first with the plugin, the second without.

    The peer cannot be taken out between tests: its whole run is one pair with a whole run without.
    """
    if name == PEER:
        return [(cost(file, VARIANTS[PEER]).tests_seconds, cost(file, ()).tests_seconds)]
    cost(file, (*VARIANTS[name], "-p", "every_other_block"))
    pairs: list[tuple[float, float]] = json.loads((file.parent / "pairs.json").read_text())
    return pairs


def timing(directory: Path, arguments: argparse.Namespace) -> None:
    file, report = directory / "test_timed.py", directory / "timed.json"
    file.write_text(TIMED)

    def timed(name: str) -> dict[str, float]:
        cost(file, (*VARIANTS[name], "-p", "pytest_benchmark.plugin", f"--benchmark-json={report}"))
        stats: dict[str, float] = json.loads(report.read_text())["benchmarks"][0]["stats"]
        return stats

    runs = in_turns(timed, installed(), arguments.rounds)
    print(row("pytest-benchmark says", ("least", "median")))
    print(row(PLAIN, [f"{min(run[key] for run in runs[PLAIN]) * 1e6:.1f} us" for key in ("min", "median")]))
    for name in compared():
        shares = [share_of_plain(runs, name, lambda each, key=key: each[key]) for key in ("min", "median")]
        print(row(name, [share.show(".1%") for share in shares]))


def mark(directory: Path, arguments: argparse.Namespace) -> None:
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


def compared() -> list[str]:
    return [name for name in installed() if name != PLAIN]


def in_turns(measure: Callable[[str], Run], names: Sequence[str], rounds: int) -> dict[str, list[Run]]:
    """What each variant gave in each round. The peer's cost is far above the noise and takes minutes: one round."""
    found: dict[str, list[Run]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            if name != PEER or not found[name]:
                found[name].append(measure(name))
    return found


def over_plain(runs: Mapping[str, Sequence[Run]], name: str, value: Callable[[Run], float]) -> Figure:
    pairs = zip(runs[name], plains(runs, name, value), strict=name != PEER)
    return figure([value(run) - plain for run, plain in pairs])


def share_of_plain(runs: Mapping[str, Sequence[Run]], name: str, value: Callable[[Run], float]) -> Figure:
    pairs = zip(runs[name], plains(runs, name, value), strict=name != PEER)
    return figure([value(run) / plain - 1 for run, plain in pairs])


def plains(runs: Mapping[str, Sequence[Run]], name: str, value: Callable[[Run], float]) -> list[float]:
    """What plain pytest had in each round: the mean of both its runs, but for the second the first."""
    first, second = ([value(run) for run in runs[key]] for key in (PLAIN, AGAIN))
    if name == AGAIN:
        return first
    return [(one + other) / 2 for one, other in zip(first, second, strict=True)]


def row(name: str, cells: Sequence[str]) -> str:
    return f"{name:42}" + "".join(f"{cell:>22}" for cell in cells)


def cost(suite: Path, options: tuple[str, ...]) -> Cost:
    """One run, in the suite's own directory."""
    directory = suite.parent
    (directory / "loop_clock.py").write_text(CLOCK)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "loop_clock", *options, str(suite)]
    settings = {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": f"{directory}{os.pathsep}{Path(__file__).parent}",
        "PYTHONHASHSEED": "0",
    }
    process = subprocess.Popen(
        command, cwd=directory, env=os.environ | settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    tests_seconds = float((directory / "loop.txt").read_text())
    return Cost(usage.ru_utime + usage.ru_stime, tests_seconds, orphans_seconds())


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
