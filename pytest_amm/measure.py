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
from pytest_amm.board import RUNG_CHILD, RUNG_LIMIT, RUNG_SIGNAL, Stop
from pytest_amm.budget import Breach, TestBudget, budget_of, judge
from pytest_amm.giveback import give_back
from pytest_amm.guard import Guard
from pytest_amm.leakgate import DECISION
from pytest_amm.meter import Meter
from pytest_amm.records import Phase, Record, pack, unpack
from pytest_amm.settings import Settings

RECORD_ATTRIBUTE = "amm_record"
"""Where the teardown report of a test carries its record, as plain data."""

_HELD_BYTES = 8 << 20
"""A failed test that holds less than this is left as it is: a full collection costs more than it frees."""

_CLEAN_UP_SECONDS = 5.0
"""How often a machine short of memory is cleaned up for."""


class TestMeasure:
    """What is known of one test while it runs."""

    __test__ = False
    __slots__ = ("breach", "budget", "outcome", "phases", "refuses", "start_seconds", "started", "stop")

    def __init__(self, budget: TestBudget | None, start_seconds: float) -> None:
        self.budget = budget
        self.phases: list[Phase] = []
        self.breach: Breach | None = None
        self.stop: Stop | None = None
        self.refuses: int | None = None
        self.outcome = "passed"
        self.start_seconds = start_seconds
        self.started = time.perf_counter()

    @property
    def start_bytes(self) -> int:
        return self.phases[0].start_bytes


class Measurer:
    """The hooks around each phase of each test."""

    def __init__(
        self, settings: Settings, meter: Meter, *, guard: Guard | None = None, worker: str = "", session_started: float
    ) -> None:
        self._settings = settings
        self._meter = meter
        self._guard = guard
        self._worker = worker
        self._session_started = session_started
        self._sample_hook: Any = None
        self._cleaned = 0.0
        self._budgets: dict[str, TestBudget | None] = {}
        self._current: TestMeasure | None = None

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
        budget = self._budgets.get(item.nodeid)
        measure = self._current = TestMeasure(budget, time.time() - self._session_started)
        start_bytes = self._meter.start()
        if self._guard:
            self._guard.begin(item, start_bytes, budget.size_bytes if budget else 0)
            measure.refuses = self._guard.refuses_bytes
            self._guard.arm()
        try:
            return (yield)
        finally:
            self._finish(item, "setup")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        self._meter.go_on()
        if self._guard:
            self._guard.arm()
        try:
            return (yield)
        finally:
            self._finish(item, "call")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        self._meter.go_on()
        if self._guard:
            self._guard.arm()
        try:
            return (yield)
        finally:
            self._finish(item, "teardown")
            if self._guard:
                self._guard.end()
                level = self._guard.host_level
                if level:
                    self._relieve(item, level)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        measure = self._current
        if measure is None:
            return report
        if measure.breach is None and measure.refuses is not None and call.excinfo and report.when:
            measure.breach = self._refused(measure, call.excinfo.value, report.when)
        breach = measure.breach
        if breach is not None and breach.phase == report.when:
            self._tell(report, item, measure, breach)
        if report.failed and (breach is not None or self._holds_much(measure)):
            give_back(item.config, call.excinfo.value if call.excinfo else None)
        if report.when == "call" and "benchmark" in getattr(item, "funcargs", ()):
            _note_benchmark(item, measure)
        if report.outcome != "passed" and measure.outcome != "failed":
            measure.outcome = report.outcome
        if report.when == "teardown":
            packed = self._pack(item, measure)
            setattr(report, RECORD_ATTRIBUTE, packed)
            if item.config.getoption("xmlpath", None):
                report.user_properties += junit_properties(unpack(packed))
            self._current = None
        return report

    def use(self, guard: Guard) -> None:
        """In a forked child: its own guard instead of its parent's."""
        self._guard = guard

    def pytest_unconfigure(self) -> None:
        self._meter.close()
        if self._guard:
            self._guard.close()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        hook = session.config.hook
        self._sample_hook = hook.pytest_amm_sample if hook.pytest_amm_sample.get_hookimpls() else None

    def _finish(self, item: pytest.Item, name: str) -> None:
        measure = self._current
        if measure is None:
            return
        seen, stop, reaped_bytes = self._guard.disarm() if self._guard else (None, None, 0)
        start_bytes, peak_bytes, end_bytes = self._meter.stop()
        tree_bytes, children_bytes = peak_bytes, 0
        if seen is not None:
            tree_bytes, children_bytes = max(peak_bytes, seen.tree_peak_bytes), seen.children_peak_bytes
        if reaped_bytes > children_bytes:  # it had its peak and ended between two looks
            tree_bytes, children_bytes = max(tree_bytes, start_bytes + reaped_bytes), reaped_bytes
        phase = Phase(name, start_bytes, peak_bytes, end_bytes, tree_bytes, children_bytes)
        measure.phases.append(phase)
        if self._sample_hook is not None:
            self._sample_hook(item=item, phase=phase)
        if stop is not None:
            measure.stop = stop
            source = measure.budget.source if measure.budget else ""
            measure.breach = breach_of(stop, phase=name, source=source, least_bytes=phase.tree_peak_bytes)
        elif measure.breach is None and (self._settings.budget_bytes is not None or measure.budget is not None):
            measure.breach = judge(
                phase=name,
                tree_peak_bytes=phase.tree_peak_bytes,
                growth_bytes=phase.tree_peak_bytes - measure.start_bytes,
                session_budget_bytes=self._settings.budget_bytes,
                test_budget=measure.budget,
            )

    def _relieve(self, item: pytest.Item, level: int) -> None:
        """The machine is short of memory: clean up; from the second level on end the run in order."""
        if time.monotonic() - self._cleaned > _CLEAN_UP_SECONDS:
            self._cleaned = time.monotonic()
            give_back(item.config, None)
        if level >= 2 and self._guard and not item.session.shouldstop:
            item.session.shouldstop = f"amm: emergency stop: {self._guard.host_words}"

    def _holds_much(self, measure: TestMeasure) -> bool:
        """Whether the traceback of a failed test may hold enough to weigh on the tests after it."""
        return bool(measure.phases) and measure.phases[-1].end_bytes - measure.start_bytes > _HELD_BYTES

    def _refused(self, measure: TestMeasure, error: BaseException, phase: str) -> Breach | None:
        """The breach of a test whose allocation was refused by a limit set beforehand."""
        if not isinstance(error, MemoryError) or measure.refuses is None:
            return None
        own = measure.budget is not None and measure.refuses == measure.budget.size_bytes
        session_bytes = self._settings.budget_bytes or 0
        return Breach(
            scope="test" if own else "session",
            budget_bytes=measure.refuses if own else session_bytes,
            peak_bytes=measure.phases[-1].tree_peak_bytes - (measure.start_bytes if own else 0),
            phase=phase,
            source=measure.budget.source if own and measure.budget else "--amm-budget",
            stopped=True,
            refused=True,
        )

    def _tell(self, report: pytest.TestReport, item: pytest.Item, measure: TestMeasure, breach: Breach) -> None:
        item.config.hook.pytest_amm_breach(item=item, breach=breach)
        notes = stop_notes(measure.stop) if measure.stop else ()
        text = failure.explain(breach, measure.phases, nodeid=item.nodeid, exact=self.exact, notes=notes)
        if self._settings.on_breach == "warn":
            failure.warn(report, text)
        else:
            failure.fail(report, breach, text)

    def _pack(self, item: pytest.Item, measure: TestMeasure) -> tuple[Any, ...]:
        path, line, _ = item.location
        return pack(
            item.nodeid,
            measure.outcome,
            measure.start_seconds,
            time.perf_counter() - measure.started,
            measure.phases,
            self._worker,
            (path, (line or 0) + 1),
            measure.breach,
            measure.budget.size_bytes if measure.budget else None,
            item.stash.get(DECISION, ""),
        )


