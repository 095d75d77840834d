"""The runaway suite and the innocents of benchmarks/pytest_runaway.py, once each."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def _benchmark() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "pytest_runaway.py"
    spec = importlib.util.spec_from_file_location("pytest_runaway", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pytest_runaway"] = module
    spec.loader.exec_module(module)
    return module


BENCHMARK = _benchmark()


@pytest.mark.parametrize("name", BENCHMARK.RUNAWAYS)
def test_a_runaway_is_stopped_in_time_and_the_run_goes_on(name: str, tmp_path: Path) -> None:
    runaway = BENCHMARK.RUNAWAYS[name]
    seen = BENCHMARK.run(sys.executable, runaway, tmp_path)
    assert seen.reported
    assert seen.went_on
    assert seen.peak_mb - BENCHMARK.BUDGET_MB <= runaway.over_mb
    assert seen.kept_ratio <= 0.01
    if seen.stop_seconds is not None and not runaway.kills:
        assert seen.stop_seconds <= 0.05 + 6 * seen.call_seconds  # the call under way ends by itself, on a busy machine


@pytest.mark.parametrize("name", BENCHMARK.INNOCENTS)
def test_an_innocent_is_left_alone(name: str, tmp_path: Path) -> None:
    assert BENCHMARK.innocent(sys.executable, BENCHMARK.INNOCENTS[name], tmp_path)
