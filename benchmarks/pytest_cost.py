"""What the pytest plugin costs: CPU time of collecting and running empty tests, beside plain pytest and pytest-memray.

    python benchmarks/pytest_cost.py [--tests 5000] [--rounds 5]

The variants take turns within each round, so that what else the machine does falls on all of them. Shown are the least
CPU seconds of all rounds (what others do on the machine only ever adds), what a run with a single test costs over plain
pytest, and what each further test adds.
The watchdog's own CPU time is not in it. pytest-memray is measured where it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

AMM = ("-p", "pytest_amm.plugin")
PEER = "pytest-memray --memray"
VARIANTS: dict[str, tuple[str, ...]] = {
    "plain pytest": (),
    "pytest_amm installed, unused": AMM,
    "pytest_amm --amm-peaks": (*AMM, "--amm-peaks"),
    "pytest_amm budgets, --amm-on-breach=fail": (
        *AMM,
        "--amm-budget=1536MB",
        "--amm-test-budget=512MB",
        "--amm-on-breach=fail",
    ),
    "pytest_amm budgets, watchdog armed": (*AMM, "--amm-budget=1536MB", "--amm-test-budget=512MB"),
    PEER: ("-p", "memray", "--memray"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tests", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    variants = dict(VARIANTS)
    if importlib.util.find_spec("pytest_memray") is None:
        del variants[PEER]
    one: dict[str, list[float]] = {name: [] for name in variants}
    many: dict[str, list[float]] = {name: [] for name in variants}
    with tempfile.TemporaryDirectory() as directory:
        single, suite = Path(directory) / "test_one.py", Path(directory) / "test_many.py"
        single.write_text("def test_0(): pass\n")
        suite.write_text("".join(f"def test_{number}(): pass\n" for number in range(arguments.tests)))
        for number in range(arguments.rounds):
            for name, options in variants.items():
                if number and name == PEER:  # its cost is far above the noise, and it takes minutes
                    continue
                one[name].append(cpu_seconds(single, options))
                many[name].append(cpu_seconds(suite, options))
    show(one, many, arguments.tests)


def cpu_seconds(suite: Path, options: tuple[str, ...]) -> float:
    """User and system time of one run, children included."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(suite)]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    process = subprocess.Popen(command, cwd=suite.parent, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def show(one: dict[str, list[float]], many: dict[str, list[float]], test_count: int) -> None:
    """What a run costs at all (one test), and what each further test adds; both over plain pytest."""
    print(f"{'':44} {'CPU s':>7} {'over plain':>11} {'a run':>10} {'a test':>10}")
    plain_one, plain_many = min(one["plain pytest"]), min(many["plain pytest"])
    for name in many:
        extra, fixed = min(many[name]) - plain_many, min(one[name]) - plain_one
        each = (extra - fixed) / (test_count - 1)
        share = f"{extra / plain_many:+11.1%}"
        print(f"{name:44} {min(many[name]):7.2f} {share} {fixed * 1000:+7.1f} ms {each * 1000:+7.3f} ms")


if __name__ == "__main__":
    main()
