"""What the reports of a killed run say of the test that ran last."""

from __future__ import annotations

import dataclasses
import io
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from pytest_amm.aftermath import tell
from pytest_amm.board import RUNG_KILL, Board, Owner, Stop
from pytest_amm.breach import Breach
from pytest_amm.jsonfile import JsonReport, load
from pytest_amm.records import Record, from_data, to_data

MIB = 1 << 20
STOP = Stop(1, "session", 900 * MIB, 500 * MIB, RUNG_KILL, 0, 7.0, 7.25, 300 * MIB, "")


def told(folder: Path, nodeid: str, stop: Stop | None) -> dict[str, Any]:
    """The last test of the reports of a run that was killed three seconds after the test had begun."""
    journal = str(folder / "report.json")
    now = time.time()
    JsonReport(journal, {"started_unix_seconds": now - 10.0}).close()
    board = Board.create()
    board.write_owner(0, Owner(1, 1, 40 * MIB, 0, 1))
    board.write_name(0, nodeid)
    if stop:
        board.write_stop(0, stop)
    tell(board, {"json": journal, "junit": str(folder / "junit.xml")}, io.StringIO(), {0: now - 3.0})
    board.close()
    (test,) = load(journal)["tests"]
    return dict(test)


@pytest.mark.parametrize("stop", [STOP, None], ids=["by the watchdog", "from outside"])
def test_a_killed_test_has_all_that_others_have_and_when_it_ran(tmp_path: Path, stop: Stop | None) -> None:
    test = told(tmp_path, "tests/t.py::test_it", stop)
    assert test.keys() == {*to_data(Record(nodeid="", outcome="", start_seconds=0, seconds=0, phases=())), "message"}
    assert test["file"] == "tests/t.py"
    assert test["start_seconds"] == pytest.approx(7.0, abs=0.01)
    assert 3.0 <= test["seconds"] < 10.0
    record = from_data(test)
    assert (record.peak_bytes, record.growth_bytes) == (test["peak_bytes"], test["growth_bytes"])


def test_its_figures_are_its_own_and_not_those_of_all_workers(tmp_path: Path) -> None:
    test = told(tmp_path, "t.py::test_it", STOP)
    assert (test["peak_bytes"], test["growth_bytes"]) == (300 * MIB, 260 * MIB)
    breach = Breach(**test["breach"])
    assert dataclasses.astuple(breach) == ("session", 500 * MIB, 900 * MIB, "call", "--amm-budget", True, 0.25, False)


def test_an_id_that_is_no_text_does_not_cost_the_junit_file(tmp_path: Path) -> None:
    board_takes = "t.py::test_it[\x00<&\"']"
    told(tmp_path, board_takes, None)
    (case,) = ET.parse(tmp_path / "junit.xml").iter("testcase")
    assert case.get("name") == "test_it[?<&\"']"
