"""Collects what the tests' reports carry and shows it at the end: a plugin object of the process that reports.

How the terminal section reads is in `terminal`, the JSON file in `jsonfile`; the records come from `measure`, with
xdist from every worker.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from typing import Any

import pytest

from amm_exporter import __version__
from pytest_amm import terminal
from pytest_amm.jsonfile import JsonReport, summary
from pytest_amm.measure import packed_record_of
from pytest_amm.records import to_data, unpack
from pytest_amm.settings import Settings


class Reporter:
    """Keeps the records of the run."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._packed: list[Sequence[Any]] = []
        self._json = JsonReport(settings.json_path, self._session()) if settings.json_path else None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            packed = packed_record_of(report)
            if packed is not None:
                self._packed.append(packed)
                if self._json:
                    self._json.add(to_data(unpack(packed)))

    def pytest_sessionfinish(self) -> None:
        if self._json:
            tests = [to_data(unpack(packed)) for packed in self._packed]
            self._json.complete(tests, summary=summary(tests, self._settings.budget_bytes))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        records = [unpack(packed) for packed in self._packed]
        breached = any(record.breach for record in records)
        if not records or (terminalreporter.verbosity < 0 and not breached):
            return
        settings = self._settings
        top_count = len(records) if terminalreporter.verbosity >= 2 else settings.top_count
        if terminalreporter.verbosity < 0:
            top_count = min(1, top_count)
        terminalreporter.section("memory")
        for line in terminal.section(
            records,
            width=terminalreporter._tw.fullwidth,
            top_count=top_count,
            budget_bytes=settings.budget_bytes,
        ):
            terminalreporter.write_line(line)

    def pytest_unconfigure(self) -> None:
        if self._json:
            self._json.close()

    def _session(self) -> dict[str, Any]:
        return {
            "started_unix_seconds": round(time.time(), 3),
            "amm": __version__,
            "pytest": pytest.__version__,
            "python": platform.python_version(),
            "system": platform.system(),
            "budget_bytes": self._settings.budget_bytes,
            "test_budget_bytes": self._settings.test_budget_bytes,
        }
