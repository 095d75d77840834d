"""The leak gate on the shipped cases: every leak of 100 bytes a call or more is found, no clean one is flagged."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def outcomes(target: Path, *options: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks.leak_gate", f"--json={target}", *options]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    found: list[dict[str, Any]] = json.loads(target.read_text())
    return found


def wrong(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["decision"] != ("leak" if row["leaks_bytes"] else "clean")]


@pytest.mark.parametrize("name", ["100 B", "lru_cache", "every tenth call", "random"])
def test_cases_of_one_kind_are_told_right(name: str, tmp_path: Path) -> None:
    rows = outcomes(tmp_path / "r.json", "--body-ms=0", f"--only={name}")
    assert rows
    assert wrong(rows) == []


@pytest.mark.slow
def test_all_cases_with_a_body_of_a_millisecond_within_ten_seconds(tmp_path: Path) -> None:
    rows = outcomes(tmp_path / "r.json", "--body-ms=1")
    assert len(rows) > 35
    assert wrong(rows) == []
    assert statistics.median(row["cpu_seconds"] for row in rows) < 10
