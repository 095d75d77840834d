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
