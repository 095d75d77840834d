"""The runaway suite and the innocents of benchmarks/pytest_runaway.py, once each."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2]))  # last: what is tested may be the wheel
BENCHMARK = importlib.import_module("benchmarks.pytest_runaway")

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.mark.parametrize("name", BENCHMARK.RUNAWAYS)
def test_a_runaway_is_stopped_in_time_and_the_run_goes_on(name: str, tmp_path: Path) -> None:
    runaway = BENCHMARK.RUNAWAYS[name]
    seen = BENCHMARK.run(sys.executable, runaway, tmp_path)
    assert seen.reported
    assert seen.went_on
    assert seen.peak_mb - BENCHMARK.BUDGET_MB <= runaway.over_mb
    assert seen.kept_ratio <= 0.01
    if not runaway.kills:  # on a busy machine loops wait for their turns too
        assert seen.ours_seconds <= 3 * BENCHMARK.STOP_SECONDS


@pytest.mark.parametrize("name", BENCHMARK.INNOCENTS)
def test_an_innocent_is_left_alone(name: str, tmp_path: Path) -> None:
    assert BENCHMARK.innocent(sys.executable, BENCHMARK.INNOCENTS[name], tmp_path)
