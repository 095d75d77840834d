"""Measures and judges each test in the process that runs it: a plugin object, registered when something is asked for.

The phases are wrapped from outside, so a fixture is charged to the phase that made it. What a test did is put on its
reports as plain data; `report` collects it there, also from the workers of xdist.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import pytest

from pytest_amm import failure
from pytest_amm.budget import Breach, TestBudget, budget_of, judge
from pytest_amm.meter import Meter
from pytest_amm.records import Phase, Record, pack
from pytest_amm.settings import Settings

RECORD_ATTRIBUTE = "amm_record"
"""Where the teardown report of a test carries its record, as plain data."""


class TestMeasure:
    """What is known of one test while it runs."""

    __test__ = False
    __slots__ = ("breach", "budget", "outcome", "phases", "start_seconds", "started")

    def __init__(self, budget: TestBudget | None, start_seconds: float) -> None:
        self.budget = budget
        self.phases: list[Phase] = []
        self.breach: Breach | None = None
        self.outcome = "passed"
        self.start_seconds = start_seconds
        self.started = time.perf_counter()

    @property
    def start_bytes(self) -> int:
        return self.phases[0].start_bytes


MEASURE = pytest.StashKey[TestMeasure]()


class Measurer:
    """The hooks around each phase of each test."""

    def __init__(self, settings: Settings, meter: Meter, *, worker: str = "", session_started: float) -> None:
        self._settings = settings
        self._meter = meter
        self._worker = worker
        self._session_started = session_started
        self._budgets: dict[str, TestBudget | None] = {}

    @property
    def exact(self) -> bool:
        return self._meter.exact

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Read every budget before the first test runs: a wrong marker is found in a second, not after an hour."""
        settings = self._settings
        for item in items:
            self._budgets[item.nodeid] = budget_of(item, settings.test_budget_bytes, settings.directories)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        item.stash[MEASURE] = TestMeasure(self._budgets.get(item.nodeid), time.time() - self._session_started)
        self._meter.start()
        try:
            return (yield)
        finally:
            self._finish(item, "setup")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        self._meter.go_on()
        try:
            return (yield)
        finally:
            self._finish(item, "call")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        self._meter.go_on()
        try:
            return (yield)
        finally:
            self._finish(item, "teardown")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        measure = item.stash.get(MEASURE, None)
        if measure is None:
            return report
        breach = measure.breach
        if breach is not None and breach.phase == report.when:
            self._tell(report, item, measure, breach)
        if report.outcome != "passed" and measure.outcome != "failed":
            measure.outcome = report.outcome
        if report.when == "teardown":
            setattr(report, RECORD_ATTRIBUTE, pack(self._record(item, measure)))
            del item.stash[MEASURE]
        return report

    def pytest_unconfigure(self) -> None:
        self._meter.close()

    def _finish(self, item: pytest.Item, name: str) -> None:
        measure = item.stash[MEASURE]
        start_bytes, peak_bytes, end_bytes = self._meter.stop()
        phase = Phase(name, start_bytes, peak_bytes, end_bytes, peak_bytes)
        measure.phases.append(phase)
        if measure.breach is None:
            measure.breach = judge(
                phase=name,
                tree_peak_bytes=phase.tree_peak_bytes,
                growth_bytes=phase.tree_peak_bytes - measure.start_bytes,
                session_budget_bytes=self._settings.budget_bytes,
                test_budget=measure.budget,
            )

    def _tell(self, report: pytest.TestReport, item: pytest.Item, measure: TestMeasure, breach: Breach) -> None:
        text = failure.explain(breach, measure.phases, nodeid=item.nodeid, exact=self.exact)
        if self._settings.on_breach == "warn":
            failure.warn(report, text)
        else:
            failure.fail(report, breach, text)

    def _record(self, item: pytest.Item, measure: TestMeasure) -> Record:
        path, line, _ = item.location
        return Record(
            nodeid=item.nodeid,
            outcome=measure.outcome,
            start_seconds=measure.start_seconds,
            seconds=time.perf_counter() - measure.started,
            phases=tuple(measure.phases),
            worker=self._worker,
            location=(path, (line or 0) + 1),
            breach=measure.breach,
            budget_bytes=measure.budget.size_bytes if measure.budget else None,
        )


def packed_record_of(report: Any) -> tuple[Any, ...] | None:
    """The packed record that a report carries."""
    return getattr(report, RECORD_ATTRIBUTE, None)
