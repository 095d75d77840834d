"""Memory beside pytest-benchmark's timings: in the `extra_info` of each benchmark, and as a table under its own.

pytest-benchmark's table takes no columns but its own, so ours stands below it, with the names of `extra_info`. Nothing
is read between rounds: the timings stay what they are.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple

import pytest

from amm_exporter.units import format_size
from pytest_amm.giveback import trim
from pytest_amm.records import Phase

FIXTURE = "benchmark"


class BenchmarkMemory(NamedTuple):
    """One benchmark: its peak and growth over all rounds, what they left behind together and each."""

    name: str
    peak_bytes: int
    growth_bytes: int
    kept_bytes: int
    rounds: int | None
    kept_per_round_bytes: float | None


class Benchmarks:
    """The plugin object beside pytest-benchmark: what the benchmarks of this run took."""

    def __init__(self, rss_bytes: Callable[[], int]) -> None:
        self.rows: list[BenchmarkMemory] = []
        self._rss_bytes = rss_bytes

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        """Before a benchmark: rounds that live in free heap would seem to grow and to keep nothing."""
        if fixturedef.argname == FIXTURE:
            _tidy()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Mark a stopped benchmark: by itself it minds no BaseException, and cannot save one that has no rounds."""
        try:
            return (yield)
        except BaseException:
            fixture: Any = getattr(item, "funcargs", {}).get(FIXTURE)
            if hasattr(fixture, "has_error"):
                fixture.has_error = True
            raise

    def note(self, item: pytest.Item, call: Phase) -> None:
        """Put the memory of a benchmark's call into its `extra_info` and into the table."""
        fixture = item.funcargs[FIXTURE]  # type: ignore[attr-defined]  # a function item
        information = getattr(fixture, "extra_info", None)
        if not isinstance(information, dict):  # a fixture of that name which is none of pytest-benchmark's
            return
        _tidy()  # what is free but resident was kept by no round
        row = memory_of(item.name, call, self._rss_bytes(), _rounds(fixture))
        information["amm_peak_bytes"] = row.peak_bytes
        information["amm_growth_bytes"] = row.growth_bytes
        information["amm_kept_bytes"] = row.kept_bytes
        if row.kept_per_round_bytes is not None:  # else it was called once, without a timing (--benchmark-disable)
            information["amm_kept_per_round_bytes"] = row.kept_per_round_bytes
            self.rows.append(row)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.rows and not terminalreporter.config.getoption("benchmark_quiet", False):
            for line in lines(self.rows):
                terminalreporter.write_line(line)


def memory_of(name: str, call: Phase, end_bytes: int, rounds: int | None) -> BenchmarkMemory:
    kept_bytes = end_bytes - call.start_bytes
    return BenchmarkMemory(
        name=name,
        peak_bytes=call.tree_peak_bytes,
        growth_bytes=call.reached_bytes - call.start_bytes,
        kept_bytes=kept_bytes,
        rounds=rounds,
        kept_per_round_bytes=round(kept_bytes / rounds, 1) if rounds else None,
    )


def lines(rows: Sequence[BenchmarkMemory]) -> Iterator[str]:
    """The table."""
    yield "benchmark memory (growth: the most that a round needed at one time)"
    yield f"{'peak':>10}{'growth':>10}{'kept':>10}{'kept/round':>12}{'rounds':>9}  name"
    for row in rows:
        figures = "".join(f"{format_size(size):>10}" for size in (row.peak_bytes, row.growth_bytes, row.kept_bytes))
        yield f"{figures}{format_size(row.kept_per_round_bytes or 0):>12}{row.rounds:>9}  {row.name}"


def _rounds(fixture: Any) -> int | None:
    """How many rounds were timed, each of `iterations` calls."""
    timed = getattr(getattr(fixture, "stats", None), "stats", None)
    return len(getattr(timed, "data", ())) or None


def _tidy() -> None:
    gc.collect()
    trim()
