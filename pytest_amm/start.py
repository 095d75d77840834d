"""Puts the plugin's working parts together once something is asked for."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from pytest_amm import launch
from pytest_amm.board import Board
from pytest_amm.measure import Measurer
from pytest_amm.meter import Meter
from pytest_amm.report import Reporter
from pytest_amm.settings import Settings
from pytest_amm.watch import Watch

if TYPE_CHECKING:
    from pytest_amm.guard import Guard
    from pytest_amm.leakgate import LeakGate
    from pytest_amm.toolkit import Toolkit

BOARD_INPUT, STARTED_INPUT = "amm_board", "amm_started"
"""Under which names the controller of xdist tells a worker where the board is, and when the run started."""

HEADROOM = pytest.StashKey[Callable[[], "int | None"]]()
METER = pytest.StashKey[Meter]()
BOARD = pytest.StashKey[Board]()


def start(config: pytest.Config, settings: Settings) -> Parts:
    """Register what this process needs: a worker of xdist measures, a plain run measures and reports."""
    _check_directories(config, settings)
    given: dict[str, Any] = getattr(config, "workerinput", {})
    worker = str(given.get("workerid", ""))
    started = float(given.get(STARTED_INPUT, time.time()))
    reporter = None
    if not worker:
        reporter = Reporter(config, settings, journal=_journal(config, settings))
    board = _board(config, settings, given, reporter)
    parts = Parts(config, settings, board, worker, started)
    if board:
        config.stash[BOARD] = board
    if reporter:
        reporter.board = board
        config.pluginmanager.register(reporter, "amm-report")
        config.pluginmanager.register(RunClock(started), "amm-run-clock")
        if settings.export:
            from pytest_amm.export import Export

            config.pluginmanager.register(Export(config, settings.export), "amm-export")
    return parts


def _check_directories(config: pytest.Config, settings: Settings) -> None:
    """A budget for a directory that is not there would hold nothing, and nobody would know."""
    for each in settings.directories:
        if not (config.rootpath / each.path.partition("::")[0]).exists():
            raise pytest.UsageError(f"amm_budget_for: there is no {each.path!r} below the rootdir {config.rootpath}")


class RunClock:
    """Tells the workers of xdist when the run started: their tests stand on one time line with the process tree."""

    def __init__(self, started: float) -> None:
        self._started = started

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput[STARTED_INPUT] = self._started


class Parts:
    """What a process that runs tests has at work. What only a marker asks for is added once tests are collected."""

    def __init__(
        self, config: pytest.Config, settings: Settings, board: Board | None, worker: str, started: float
    ) -> None:
        self._config = config
        self._settings = settings
        self._board = board
        self._slot = launch.slot_of(worker)
        self._worker = worker
        self._started = started
        self._stops = settings.on_breach == "stop"
        self._meter = config.stash[METER] = Meter()
        self._meter.claim()
        self._measurer = Measurer(settings, self._meter, worker=worker, session_started=started)
        self._guards = False
        if board:
            self._measurer.use(Watch(board, self._slot, self._meter))
            if settings.emergency_asked:
                self._watch_host(board)
            if settings.has_budget or settings.emergency_asked:
                self._guard()
        config.pluginmanager.register(self._measurer, "amm-measure")
        if config.getoption("benchmark_quiet", None) is not None:  # pytest-benchmark is here
            from pytest_amm.benchmarked import Benchmarks

            self._measurer.benchmarks = Benchmarks(self._meter.rss_bytes)
            config.pluginmanager.register(self._measurer.benchmarks, "amm-benchmarks")
        if settings.leaks:
            self._check_leaks()
        config.stash[HEADROOM] = self._headroom

    def collected(self, items: list[pytest.Item], markers: frozenset[str]) -> None:
        """The tests are known, and which markers they carry."""
        if "amm_budget" in markers:
            self._guard()
        if "amm_leak" in markers and not self._settings.leaks:
            self._check_leaks().pytest_collection_modifyitems(items)  # registered in this hook, it misses the call
        if (self._settings.isolate or "amm_isolate" in markers) and hasattr(os, "fork"):
            from pytest_amm.isolate import Isolation

            own_slot = self._slot + launch.ISOLATED_SLOTS
            isolation = Isolation(
                self._board,
                own_slot,
                self._in_child,
                every=self._settings.isolate,
                worker=self._worker,
                run_started=self._started,
            )
            isolation.read(items)
            self._config.pluginmanager.register(isolation, "amm-isolate")
        self._measurer.collected(self._config, items, marked="amm_budget" in markers)

    def _guard(self) -> None:
        """Tests can be stopped from here on, where the options say so."""
        if self._board and self._stops and not self._guards:
            from pytest_amm.collecting import Collecting

            self._guards = True
            self._watch_host(self._board)
            guard = self._new_guard(self._board, self._slot, hard=self._settings.hard)
            self._measurer.use(guard)
            self._config.pluginmanager.register(Collecting(guard), "amm-collecting")

    def _watch_host(self, board: Board) -> None:
        """A full machine ends the run from here on. Workers of xdist share what the first one finds out."""
        if self._settings.watches_host and not board.host_settings():  # else the watchdog would look again and again
            from pytest_amm.hostfiles import host_settings

            board.write_host_settings(json.dumps(host_settings(self._settings)))

    def _check_leaks(self) -> LeakGate:
        from pytest_amm.leakgate import DECISION, LeakGate

        gate = LeakGate(every=self._settings.leaks, headroom=self._headroom)
        self._config.pluginmanager.register(gate, "amm-leakgate")
        self._measurer.decision_key = DECISION
        return gate

    def _headroom(self) -> int | None:
        return self._measurer.headroom_bytes

    def _in_child(self) -> None:
        """In the forked child of an isolated test: its own guard instead of its parent's."""
        if self._board:
            slot = self._slot + launch.ISOLATED_SLOTS
            self._measurer.use(self._new_guard(self._board, slot, hard=True))

    def _new_guard(self, board: Board, slot: int, *, hard: bool) -> Guard:
        from pytest_amm.guard import Guard, HardGuard

        kind = HardGuard if hard and self._stops else Guard
        return kind(board, slot, self._meter, budget_bytes=self._settings.budget_bytes, stops=self._stops)


def toolkit(config: pytest.Config) -> Toolkit:
    """What the fixture `amm` gives; with no option on it measures by itself."""
    from pytest_amm.toolkit import Toolkit, host_usage_ratio

    if METER not in config.stash:
        meter = config.stash[METER] = Meter()
        config.add_cleanup(meter.close)
    board = config.stash.get(BOARD, None)

    def usage_ratio() -> float:
        known = board.header().host_ppm / 1e6 if board else 0.0
        return known or host_usage_ratio()

    return Toolkit(config.stash[METER], usage_ratio, config.stash.get(HEADROOM, lambda: None))


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
    board = launch.launch(config, settings, aftermath)
    if reporter is None:  # a worker of xdist that a marker made start: else the reporter ends it
        config.add_cleanup(board.end)  # not reached once its controller was killed: xdist's own goodbye raises before
    return board


def _journal(config: pytest.Config, settings: Settings) -> str | None:
    """Where finished tests are written down at once: the JSON report, or a temporary one when JUnit has to be saved."""
    if settings.json_path or not config.getoption("xmlpath", None) or settings.on_breach != "stop":
        return settings.json_path
    import tempfile

    fd, path = tempfile.mkstemp(prefix="amm-", suffix=".json")
    os.close(fd)
    return path
