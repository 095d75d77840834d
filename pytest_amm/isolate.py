"""Runs a test in a forked child, so that stopping it costs this test only.

The child runs the whole protocol and hands its reports back. Fixtures of a wider scope that it makes die with it; those
that existed before the fork stay with the parent and are not torn down by the child.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from pytest_amm import failure
from pytest_amm.board import Board
from pytest_amm.breach import breach_of
from pytest_amm.evidence import from_text
from pytest_amm.measure import RECORD_ATTRIBUTE
from pytest_amm.records import killed_record, packed
from pytest_amm.unnamed import unnamed_file

MARKER = "amm_isolate"


class Isolation:
    """The plugin object that takes the protocol of isolated tests over."""

    def __init__(self, board: Board | None, slot: int, prepare_child: Callable[[], None], *, every: bool) -> None:
        self._board = board
        self._slot = slot
        self._prepare_child = prepare_child
        self._every = every

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
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: fork with threads; the child only runs the test
            pid = os.fork()
        if pid == 0:
            self._child(item, answer)
        _, status = os.waitpid(pid, 0)
        try:
            with os.fdopen(answer, "rb") as file:
                file.seek(0)
                reports, ends, exits = pickle.loads(file.read())
        except (EOFError, pickle.UnpicklingError):  # it ended before, or while, it wrote
            return self._lost(item, os.waitstatus_to_exitcode(status))
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
            reports, exits = _reports(item)
            hook = item.config.hook
            data = [hook.pytest_report_to_serializable(config=item.config, report=report) for report in reports]
            with os.fdopen(os.dup(answer), "wb") as file:
                file.write(pickle.dumps((data, item.session.shouldstop, exits)))
            code = 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _lost(self, item: pytest.Item, code: int) -> list[pytest.TestReport]:
        """Reports of a test whose child ended without any: killed by the watchdog, or crashed by itself."""
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        text = f"the isolated test ended with {how} before it could report"
        stop = self._board.stop(self._slot) if self._board else None
        record = None
        if self._board and stop and stop.rungs and self._board.is_named(self._slot, item.nodeid):
            breach = breach_of(stop, phase="call")
            record = killed_record(item.nodeid, breach)
            if stop.scope == "emergency":
                item.session.shouldstop = f"amm: emergency stop: {failure.headline(breach)}"
            note = "nothing softer ended it in time, so its process was killed"
            evidence = from_text(self._board.evidence(self._slot, stop.generation))
            text = failure.explain(breach, (), nodeid=item.nodeid, exact=True, notes=(note,), evidence=evidence)
        call = _report(item, "call", "failed", text)
        teardown = _report(item, "teardown", "passed", None)
        if record:
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
