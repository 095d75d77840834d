"""The peak suite: what each plugin says of 300 MB that live for 5 ms, in eleven ways, beside the kernel's own figure.

    python benchmarks/pytest_peaks.py [--base-mb 50]

Every row is one test. "kernel" is the growth of the high-water mark in a bare process that runs the same lines (for
the row with a child process: the child's own mark). `--base-mb 3000` makes the tests start at 3 GB resident.
The peers are measured where they are installed: pytest-memray, pytest-monitor, and pytest-resource-usage, which samples
the unique set size of the process tree every 0.1 s ("USS") or asks tracemalloc. `--json FILE` keeps the figures.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path

MB = 1 << 20

SETUP = """
import mmap, os, subprocess, sys, tempfile, threading, time
import numpy
SIZE = 300 << 20
CHILD = "import sys, time; x = b'1' * (300 << 20); time.sleep(.005); " \\
    "print([l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM')][0])"
"""

ROWS = {
    "numpy": "x = numpy.ones(SIZE // 8); time.sleep(.005); del x",
    "bytes": "x = b'1' * SIZE; time.sleep(.005); del x",
    "child process": "subprocess.run([sys.executable, '-I', '-S', '-c', CHILD], stdout=subprocess.DEVNULL)",
    "forked child": """
        pid = os.fork()
        if pid == 0:
            x = b'1' * SIZE
            time.sleep(.005)
            os._exit(0)
        os.waitpid(pid, 0)
    """,
    "anonymous mmap": "m = mmap.mmap(-1, SIZE); m.write(b'1' * 4096 * 1024); "
    "[m.__setitem__(i, 1) for i in range(0, SIZE, 4096)]; time.sleep(.005); m.close()",
    "file mmap": """
        with tempfile.TemporaryFile() as f:
            f.truncate(SIZE)
            m = mmap.mmap(f.fileno(), SIZE)
            [m.__setitem__(i, 1) for i in range(0, SIZE, 4096)]
            time.sleep(.005)
            m.close()
    """,
    "python objects": "x = [bytes(4000) for _ in range(75_000)]; time.sleep(.005); del x",
    "thread": """
        def run():
            x = b'1' * SIZE
            time.sleep(.005)
        t = threading.Thread(target=run); t.start(); t.join()
    """,
    "fixture": "",
    "untouched reservation": "x = numpy.empty(SIZE // 8); time.sleep(.005); del x",
    "unittest method": "x = b'1' * SIZE; time.sleep(.005); del x",
}

BARE = """
def kib(name):
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith(name))
open("/proc/self/clear_refs", "w").write("5")
before = kib("VmRSS:")
{body}
print((kib("VmHWM:") - before) * 1024)
"""


def row_name(nodeid: str) -> str:
    return re.split("::|/", nodeid)[-1].removeprefix("test_").replace("_", " ")


def suite(base_mb: int) -> str:
    parts = [SETUP, "import unittest, pytest", f"BASE = b'1' * ({base_mb} << 20)"]
    for name, body in ROWS.items():
        function = "test_" + name.replace(" ", "_")
        code = textwrap.indent(textwrap.dedent(body).strip() or "pass", "    ")
        if name == "fixture":
            parts.append("@pytest.fixture\ndef big():\n    x = b'1' * SIZE\n    time.sleep(.005)\n    del x")
            parts.append(f"def {function}(big): pass")
        elif name == "unittest method":
            parts.append(f"class TestOld(unittest.TestCase):\n    def {function}(self):\n    {code}")
        else:
            parts.append(f"def {function}():\n{code}")
    return "\n".join(parts) + "\n"


def kernel(name: str) -> float:
    """Growth in MB of the same lines in a bare process."""
    if name == "child process":
        command = [
            sys.executable,
            "-I",
            "-S",
            "-c",
            re.search(r"CHILD = (.*?)\n\Z", SETUP, re.S)[1].join(["print(", ")"]),
        ]
        code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        output = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
        return int(output.stdout) * 1024 / MB
    if name == "forked child":
        return 300.0
    body = textwrap.dedent(ROWS["bytes"] if name == "fixture" else ROWS[name]).strip()
    code = SETUP + BARE.format(body=body)
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) / MB


def pytest_run(directory: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, "test_peaks.py"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    result = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        print(result.stdout[-2000:], result.stderr[-2000:], file=sys.stderr)
    return result.stdout


def ours(directory: Path, base_mb: int) -> dict[str, float]:
    del base_mb
    pytest_run(directory, "-p", "pytest_amm.plugin", "--amm-json=r.json")
    tests = json.loads((directory / "r.json").read_text())["tests"]
    found = {}
    for test in tests:
        children = max(phase["children_bytes"] for phase in test["phases"])
        name = row_name(test["nodeid"])
        found[name] = (children if name == "child process" else test["growth_bytes"]) / MB
    return found


def memray(directory: Path, base_mb: int) -> dict[str, float]:
    """The high-water mark of heap allocations that pytest-memray prints for each test."""
    del base_mb
    text = pytest_run(directory, "-p", "memray", "--memray", "--most-allocations=0", "-s")
    units = {"B": 1 / MB, "KiB": 1 / 1024, "MiB": 1.0, "GiB": 1024.0}
    found = {}
    pattern = r"Allocation results for \S*?test_peaks\.py::(\S+) at the high watermark\s+.*?allocated: ([\d.]+)(\w+)"
    for nodeid, amount, unit in re.findall(pattern, text, re.S):
        found[row_name(nodeid)] = float(amount) * units[unit]
    return found


def monitor(directory: Path, base_mb: int) -> dict[str, float]:
    """pytest-monitor's MEM_USAGE, the sampled absolute peak, less where the run stood before."""
    pytest_run(directory, "-p", "monitor", "--db", "m.db")
    rows = sqlite3.connect(directory / "m.db").execute("select ITEM, MEM_USAGE from TEST_METRICS").fetchall()
    least = min(usage for _, usage in rows)
    del base_mb
    return {row_name(item): usage - least for item, usage in rows}


