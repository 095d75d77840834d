"""Beside pytest-forked and pytest-asyncio, in an environment of their own.

pytest-asyncio would change how the other suites run, and pytest-forked 1.7 cannot carry the reports of pytest 9.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "-q", "install"]
    packages = ["-e", f"{ROOT}[pytest]", "pytest<9", "pytest-forked", "pytest-asyncio"]
    result = subprocess.run([*pip, *packages], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return python


def run(python: Path, directory: Path, suite: str, *options: str) -> tuple[dict[str, int], dict[str, Any]]:
    """The counts of the last line, and the tests of the JSON report by name."""
    (directory / "test_it.py").write_text(suite)
    command = [str(python), "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir=.", *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "AMM_"))}
    result = subprocess.run(
        [*command, "--amm-json=r.json"], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error)", result.stdout)}
    tests = json.loads((directory / "r.json").read_text())["tests"]
    return counts, {test["nodeid"].partition("::")[2]: test for test in tests}


FORKED = """
import os
def test_small(): bytearray(1000)
def test_big(): x = [b"1" * (1 << 20) for _ in range(80)]
def test_crash(): os.kill(os.getpid(), 9)
def test_after(): pass
"""


def test_a_forked_test_is_measured_and_stopped_and_its_neighbours_are_not_blamed(python: Path, tmp_path: Path) -> None:
    counts, tests = run(python, tmp_path, FORKED, "--forked", "--amm-test-budget=30MB", "--amm-budget=900MB")
    assert counts == {"passed": 2, "failed": 2}
    assert {name for name, test in tests.items() if test["breach"]} == {"test_big"}
    assert tests["test_big"]["breach"]["stopped"]
    assert 30 << 20 < tests["test_big"]["growth_bytes"] < 82 << 20
    assert tests["test_after"]["growth_bytes"] < 8 << 20


def test_forked_tests_among_others_keep_their_own_figures(python: Path, tmp_path: Path) -> None:
    suite = "import pytest\n" + FORKED.replace("def test_big", "@pytest.mark.forked\ndef test_big").replace("9)", "0)")
    counts, tests = run(python, tmp_path, suite, "--amm-test-budget=30MB", "--amm-budget=900MB")
    assert counts == {"passed": 3, "failed": 1}
    assert {name for name, test in tests.items() if test["breach"]} == {"test_big"}


ASYNCIO = """
import asyncio, pytest

@pytest.mark.asyncio
async def test_spike():
    await asyncio.sleep(0)
    x = b"1" * (40 << 20)
    await asyncio.sleep(0)

@pytest.mark.asyncio
async def test_runaway():
    kept = []
    while True:
        kept.append(b"1" * (1 << 20))
        await asyncio.sleep(0)

@pytest.mark.asyncio
@pytest.mark.amm_budget("100MB")
async def test_after(): await asyncio.sleep(0)
"""


def test_asynchronous_tests_are_measured_and_stopped(python: Path, tmp_path: Path) -> None:
    counts, tests = run(python, tmp_path, ASYNCIO, "--amm-test-budget=60MB", "--amm-budget=900MB")
    assert counts == {"passed": 2, "failed": 1}
    assert 39 << 20 < tests["test_spike"]["growth_bytes"] < 46 << 20
    assert tests["test_runaway"]["breach"]["stopped"]
    assert tests["test_after"]["breach"] is None


def test_the_leak_gate_leaves_coroutines_alone(python: Path, tmp_path: Path) -> None:
    suite = "import pytest\n@pytest.mark.asyncio\nasync def test_it(): pass\ndef test_plain(): pass\n"
    counts, tests = run(python, tmp_path, suite, "--amm-leaks")
    assert counts == {"passed": 2}
    assert (tests["test_it"]["leak"], tests["test_plain"]["leak"]) == ("", "clean")
