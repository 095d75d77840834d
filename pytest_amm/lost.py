"""A test whose process ended before it could report: what the board, the clock and the kernel still know of it.

That is a worker of xdist or a forked child which the watchdog killed, or which crashed by itself.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from _pytest.junitxml import xml_key

from pytest_amm import failure
from pytest_amm.board import RUNG_KILL, Board, Stop
from pytest_amm.breach import Breach, breach_of, stop_notes
from pytest_amm.evidence import from_text
from pytest_amm.launch import slot_of
from pytest_amm.measure import RECORD_ATTRIBUTE
from pytest_amm.records import Phase, Record, junit_properties, packed

_KILLED = "nothing softer ended it in time, so its process was killed"


class Began(NamedTuple):
    """When and where a test began: unix seconds, path and line counted from 0; None for what is not known."""

    at: float | None
    path: str
    line: int | None


class Starts:
    """The plugin object of xdist's controller that knows which tests are under way."""

    def __init__(self) -> None:
        self._began: dict[str, Began] = {}

    def pytest_runtest_logstart(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        self._began[nodeid] = Began(time.time(), *location[:2])

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._began.pop(nodeid, None)

    def of(self, nodeid: str) -> Began | None:
        return self._began.get(nodeid)


class Lost:
    """What is known of one such test, by the slot that its process had on the board."""

    def __init__(self, nodeid: str, board: Board | None, slot: int) -> None:
        self.nodeid = nodeid
        self._board = board if board is not None and board.is_named(slot, nodeid) else None
        self._slot = slot
        self.stop = self._own_stop()
        self.breach: Breach | None = breach_of(self.stop, phase="call") if self.stop else None

    def text(self) -> str:
        """The failure, where it was stopped; empty where it crashed by itself."""
        if self._board is None or self.stop is None or self.breach is None:
            return ""
        notes = [_KILLED] if self.stop.rungs & RUNG_KILL else stop_notes(self.stop)
        evidence = from_text(self._board.evidence(self._slot, self.stop.generation))
        return failure.explain(self.breach, (), nodeid=self.nodeid, exact=True, notes=notes, evidence=evidence)

    def record(
        self, *, outcome: str, worker: str, began: Began, run_started: float, process_peak_bytes: int = 0
    ) -> Record:
        """`process_peak_bytes` is what the kernel told of a child that was waited for; 0 where nobody did."""
        return Record(
            nodeid=self.nodeid,
            outcome=outcome,
            start_seconds=began.at - run_started if began.at is not None else 0.0,
            seconds=time.time() - began.at if began.at is not None else 0.0,
            phases=tuple(self._phases(process_peak_bytes)),
            worker=worker,
            location=(began.path, (began.line or 0) + 1),
            breach=self.breach,
        )

    def _phases(self, process_peak_bytes: int) -> Sequence[Phase]:
        """None where nobody saw its peak: no figure is better than one that is too low."""
        if self._board is None:
            return ()
        owner, seen = self._board.owner(self._slot), self._board.seen(self._slot)
        known = seen.generation == owner.generation
        peak_bytes = max(process_peak_bytes, self.stop.own_bytes if self.stop else 0)
        if not peak_bytes:
            return ()
        peak_bytes = max(peak_bytes, owner.base_bytes)  # the kernel counts in batches of pages
        tree_bytes = max(peak_bytes, seen.tree_peak_bytes if known else 0)
        earlier_bytes = seen.earlier_bytes if tree_bytes > peak_bytes else 0
        children_bytes = seen.children_peak_bytes if known else 0
        base_bytes = owner.base_bytes
        return (Phase("call", base_bytes, peak_bytes, base_bytes, tree_bytes, children_bytes, earlier_bytes),)

    def _own_stop(self) -> Stop | None:
        if self._board is None:
            return None
        stop = self._board.stop(self._slot)
        return stop if stop.rungs and stop.generation == self._board.owner(self._slot).generation else None


def tell(
    config: pytest.Config, report: pytest.TestReport, board: Board | None, began: Began, run_started: float
) -> None:
    """Put it on the one report that there is of such a test."""
    gateway = getattr(getattr(report, "node", None), "gateway", None)  # set by xdist
    worker = getattr(gateway, "id", "")
    lost = Lost(report.nodeid, board, slot_of(worker))
    report.longrepr = lost.text() or report.longrepr
    record = lost.record(outcome=report.outcome, worker=worker, began=began, run_started=run_started)
    report.duration = record.seconds
    setattr(report, RECORD_ATTRIBUTE, packed(record))
    xml = config.stash.get(xml_key, None)
    if xml is not None:  # it reads the properties of a teardown only, and this test has none
        for name, value in junit_properties(record):
            xml.node_reporter(report).add_property(name, str(value))
