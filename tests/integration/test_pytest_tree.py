"""The peak of the whole process tree in real runs: by the run's own cgroup where it has one, else by samples."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["pytester"]

MIB = 1 << 20
TWO_AFTER_ANOTHER = """
import subprocess, sys
SPIKE = "x = b'1' * (150 << 20)"

def test_it():
    for _ in range(2):
        subprocess.run([sys.executable, "-I", "-S", "-c", SPIKE], check=True)

def test_together():
    hold = "import sys; x = b'1' * (120 << 20); print(1, flush=True); sys.stdin.read()"
    both = [
        subprocess.Popen([sys.executable, "-I", "-S", "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    for each in both:
        each.stdout.readline()
    for each in both:
        each.communicate()
"""


def summary_of(pytester: pytest.Pytester, prefix: tuple[str, ...] = ()) -> dict[str, Any]:
    pytester.makepyfile(test_it=TWO_AFTER_ANOTHER)
    command = [*prefix, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--amm-json=report.json"]
    result = subprocess.run(command, cwd=pytester.path, capture_output=True, text=True, check=True)
    figures: dict[str, Any] = json.loads((pytester.path / "report.json").read_text())["summary"]
    assert "process tree: at most" in result.stdout or figures["tree_peak_bytes"] <= figures["peak_bytes"]
    return figures


def test_a_shared_cgroup_says_nothing_so_it_is_the_watchdogs_samples(pytester: pytest.Pytester) -> None:
    figures = summary_of(pytester)
    assert figures["tree_peak_source"] == "samples"
    assert 240 * MIB < figures["tree_peak_bytes"] < 400 * MIB


def test_a_cgroup_of_its_own_gives_the_true_peak(pytester: pytest.Pytester, own_cgroup: Path) -> None:
    enter = ("sh", "-c", f'echo $$ > {own_cgroup}/cgroup.procs && exec "$@"', "sh")
    figures = summary_of(pytester, enter)
    assert figures["tree_peak_source"] == "cgroup"
    assert 240 * MIB < figures["tree_peak_bytes"] < 400 * MIB


SERVER = """
import subprocess, sys, time
import pytest

@pytest.fixture(scope="module")
def server():
    holds = "x = b'1' * (100 << 20); print(1, flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", holds], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.stdout.readline()
    yield
    process.communicate(b"\\n")

def test_starts_it(server): time.sleep(0.3)
def test_uses_it(server): time.sleep(0.3)
def test_adds(server):
    held = b"1" * (20 << 20)
    time.sleep(0.3)
def test_ends_it(server): pass
"""


@pytest.fixture
def growths_beside_a_server(pytester: pytest.Pytester) -> dict[str, int]:
    """How much each test of `SERVER` grew, in MiB."""
    pytester.makepyfile(test_it=SERVER)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--amm-json=report.json"]
    command += ["--amm-test-budget=64MB", "--amm-on-breach=fail"]
    subprocess.run(command, cwd=pytester.path, capture_output=True, check=False)
    tests = json.loads((pytester.path / "report.json").read_text())["tests"]
    assert [bool(test["breach"]) for test in tests] == [True, False, False, False]
    return {test["nodeid"].rpartition("::")[2]: test["growth_bytes"] // MIB for test in tests}


def test_a_process_of_a_wider_fixture_is_charged_to_the_test_that_started_it(
    growths_beside_a_server: dict[str, int],
) -> None:
    assert growths_beside_a_server["test_starts_it"] >= 100
    assert growths_beside_a_server["test_uses_it"] < 5
    assert 20 <= growths_beside_a_server["test_adds"] < 25


def test_a_process_that_was_there_before_is_not_charged_to_the_test_that_ends_it(
    growths_beside_a_server: dict[str, int],
) -> None:
    assert growths_beside_a_server["test_ends_it"] < 5
