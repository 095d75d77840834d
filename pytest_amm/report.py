"""Collects what the tests' reports carry and shows it at the end: a plugin object of the process that reports.

How the terminal section reads is in `terminal`, the JSON file in `jsonfile`; the records come from `measure`, with
xdist from every worker.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from typing import Any

import pytest

from amm_exporter import __version__
from pytest_amm import failure, terminal
from pytest_amm.board import RUNG_KILL, Board
from pytest_amm.jsonfile import JsonReport, summary
from pytest_amm.measure import breach_of, packed_record_of
from pytest_amm.records import killed_record, pack, to_data, unpack
from pytest_amm.settings import Settings

_MESSAGE_CHARACTERS = 8000
KILLED = "nothing softer ended it in time, so its process was killed"


class Reporter:
    """Keeps the records of the run."""

    def __init__(self, config: pytest.Config, settings: Settings, *, journal: str | None) -> None:
        self._config = config
        self._settings = settings
        self._packed: list[Sequence[Any]] = []
        self._messages: dict[str, str] = {}
        self.board: Board | None = None
        self.journal = journal
        self._json = JsonReport(journal, self._session()) if journal else None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self._json and report.failed:
            self._messages[report.nodeid] = report.longreprtext[-_MESSAGE_CHARACTERS:]
        if report.when == "teardown":
            packed = packed_record_of(report)
            if packed is not None:
                self._packed.append(packed)
                if self._json:
                    self._json.add(self._data(packed))

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """xdist makes a worker: tell it where the board is."""
        if self.board:
            node.workerinput["amm_board"] = self.board.path

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport) -> None:
        """A worker of xdist died: if the watchdog killed it, the report of its test says why."""
        if self.board is None:
            return
        for slot in self.board.slots():
            stop = self.board.stop(slot)
            if stop.rungs & RUNG_KILL and self.board.name(slot) == crashitem[:400]:
                breach = breach_of(stop, phase="call")
                text = failure.explain(breach, (), nodeid=crashitem, exact=True, notes=(KILLED,))
                report.longrepr = f"{failure.headline(breach)}\n{text}"
                self._packed.append(pack(killed_record(crashitem, breach)))

    def pytest_sessionfinish(self) -> None:
        if self._json and self.journal == self._settings.json_path:
            tests = [self._data(packed) for packed in self._packed]
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
        if self.board:
            self.board.end()
            self.board.close()
        if self._json:
            self._json.close()
        if self.journal and self.journal != self._settings.json_path:
            os.unlink(self.journal)

    def _data(self, packed: Sequence[Any]) -> dict[str, Any]:
        data = to_data(unpack(packed))
        return {**data, "message": self._messages.get(data["nodeid"], "")}

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
