"""Watches over the import of test files as over tests: what runs away there is stopped, and is an error of its file.

Only against the budget of the session and that of the machine: no test has begun that could have one of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Generator

import pytest

from pytest_amm import failure
from pytest_amm.board import Stop
from pytest_amm.breach import breach_of, stop_notes
from pytest_amm.giveback import frames, give_back
from pytest_amm.guard import Guard

PHASE = "collection"


class Collecting:
    """The plugin object around each collector. A directory collects the files in it, so there is one within another."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._under_way: list[pytest.Collector] = []

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        __tracebackhide__ = True
        if self._under_way:
            self._guard.disarm_collector()
        self._under_way.append(collector)
        self._guard.arm_collector(collector)
        try:
            report = yield
        finally:
            watched = self._guard.disarm_collector()
            self._under_way.pop()
            if self._under_way:
                self._guard.arm_collector(self._under_way[-1])
        if watched is not None and watched.stop is not None:
            self._tell(report, collector, watched.stop)
        return report

    def _tell(self, report: pytest.CollectReport, collector: pytest.Collector, stop: Stop) -> None:
        breach = breach_of(stop, phase=PHASE)
        call: pytest.CallInfo[object] | None = getattr(report, "call", None)  # left there by pytest for its debugger
        excinfo = call.excinfo if call is not None else None
        text = failure.explain(
            breach,
            (),
            nodeid=collector.nodeid or ".",
            exact=True,
            notes=stop_notes(stop, at_line=True),
            evidence=self._guard.evidence(),
        )
        failure.fail(report, text)
        if excinfo is not None and not collector.config.getoption("usepdb", False):
            _empty_modules(excinfo.value)
        give_back(collector.config, excinfo)
        if stop.scope == "emergency":
            collector.session.shouldstop = f"amm: emergency stop: {failure.headline(breach)}"


def _empty_modules(error: BaseException) -> None:
    """What a module had made that could not be imported would stay with the frames of the error, and be held against
    the next file."""
    for frame in frames(error):
        module = sys.modules.get(frame.f_globals.get("__name__", ""))
        if frame.f_code.co_name == "<module>" and (module is None or vars(module) is not frame.f_globals):
            frame.f_globals.clear()
