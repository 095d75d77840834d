"""How often `--amm-fail-growth` fails a run of the same code, and what regressions it finds, under xdist.

    python benchmarks/pytest_compare.py [--runs 10] [--workers 2]

One suite is run again and again; each report is compared with each other one. Then one test takes more.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pytest_amm.compare import compare, regressions

SUITE = """
import json, os
import pytest
@pytest.mark.parametrize("n", range(60))
def test_objects(n): x = [{"a": i, "b": str(i)} for i in range(n * 300)]
@pytest.mark.parametrize("n", range(20))
def test_json(n): json.loads(json.dumps([list(range(50))] * (n * 40)))
@pytest.mark.parametrize("n", range(20))
def test_buffer(n): x = bytearray(n << 18)
def test_more(): x = bytes(bytearray((10 << 20) + int(os.environ.get("MORE_BYTES", "0"))))
"""


def report(directory: Path, workers: int, more_bytes: int = 0) -> dict[str, Any]:
    target = directory / "report.json"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--amm-json={target}"]
    environment = {**os.environ, "MORE_BYTES": str(more_bytes)}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "pytest_amm.plugin,xdist.plugin"}
    options = [f"-n{workers}"] if workers else []
    subprocess.run([*command, *options], cwd=directory, env=environment, stdout=subprocess.DEVNULL, check=True)
    found: dict[str, Any] = json.loads(target.read_text())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2, help="0: without xdist")
    values = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "test_it.py").write_text(SUITE)
        reports = [report(directory, values.workers) for _ in range(values.runs)]
        pairs = list(itertools.permutations(reports, 2))
        false = sum(bool(regressions(compare([base], now["tests"]), 0.1)) for base, now in pairs)
        sys.stdout.write(f"the same code: {false} of {len(pairs)} comparisons fail\n")
        for more in (2, 4, 8):
            worse = report(directory, values.workers, more << 20)["tests"]
            found = [regressions(compare([base], worse), 0.1) for base in reports]
            hits = sum(any("test_more" in change.nodeid for change in each) for each in found)
            sys.stdout.write(f"one test takes {more} MB more: {hits} of {len(reports)} comparisons find it\n")


if __name__ == "__main__":
    main()
