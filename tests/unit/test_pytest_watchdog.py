"""Whom the watchdog holds to account, seen on real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from pytest_amm.board import Board
from pytest_amm.watchdog import Watchdog

SETTINGS = {
    "budget_bytes": 1 << 20,
    "least_limit_bytes": None,
    "stop_ratio": 1.45,
    "stops": True,
    "signal": 41,
    "run_cgroup": None,
    "foreign": [],
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the watchdog reads /proc")
def test_only_the_process_that_grew_most_is_worth_a_kill() -> None:
    """With xdist: a test a little over its own budget is not killed for the giant of another worker."""
    board = Board.create()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        watchdog = Watchdog(board, os.getpid(), SETTINGS)
        board.write_owner(1, (child.pid, 1, 0, 1, 1))
        board.write_owner(2, (os.getpid(), 1, 0, 1, 1))
        watchdog._look(time.monotonic())
        watchdog._tree.refresh()
        watchdog._look(time.monotonic())
        endangers = {number: watchdog._endangers(slot) for number, slot in watchdog._slots.items()}
    finally:
        child.kill()
        child.wait()
        board.close()
    assert endangers == {1: False, 2: True}
