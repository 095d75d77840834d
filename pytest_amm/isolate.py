"""Runs a test in a forked child, so that stopping it costs this test only.

The child runs the whole protocol and hands its reports back. Fixtures of a wider scope that it makes die with it; those
that existed before the fork stay with the parent and are not torn down by the child.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from pytest_amm import carried, failure
from pytest_amm.board import Board
from pytest_amm.lost import Began, Lost
from pytest_amm.measure import RECORD_ATTRIBUTE
from pytest_amm.records import junit_properties, packed
from pytest_amm.unnamed import unnamed_file

MARKER = "amm_isolate"


class Isolation:
    """The plugin object that takes the protocol of isolated tests over."""

    def __init__(
        self,
        board: Board | None,
        slot: int,
        prepare_child: Callable[[], None],
        *,
        every: bool,
        worker: str,
        run_started: float,
    ) -> None:
        self._board = board
        self._slot = slot
        self._prepare_child = prepare_child
        self._every = every
        self._worker = worker
        self._run_started = run_started

    def read(self, items: Iterable[pytest.Item]) -> None:
        """Raises pytest.UsageError for a marker with an argument: it takes none."""
        for item in items:
            marker = item.get_closest_marker(MARKER)
            if marker is not None and (marker.args or marker.kwargs):
                raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.{MARKER}: takes no argument")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        if not self._every and item.get_closest_marker(MARKER) is None:
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._run(item):
            item.ihook.pytest_runtest_logreport(report=report)
        item.session._setupstate.teardown_exact(nextitem)  # what only this test's neighbours before it still needed
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _run(self, item: pytest.Item) -> list[pytest.TestReport]:
        answer = unnamed_file("amm-reports")
        began = Began(time.time(), *item.location[:2])
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: fork with threads; the child only runs the test
            pid = os.fork()
        if pid == 0:
            self._child(item, answer)
        _, status, usage = os.wait4(pid, 0)
        try:
            with os.fdopen(answer, "rb") as file:
                file.seek(0)
                reports, ends, exits, warned = pickle.loads(file.read())
        except (EOFError, pickle.UnpicklingError):  # it ended before, or while, it wrote
            return self._lost(item, os.waitstatus_to_exitcode(status), began, usage.ru_maxrss * 1024)
        carried.tell(item, [carried.Carried(*each) for each in warned])
        if exits is not None:
            raise exits
        item.session.shouldstop = item.session.shouldstop or ends
        hook = item.config.hook
        return [hook.pytest_report_from_serializable(config=item.config, data=data) for data in reports]

    def _child(self, item: pytest.Item, answer: int) -> None:
        """Never returns: what follows in the parent must not run twice."""
        code = 1
        try:
            self._prepare_child()
            with carried.caught(item.config) as warned:
                reports, exits = _reports(item)
            hook = item.config.hook
            data = [hook.pytest_report_to_serializable(config=item.config, report=report) for report in reports]
            with os.fdopen(os.dup(answer), "wb") as file:
                file.write(pickle.dumps((data, item.session.shouldstop, exits, warned)))
            code = 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _lost(self, item: pytest.Item, code: int, began: Began, peak_bytes: int) -> list[pytest.TestReport]:
        """Reports of a test whose child ended without any: killed by the watchdog, or crashed by itself."""
        lost = Lost(item.nodeid, self._board, self._slot)
        if lost.breach and lost.breach.scope == "emergency":
            item.session.shouldstop = f"amm: emergency stop: {failure.headline(lost.breach)}"
        record = lost.record(
            outcome="failed",
            worker=self._worker,
            began=began,
            run_started=self._run_started,
            process_peak_bytes=peak_bytes,
        )
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        text = lost.text() or f"the isolated test ended with {how} before it could report"
        call = _report(item, "call", "failed", text)
        call.duration = record.seconds
        teardown = _report(item, "teardown", "passed", None)
        teardown.user_properties += junit_properties(record)
        setattr(teardown, RECORD_ATTRIBUTE, packed(record))
        return [_report(item, "setup", "passed", None), call, teardown]


class _Stays:
    """Stands for the next item: tells the teardown in the child what belongs to the parent."""

    def __init__(self, chain: list[Any]) -> None:
        self._chain = chain

    def listchain(self) -> list[Any]:
        return self._chain


def _reports(item: pytest.Item) -> tuple[list[pytest.TestReport], BaseException | None]:
    """What the test came to; or, as pytest itself has no report then, how it ended the session."""
    state = item.session._setupstate
    kept = list(state.stack)
    stays: Any = _Stays(kept) if kept else None  # only its listchain is used
    try:
        return runtestprotocol(item, log=False, nextitem=stays), None
    except pytest.exit.Exception as error:
        exits: BaseException = pytest.exit.Exception(str(error.msg), error.returncode)
    except KeyboardInterrupt:
        exits = KeyboardInterrupt()
    state.teardown_exact(stays)
    return [], exits


def _report(item: pytest.Item, when: Any, outcome: Any, text: str | None) -> pytest.TestReport:
    return pytest.TestReport(item.nodeid, item.location, dict.fromkeys(item.keywords, 1), outcome, text, when)