def resource_usage(marker: str) -> Callable[[Path, int], dict[str, float]]:
    """What pytest-resource-usage prints for tests with one of its markers, in the units it prints."""
    units = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}

    def measured(directory: Path, base_mb: int) -> dict[str, float]:
        del base_mb
        conftest = directory / "conftest.py"
        conftest.write_text(
            "import pytest\ndef pytest_collection_modifyitems(items):\n"
            f"    for item in items: item.add_marker(pytest.mark.{marker})\n"
        )
        plugins = ("report", "uss", "tracemalloc")
        text = pytest_run(directory, *(part for name in plugins for part in ("-p", f"pytest_resource_usage.{name}")))
        conftest.unlink()
        pattern = r"^(\S+) \(call\) peak [a-z ]+: (-?[\d.e+]+) ?(bytes|kB|MB|GB)$"
        return {row_name(test): float(size) * units[unit] / MB for test, size, unit in re.findall(pattern, text, re.M)}

    return measured


def tools() -> dict[str, Callable[[Path, int], dict[str, float]]]:
    """Ours, and the peers that are installed."""
    peers = {
        "pytest_memray": {"pytest-memray": memray},
        "pytest_monitor": {"pytest-monitor": monitor},
        "pytest_resource_usage": {
            "resource-usage USS": resource_usage("report_uss"),
            "tracemalloc": resource_usage("report_tracemalloc"),
        },
    }
    found: dict[str, Callable[[Path, int], dict[str, float]]] = {"pytest_amm": ours}
    for package, measures in peers.items():
        found |= measures if importlib.util.find_spec(package) else {}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-mb", type=int, default=50)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures = {"kernel": {row: kernel(row) for row in ROWS}}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "test_peaks.py").write_text(suite(arguments.base_mb))
        figures |= {tool: measure(directory, arguments.base_mb) for tool, measure in tools().items()}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures))
    print(f"MB, at a base of {arguments.base_mb} MB\n")
    print(f"| 300 MB for 5 ms as | {' | '.join(figures)} |")
    print("|---|" + "--:|" * len(figures))
    for row in ROWS:
        cells = (_cell(seen.get(row), figures["kernel"][row]) for seen in figures.values())
        print(f"| {row} | {' | '.join(cells)} |")
    print("\n**bold** = off by more than 2 % and more than 1 MB")


def _cell(value: float | None, truth: float) -> str:
    if value is None:
        return "-"
    return f"**{value:.1f}**" if wrong(value, truth) else f"{value:.1f}"


def wrong(value: float, truth: float) -> bool:
    """Off by more than 1 MB and more than 2 %."""
    return abs(value - truth) > max(1.0, 0.02 * abs(truth))


if __name__ == "__main__":
    main()
