"""Puts the plugin's working parts together once something is asked for."""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

import pytest

from pytest_amm import launch
from pytest_amm.board import Board
from pytest_amm.export import Export
from pytest_amm.guard import Guard
from pytest_amm.isolate import Isolation
from pytest_amm.leakgate import LeakGate
from pytest_amm.measure import Measurer
from pytest_amm.meter import Meter
from pytest_amm.report import Reporter
from pytest_amm.settings import Settings
from pytest_amm.toolkit import Toolkit, host_usage_ratio

BOARD_INPUT = "amm_board"
"""Under which name the controller of xdist tells a worker where the board is."""


METER = pytest.StashKey[Meter]()
BOARD = pytest.StashKey[Board]()


def start(config: pytest.Config, settings: Settings) -> tuple[Measurer, LeakGate]:
    """Register what this process needs: a worker of xdist measures, a plain run measures and reports."""
    given: dict[str, Any] = getattr(config, "workerinput", {})
    worker = str(given.get("workerid", ""))
    reporter = None
    if not worker:
        reporter = Reporter(config, settings, journal=_journal(config, settings))
    board = _board(config, settings, given, reporter)
    slot = launch.slot_of(worker)
    stops = settings.on_breach == "stop"
    outer = Guard.of_outer_run()
    meter = Meter(outer=outer.meter if outer else None)
    budget_bytes = settings.budget_bytes
    guard = Guard(board, slot, meter, budget_bytes=budget_bytes, hard=settings.hard, stops=stops) if board else None
    config.stash[METER] = meter
    if board:
        config.stash[BOARD] = board
    measurer = Measurer(settings, meter, guard=guard, worker=worker, session_started=time.time())
    config.pluginmanager.register(measurer, "amm-measure")
    gate = LeakGate(every=settings.leaks)
    config.pluginmanager.register(gate, "amm-leakgate")
    if hasattr(os, "fork"):
        own_slot = slot + launch.ISOLATED_SLOTS

        def prepare_child() -> None:
            if board:
                measurer.use(Guard(board, own_slot, meter, budget_bytes=budget_bytes, hard=True, stops=stops))

        isolation = Isolation(board, own_slot, prepare_child, every=settings.isolate)
        config.pluginmanager.register(isolation, "amm-isolate")
    if reporter:
        reporter.board = board
        config.pluginmanager.register(reporter, "amm-report")
        if settings.export:
            config.pluginmanager.register(Export(config, settings.export), "amm-export")
    return measurer, gate


def toolkit(config: pytest.Config) -> Toolkit:
    """What the fixture `amm` gives; with no option on it measures by itself."""
    if METER not in config.stash:
        meter = config.stash[METER] = Meter()
        config.add_cleanup(meter.close)
    board = config.stash.get(BOARD, None)

    def usage_ratio() -> float:
        known = board.header().host_ppm / 1e6 if board else 0.0
        return known or host_usage_ratio()

    return Toolkit(config.stash[METER], usage_ratio)


def _board(config: pytest.Config, settings: Settings, given: dict[str, Any], reporter: Reporter | None) -> Board | None:
    """The controller's board for a worker, a new one with a watchdog elsewhere, None where there can be none."""
    if BOARD_INPUT in given:
        try:
            return Board.open(given[BOARD_INPUT])
        except OSError:  # a worker on another machine
            return None
    if not launch.supported():
        return None
    junit = config.getoption("xmlpath", None)
    aftermath = {
        "json": reporter.journal if reporter else None,
        "temporary": bool(reporter and reporter.journal != settings.json_path),
        "junit": os.path.abspath(junit) if junit and reporter else None,
    }
    return launch.launch(config, settings, aftermath)


def _journal(config: pytest.Config, settings: Settings) -> str | None:
    """Where finished tests are written down at once: the JSON report, or a temporary one when JUnit has to be saved."""
    if settings.json_path or not config.getoption("xmlpath", None) or settings.on_breach != "stop":
        return settings.json_path
    fd, path = tempfile.mkstemp(prefix="amm-", suffix=".json")
    os.close(fd)
    return path
