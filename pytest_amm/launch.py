"""Starts the watchdog and hands its board to the workers of xdist."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from pytest_amm.board import SIGNAL, Board
from pytest_amm.mark import mark
from pytest_amm.plugin import FOREIGN
from pytest_amm.remains import VARIABLE
from pytest_amm.settings import Settings

CEILING_RATIO = 1.45
"""How far one C call that cannot be ended may pass its budget before its process is killed: 1.5 with one look more."""
ISOLATED_SLOTS = 127
"""Slot 0 is pytest itself, 1 to 127 are xdist's workers; an isolated test has the slot of its parent plus this."""

_CODE = "import sys; sys.path.append(sys.argv[1]); from pytest_amm.watchdog import main; main(sys.argv[2:])"


def supported() -> bool:
    """Whether there can be a watchdog here: it reads /proc, which must show the pids of this namespace."""
    if not (sys.platform.startswith("linux") and os.path.isdir("/proc/self/task")):
        return False
    return os.readlink("/proc/self") == str(os.getpid())


def launch(config: pytest.Config, settings: Settings, aftermath: dict[str, Any] | None) -> Board:
    """A board, and the watchdog that looks at it. The watchdog ends when the board says so, or this process ends."""
    run_id = mark(config)
    board = Board.create(run_id)
    told = {**watchdog_settings(settings, aftermath), "run_id": run_id, "foreign": config.stash.get(FOREIGN, [])}
    arguments = [str(board.fd), str(os.getpid()), json.dumps(told)]
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    subprocess.run(  # returns at once: the watchdog forks away from its parent
        [sys.executable, "-I", "-S", "-c", _CODE, root, *arguments],
        pass_fds=(board.fd,),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=True,
        env={name: value for name, value in os.environ.items() if name != VARIABLE},  # it ends with no run around this
    )
    return board


def watchdog_settings(settings: Settings, aftermath: dict[str, Any] | None) -> dict[str, Any]:
    limits = [settings.test_budget_bytes, *(each.size_bytes for each in settings.directories)]
    return {
        "budget_bytes": settings.budget_bytes,
        "least_limit_bytes": min((limit for limit in limits if limit), default=None),
        "stop_ratio": CEILING_RATIO,
        "stops": settings.on_breach == "stop",
        "signal": int(SIGNAL),
        "run_cgroup": run_cgroup(),
        "aftermath": aftermath,
    }


def run_cgroup() -> dict[str, Any] | None:
    """The memory cgroup that this process is in; whether it is the run's own is seen by the watchdog."""
    from amm_exporter.probes.cgroups import find_memory_cgroup

    try:
        with open("/proc/self/cgroup", "rb") as file:
            found = find_memory_cgroup(file.read())
    except OSError:
        return None
    return {"directory": str(found.directories[0]), "version": found.version} if found else None


def slot_of(worker: str) -> int:
    """`gw3` has slot 4. Workers that xdist replaced have higher numbers; past the last one they share."""
    return 1 + int(worker.removeprefix("gw") or 0) % ISOLATED_SLOTS if worker.startswith("gw") else 0
