"""Collects what the tests' reports carry and shows it at the end: a plugin object of the process that reports.

How the terminal section reads is in `terminal`, the JSON file in `jsonfile`; the records come from `measure`, with
xdist from every worker.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from amm_exporter import __version__
from amm_exporter.units import format_size
from pytest_amm import terminal
from pytest_amm.board import Board
from pytest_amm.breach import one_line
from pytest_amm.measure import packed_record_of
from pytest_amm.records import RERUN, Record, of_outcome, to_data, to_tell, unpack
from pytest_amm.settings import Settings

if TYPE_CHECKING:
    from pytest_amm.compare import Change
    from pytest_amm.jsonfile import JsonReport
    from pytest_amm.lost import Starts

_MESSAGE_CHARACTERS = 8000
"""How much of a failure's text the reports keep, from its end."""


class Reporter:
    """Keeps the records of the run."""

    def __init__(self, config: pytest.Config, settings: Settings, *, journal: str | None) -> None:
        self._config = config
        self._settings = settings
        self._packed: list[Sequence[Any]] = []
        self._messages: dict[int, str] = {}
        self._open: dict[str, list[str]] = {}
        self._rerun: dict[str, Sequence[Any] | None] = {}
        self._keeps_messages = bool(journal or settings.html_path)
        self.board: Board | None = None
        self.journal = journal
        self._session = session_facts(settings)
        self._bases = _load(settings.compare_paths) if settings.compare_paths else []  # before one is written anew
        for flag, path in (("--amm-json", journal), ("--amm-html", settings.html_path)):
            if path:
                _make_writable(flag, path)
        self._json = _journal(journal, self._session) if journal else None
        self._changes: list[Change] | None = None
        self._caveats: tuple[str, ...] = ()
        self._regressed: list[Change] = []
        self._hook_error = ""
        self._outside_bytes = 0
        self._starts: Starts | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        gone = str(report.when) == "???"
        if self._rerun and (gone or report.when == "setup") and report.nodeid in self._rerun:
            self._keep(report.nodeid, self._rerun[report.nodeid])  # before 16.2 no teardown is told of a rerun
        if gone:  # what xdist and pytest-forked tell of a process that is gone
            self._tell_lost(report)
        if self._keeps_messages and (report.sections or report.outcome in ("failed", RERUN)):
            from pytest_amm import failure

            text = failure.text_of(report)
            if text:  # a breach that only warns stands in a section of a test that passed
                self._open.setdefault(report.nodeid, []).append(text)
        if report.outcome == RERUN:
            self._rerun[report.nodeid] = packed_record_of(report)
        if gone or report.when == "teardown":
            self._keep(report.nodeid, packed_record_of(report))

    def _keep(self, nodeid: str, values: Sequence[Any] | None) -> None:
        """What the last report of a test, or of one of its runs, carries."""
        told, rerun = self._open.pop(nodeid, []), nodeid in self._rerun
        self._rerun.pop(nodeid, None)
        if values is None:
            return
        if told:
            self._messages[len(self._packed)] = "\n".join(told)[-_MESSAGE_CHARACTERS:]
        self._packed.append(of_outcome(values, RERUN) if rerun else values)
        if self._json:
            self._json.add(self._data(len(self._packed) - 1))

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """xdist makes a worker: tell it where the board is, and know what its tests are at when it dies."""
        if self.board:
            node.workerinput["amm_board"] = self.board.path
        if self._starts is None:
            from pytest_amm.lost import Starts

            self._starts = Starts()
            self._config.pluginmanager.register(self._starts, "amm-starts")

    def _tell_lost(self, report: pytest.TestReport) -> None:
        from pytest_amm import lost

        began = self._starts.of(report.nodeid) if self._starts else None
        run_started = self._session["started_unix_seconds"]
        lost.tell(self._config, report, self.board, began or lost.Began(None, *report.location[:2]), run_started)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        settings = self._settings
        self._outside_bytes = self._over_outside_of_tests()
        if self._outside_bytes and settings.on_breach != "warn" and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if not (settings.json_path or settings.html_path or settings.export or settings.compare_paths):
            return
        document = self._document()
        try:
            session.config.hook.pytest_amm_report(document=document)
            self._write(document)
        except Exception as error:  # noqa: BLE001 - others' hooks, and what they put into it, cost nobody the reports
            self._hook_error = f"pytest_amm_report: {one_line(error)}"
            self._write(self._document())
        if self._bases:
            from pytest_amm.compare import caveats, compare, regressions

            document = self._document()  # as measured, whatever hooks have made of the other
            self._changes = compare(self._bases, document["tests"])
            self._caveats = tuple(caveats(self._bases[-1], document))
            ratio = settings.fail_growth_ratio
            self._regressed = regressions(self._changes, ratio) if ratio is not None else []
            if self._regressed and session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _document(self) -> dict[str, Any]:
        from pytest_amm.jsonfile import summary

        tests = [self._data(index) for index in range(len(self._packed))]
        figures = summary(tests, self._settings.budget_bytes)
        figures |= self._tree_peak(figures["peak_bytes"])
        return {"session": {**self._session}, "summary": figures, "tests": tests, "timeline": self._points()}

    def _write(self, document: Mapping[str, Any]) -> None:
        if self._json and self._settings.json_path:
            self._json.complete(document)
        if self._settings.html_path:
            from pytest_amm.page import page

            text = page(document, document["timeline"])  # ids and messages may be what is no text in UTF-8
            Path(self._settings.html_path).write_bytes(text.encode(errors="backslashreplace"))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        quiet = terminalreporter.verbosity < 0
        settings = self._settings
        everything = terminalreporter.verbosity >= 2
        chosen = to_tell(self._packed, len(self._packed) if everything else max(1, settings.top_count))
        records = [record for record in chosen if record.phases]  # else its process is gone, and nobody saw its peak
        if records and (not quiet or any(map(terminal.fails, records))):
            top_count = len(records) if everything else settings.top_count
            terminalreporter.write_sep("=", "memory")
            for line in terminal.section(
                records,
                width=terminalreporter._tw.fullwidth,
                top_count=min(1, top_count) if quiet else top_count,
                budget_bytes=settings.budget_bytes,
            ):
                terminalreporter.write_line(line, red=terminal.is_bad(line))
            tree_peak_bytes = self.board.header().tree_peak_bytes if self.board else 0
            if self.board and tree_peak_bytes > max(record.peak_bytes for record in records):
                seen = terminal.tree(
                    tree_peak_bytes, self.board.tree_peak_source, budget_bytes=self._settings.budget_bytes
                )
                terminalreporter.write_line(seen)
        tight, most_ppm = self.board.tightest() if self.board else (0, 0)
        if tight:
            terminalreporter.write_line(terminal.tight(most_ppm / 1e6, settings.emergency_warn_ratio), yellow=True)
        if self.board and self.board.refusals_hidden:
            terminalreporter.write_line(terminal.HIDDEN, yellow=True)
        if self._outside_bytes:
            terminalreporter.write_line(
                f"over budget outside of any test (collection, imports): the process tree reached "
                f"{format_size(self._outside_bytes)}, the budget is {format_size(settings.budget_bytes or 0)}"
            )
        if self._hook_error:
            terminalreporter.write_line(f"warning: {self._hook_error}; the reports are without it", yellow=True)
        if self._changes is not None:
            from pytest_amm.compare import lines

            names = ", ".join(os.path.basename(path) for path in settings.compare_paths)
            terminalreporter.write_sep("=", f"memory compared with {names}")
            count = len(self._changes) if everything else max(1, settings.top_count)
            width = terminalreporter._tw.fullwidth
            told = lines(self._changes, fail_ratio=settings.fail_growth_ratio, count=count, width=width)
            for line in (*told, *self._caveats):
                terminalreporter.write_line(line)
        if os.environ.get("GITHUB_ACTIONS") == "true":
            for text in self._annotations(records):
                terminalreporter.write_line(text)

    def pytest_unconfigure(self) -> None:
        if self.board:
            self.board.end()
            self.board.close()
        if self._json:
            self._json.close()
        if self.journal and self.journal != self._settings.json_path:
            os.unlink(self.journal)

    def _annotations(self, records: Sequence[Record]) -> Iterator[str]:
        from pytest_amm.annotations import annotation, folder_in, regression

        folder = folder_in(os.environ.get("GITHUB_WORKSPACE"), str(self._config.rootpath))
        yield from filter(None, (annotation(record, folder=folder) for record in records))
        for change in self._regressed:
            yield regression(change, folder=folder)

    def _data(self, index: int) -> dict[str, Any]:
        return {**to_data(unpack(self._packed[index])), "message": self._messages.get(index, "")}

    def _over_outside_of_tests(self) -> int:
        """How far the tree went when that was over the budget and no test is to blame; else 0."""
        budget_bytes = self._settings.budget_bytes
        if self.board is None or budget_bytes is None:
            return 0
        tree_peak_bytes = self.board.header().tree_peak_bytes
        if tree_peak_bytes <= budget_bytes:
            return 0
        blamed = any(record.breach and record.breach.scope == "session" for record in map(unpack, self._packed))
        return 0 if blamed else tree_peak_bytes

    def _tree_peak(self, highest_bytes: int) -> dict[str, Any]:
        """The most that the processes of the run had at one time, and who saw it; samples miss a spike that the mark of
        a test has."""
        if self.board is None:
            return {"tree_peak_bytes": None, "tree_peak_source": None}
        peak_bytes = max(highest_bytes, self.board.header().tree_peak_bytes)
        return {"tree_peak_bytes": peak_bytes, "tree_peak_source": self.board.tree_peak_source}

    def _points(self) -> list[tuple[float, int]]:
        """The tree over time, in seconds since the start of the run."""
        start = self._session["started_unix_seconds"]
        return [(round(at - start, 3), size) for at, size in self.board.points()] if self.board else []


def session_facts(settings: Settings) -> dict[str, Any]:
    """What a report says of the run as a whole."""
    return {
        "started_unix_seconds": round(time.time(), 3),
        "amm": __version__,
        "pytest": pytest.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "budget_bytes": settings.budget_bytes,
        "test_budget_bytes": settings.test_budget_bytes,
    }


def _journal(path: str, session: dict[str, Any]) -> JsonReport:
    from pytest_amm.jsonfile import JsonReport

    return JsonReport(path, session)


def _make_writable(flag: str, path: str) -> None:
    """Now and not at the end: what an hour's run has found shall have a place."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "ab"):
            pass
    except OSError as error:
        raise pytest.UsageError(f"{flag}: cannot write {path!r}: {error.strerror}") from None


def _load(paths: Sequence[str]) -> list[dict[str, Any]]:
    from pytest_amm.jsonfile import ReportError, load

    try:
        return [load(path) for path in paths]
    except ReportError as error:
        raise pytest.UsageError(f"--amm-compare: {error}") from None
