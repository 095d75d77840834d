"""Collects what the tests' reports carry and shows it at the end: a plugin object of the process that reports.

How the terminal section reads is in `terminal`; the records come from `measure`, with xdist from every worker.
"""

from __future__ import annotations

import pytest

from pytest_amm import terminal
from pytest_amm.measure import record_of
from pytest_amm.records import Record, from_data
from pytest_amm.settings import Settings


class Reporter:
    """Keeps the records of the run."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.records: list[Record] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            data = record_of(report)
            if data is not None:
                self.records.append(from_data(data))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        breached = any(record.breach for record in self.records)
        if not self.records or (terminalreporter.verbosity < 0 and not breached):
            return
        settings = self._settings
        top_count = len(self.records) if terminalreporter.verbosity >= 2 else settings.top_count
        if terminalreporter.verbosity < 0:
            top_count = min(1, top_count)
        terminalreporter.section("memory")
        for line in terminal.section(
            self.records,
            width=terminalreporter._tw.fullwidth,
            top_count=top_count,
            budget_bytes=settings.budget_bytes,
        ):
            terminalreporter.write_line(line)
