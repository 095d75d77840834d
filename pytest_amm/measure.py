"""Measures and judges each test in the process that runs it: a plugin object, registered when something is asked for.

The phases are wrapped from outside, so a fixture is charged to the phase that made it. What a test did is put on its
reports as plain data; `report` collects it there, also from the workers of xdist.

All that a test may come to is imported beforehand: while its outcome is told, `open` may be a mock of its own. By name:
a fixture of a wider scope may have replaced `time.perf_counter` around the whole test.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from time import monotonic, perf_counter, time
from typing import TYPE_CHECKING, Any

import pytest

from pytest_amm.breach import Breach, breach_of, judge, refusal
from pytest_amm.breach_report import tell
from pytest_amm.budget import Budgets, TestBudget
from pytest_amm.fixturevalues import TELLS_BYTES, let_go
from pytest_amm.giveback import give_back
from pytest_amm.meter import Meter
from pytest_amm.records import END, Phase, junit_properties, pack, phases_of, unpack, with_end
from pytest_amm.refusals import refused
from pytest_amm.settings import Settings
from pytest_amm.slack import FreeHeap

if TYPE_CHECKING:
    from pytest_amm.benchmarked import Benchmarks
    from pytest_amm.board import Stop
    from pytest_amm.watch import Watch

RECORD_ATTRIBUTE = "amm_record"
"""Where the teardown report of a test carries its record, as plain data."""

_CLEAN_UP_SECONDS = 5.0
"""How often a machine short of memory is cleaned up for."""


class TestMeasure:
    """What is known of one test while it runs."""

    __test__ = False
    breach: Breach | None = None
    stop: Stop | None = None
    refuses: int | None = None
    refused_at = ""
    told: pytest.TestReport | None = None
    """The report of an earlier phase that failed: the only one that others may tell of a run that is to be repeated."""
    outcome = "passed"
    peak_bytes = reached_bytes = 0

    def __init__(
        self, nodeid: str, budget: TestBudget | None, start_bytes: int, slack_bytes: int | None, started: float
    ) -> None:
        self.nodeid = nodeid
        self.budget = budget
        self.start_bytes = start_bytes
        self.slack_bytes = slack_bytes
        self.started = started
        self.numbers: tuple[Any, ...] = ()

    @property
    def phases(self) -> list[Phase]:
        """The phases so far. Until somebody asks they are kept as the flat numbers that a record has of them."""
        return phases_of(self.numbers)


class Measurer:
    """The hooks around each phase of each test. They run thrice a test: what is rare is in functions of its own."""

    decision_key: pytest.StashKey[str] | None = None
    """Where the leak gate leaves its decision on a test, where there is a gate."""
    benchmarks: Benchmarks | None = None

    def __init__(self, settings: Settings, meter: Meter, *, worker: str = "", session_started: float) -> None:
        self._settings = settings
        self._session_limit_bytes = settings.budget_bytes or sys.maxsize
        self._meter = meter
        self._free_heap = FreeHeap()
        self._watch: Watch | None = None
        self._worker = worker
        self._started = perf_counter() - (time() - session_started)
        self._sample_hook: Any = None
        self._junit = False
        self._cleaned = 0.0
        self._budgets = Budgets(settings.test_budget_bytes, settings.directories)
        self._current: TestMeasure | None = None

    @property
    def exact(self) -> bool:
        return self._meter.exact

    def use(self, watch: Watch) -> None:
        """From here on with this watch or guard; in a forked child its own instead of its parent's."""
        self._watch = watch

    def collected(self, config: pytest.Config, items: list[pytest.Item], *, marked: bool) -> None:
        """What the tests are to be held against; `marked` is whether any has a budget of its own."""
        self._budgets.read(items, marked=marked)
        hook = config.hook.pytest_amm_sample
        self._sample_hook = hook if hook.get_hookimpls() else None
        self._junit = bool(config.getoption("xmlpath", None))

    @property
    def headroom_bytes(self) -> int | None:
        """How much further the present test may grow; None where no budget holds it."""
        measure, now_bytes = self._current, self._meter.rss_bytes()
        left = [self._session_limit_bytes - now_bytes] if self._settings.budget_bytes else []
        if measure is not None and measure.budget is not None:
            left.append(measure.start_bytes + measure.budget.size_bytes - now_bytes)
        return max(0, min(left)) if left else None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        __tracebackhide__ = True
        self._begin(item)
        try:
            return (yield)
        finally:
            self._finish(item, "setup")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        __tracebackhide__ = True
        self._meter.go_on_at_once()  # nothing but reports of the setup lies between
        if self._watch is not None:
            self._watch.arm()
        try:
            return (yield)
        finally:
            self._finish(item, "call")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        __tracebackhide__ = True
        self._meter.go_on()
        if self._watch is not None:
            self._watch.arm()
        try:
            return (yield)
        finally:
            self._finish(item, "teardown")
            if self._watch is not None:
                self._watch.end()
                level = self._watch.host_level
                if level:
                    self._relieve(item, level, self._watch.host_words)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        measure = self._current
        if measure is None:
            return report
        if report.outcome != "passed" or measure.breach is not None:
            self._tell(report, item, call, measure)
        if self.benchmarks is not None and report.when == "call" and "benchmark" in getattr(item, "funcargs", ()):
            self.benchmarks.note(item, measure.phases[-1])
        if report.when == "teardown":
            self._current = None
            if report.passed and measure.numbers[END] - measure.start_bytes > TELLS_BYTES and let_go(item, self):
                measure.numbers = with_end(measure.numbers, self._meter.settle())
            setattr(report, RECORD_ATTRIBUTE, self._pack(item, measure))
            if measure.told is not None:
                setattr(measure.told, RECORD_ATTRIBUTE, getattr(report, RECORD_ATTRIBUTE))
            if self._junit:
                report.user_properties += junit_properties(unpack(getattr(report, RECORD_ATTRIBUTE)))
        return report

    def pytest_unconfigure(self) -> None:
        self._meter.close()
        if self._watch is not None:
            self._watch.close()

    def _begin(self, item: pytest.Item) -> None:
        nodeid = item.nodeid
        budget = self._budgets.of(nodeid)
        start_bytes = self._meter.start()
        started = perf_counter()
        slack_bytes = self._free_heap.read_bytes(start_bytes, started)
        self._current = measure = TestMeasure(nodeid, budget, start_bytes, slack_bytes, started)
        watch = self._watch
        if watch is not None:
            watch.begin(item, start_bytes, budget.size_bytes if budget is not None else 0)
            measure.refuses = watch.refuses_bytes
            watch.arm()

    def _finish(self, item: pytest.Item, name: str) -> None:
        measure, watch = self._current, self._watch
        if measure is None:
            return
        watched = watch.disarm() if watch is not None else None
        start_bytes, peak_bytes, end_bytes = self._meter.look()
        tree_bytes, reached_bytes, children_bytes, earlier_bytes = peak_bytes, peak_bytes, 0, 0
        if watched is not None:
            tree_bytes, children_bytes, earlier_bytes = watched.peaks(start_bytes, peak_bytes)
            reached_bytes = max(peak_bytes, tree_bytes - earlier_bytes)
        measure.numbers += (name, start_bytes, peak_bytes, end_bytes, tree_bytes, children_bytes, earlier_bytes)
        if tree_bytes > measure.peak_bytes:
            measure.peak_bytes = tree_bytes
        if reached_bytes > measure.reached_bytes:
            measure.reached_bytes = reached_bytes
        if self._sample_hook is not None:
            self._sample_hook(item=item, phase=measure.phases[-1])
        if watched is not None and watched.stop is not None:
            self._stopped(measure, watched.stop, measure.phases[-1])
        elif measure.breach is not None:
            return
        elif measure.refuses is not None and watch is not None and watch.refused_at:
            self._refused(measure, measure.refuses, name)
            measure.refused_at = watch.refused_at
        elif tree_bytes > self._session_limit_bytes or (
            measure.budget is not None and reached_bytes - measure.start_bytes > measure.budget.size_bytes
        ):
            self._judge(measure, measure.phases[-1])

    def _judge(self, measure: TestMeasure, phase: Phase) -> None:
        measure.breach = judge(
            phase=phase.name,
            tree_peak_bytes=phase.tree_peak_bytes,
            growth_bytes=phase.reached_bytes - measure.start_bytes,
            session_budget_bytes=self._settings.budget_bytes,
            test_budget=measure.budget,
        )

    def _stopped(self, measure: TestMeasure, stop: Stop, phase: Phase) -> None:
        measure.stop = stop
        source = measure.budget.source if measure.budget else ""
        measure.breach = breach_of(
            stop,
            phase=phase.name,
            source=source,
            tree_bytes=phase.tree_peak_bytes,
            growth_bytes=phase.reached_bytes - measure.start_bytes,
        )

    def _refused(self, measure: TestMeasure, refuses_bytes: int, phase: str) -> None:
        last = measure.phases[-1]
        measure.breach = refusal(
            phase=phase,
            refuses_bytes=refuses_bytes,
            tree_peak_bytes=last.tree_peak_bytes,
            growth_bytes=last.reached_bytes - measure.start_bytes,
            session_budget_bytes=self._settings.budget_bytes,
            test_budget=measure.budget,
        )

    def _tell(
        self, report: pytest.TestReport, item: pytest.Item, call: pytest.CallInfo[None], measure: TestMeasure
    ) -> None:
        """A phase did not pass, or broke a budget."""
        error = call.excinfo.value if call.excinfo else None
        if measure.breach is None and measure.refuses is not None and refused(error):
            self._refused(measure, measure.refuses, call.when)
        if report.when != "teardown":
            measure.told = report
        evidence = self._watch.evidence if self._watch is not None else list
        how = {"warns": self._settings.on_breach == "warn", "exact": self.exact}
        if tell(report, item, call.excinfo, measure, evidence=evidence, **how) and measure.numbers:
            end_bytes = self._meter.settle()
            if report.when == "teardown":  # what it kept is what is left now
                measure.numbers = with_end(measure.numbers, end_bytes)

    def _relieve(self, item: pytest.Item, level: int, host_words: str) -> None:
        """The machine is short of memory: clean up; from the second level on end the run in order."""
        if monotonic() - self._cleaned > _CLEAN_UP_SECONDS:
            self._cleaned = monotonic()
            give_back(item.config, None)
        if level >= 2 and not item.session.shouldstop:
            item.session.shouldstop = f"amm: emergency stop: {host_words}"

    def _pack(self, item: pytest.Item, measure: TestMeasure) -> tuple[Any, ...]:
        path, line, _ = item.location
        return pack(
            measure.nodeid,
            measure.outcome,
            measure.started - self._started,
            perf_counter() - measure.started,
            self._worker,
            path,
            (line or 0) + 1,
            measure.breach,
            measure.budget.size_bytes if measure.budget is not None else None,
            item.stash.get(self.decision_key, "") if self.decision_key is not None else "",
            measure.slack_bytes,
            max(0, measure.reached_bytes - measure.start_bytes),
            measure.peak_bytes,
            measure.numbers,
        )


def packed_record_of(report: Any) -> tuple[Any, ...] | None:
    """The packed record that a report carries."""
    return getattr(report, RECORD_ATTRIBUTE, None)