def _note_benchmark(item: pytest.Item, measure: TestMeasure) -> None:
    """Peak, growth and kept of the call beside pytest-benchmark's timings."""
    call = measure.phases[-1]
    information = getattr(item.funcargs["benchmark"], "extra_info", None)  # type: ignore[attr-defined]  # a function item
    if isinstance(information, dict):
        information["amm_peak_bytes"] = call.tree_peak_bytes
        information["amm_growth_bytes"] = call.tree_peak_bytes - call.start_bytes
        information["amm_kept_bytes"] = call.end_bytes - call.start_bytes


def junit_properties(record: Record) -> list[tuple[str, object]]:
    """What stands as properties of the test case in a JUnit file."""
    figures: list[tuple[str, object]] = [
        ("amm_peak_bytes", record.peak_bytes),
        ("amm_growth_bytes", record.growth_bytes),
        ("amm_kept_bytes", record.kept_bytes),
    ]
    if record.breach:
        figures.append(("amm_breach", failure.headline(record.breach)))
    return figures


def breach_of(stop: Stop, *, phase: str, source: str = "", least_bytes: int = 0, ended: float | None = None) -> Breach:
    """The breach that the watchdog acted on. Its last look was before the end: the peak is at least the exact one."""
    sources = {"session": "--amm-budget", "test": source or "--amm-test-budget", "emergency": "--amm-emergency"}
    return Breach(
        scope=stop.scope,
        budget_bytes=stop.budget_bytes,
        peak_bytes=max(stop.used_bytes, least_bytes if stop.scope == "session" else 0),
        phase=phase,
        source=sources[stop.scope],
        stopped=True,
        stop_seconds=round(stop.grew_until_seconds - stop.started_seconds, 4),
    )


def stop_notes(stop: Stop) -> list[str]:
    """How a test was stopped, in words."""
    notes = []
    if stop.rungs & RUNG_CHILD:
        notes.append(f"its child process {stop.culprit_pid} ({stop.culprit}) had grown most and was killed")
    if stop.rungs & RUNG_LIMIT:
        notes.append("C code did not let go, so its address space was limited to what it had")
    if stop.rungs & RUNG_SIGNAL and not stop.rungs & RUNG_LIMIT:
        notes.append("it was interrupted at the line above")
    return notes


def packed_record_of(report: Any) -> tuple[Any, ...] | None:
    """The packed record that a report carries."""
    return getattr(report, RECORD_ATTRIBUTE, None)
