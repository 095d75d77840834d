"""What a killed run has left running, and its end: also the daemons that had left the tree before they were seen there.

Looks for them once, when pytest has died without a farewell. A process is the run's when the watchdog saw it in the
tree, when it carries the id of the run, or when its parent or the leader of its session is the run's. The id is random
and stands in three places: in a limit that the kernel hands on to every process below the run (`mark`); in the
environment, where a run inside a run has both ids, so that it ends with the outer one, which never ends with it; and in
the name of the board, which a forked copy keeps mapped where the limit could not be had.

Where the kernel does not let this user read a process, that one is not touched. Standard library only: runs in the
watchdog.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pytest_amm.proctree import stat_fields

VARIABLE = "_AMM_TEST_RUN"
"""Holds the id. With an underscore, as every AMM_* variable is a setting and an unknown one an error."""

GRACE_SECONDS = 0.5
"""From SIGTERM to SIGKILL: time for a server to remove its files, not for a runaway to fill the machine."""
_GIVE_UP_SECONDS = 5.0
_PAUSE_SECONDS = 0.02
_QUIET_LOOKS = 2
"""One is not enough: what forks and ends while the list is read shows neither itself nor its child."""


class Process(NamedTuple):
    """One that runs, of any user. `start` is in clock ticks since boot: with the pid it names a process for good."""

    pid: int
    start: int
    parent: int
    session: int


class Remains:
    """What is left of the run with this id, whose process started at `since`. `seen`: pids and starts of its tree."""

    def __init__(
        self, run_id: str, since: int, seen: Iterable[tuple[int, int]], *, grace_seconds: float = GRACE_SECONDS
    ) -> None:
        self._id = run_id.encode()
        self._since = since
        self._known = set(seen)
        self._asked: set[tuple[int, int]] = set()
        self._grace_seconds = grace_seconds

    def ask(self) -> None:
        """SIGTERM to what was seen in the tree; nothing that could take long."""
        self._ask(process for process in processes() if process[:2] in self._known)

    def end(self) -> None:
        """SIGTERM to all, then SIGKILL, until nothing is left."""
        started = time.monotonic()
        quiet = 0
        while quiet < _QUIET_LOOKS and time.monotonic() < started + self._grace_seconds + _GIVE_UP_SECONDS:
            left = self.look()
            quiet = 0 if left else quiet + 1
            self._ask(left)
            if time.monotonic() > started + self._grace_seconds:
                for process in left:
                    _send(process, signal.SIGKILL)
            time.sleep(_PAUSE_SECONDS)

    def look(self) -> list[Process]:
        """All that belong to the run. They do so from then on, even when the parent they are known by has ended."""
        younger = [each for each in processes() if each.start >= self._since and each.pid != os.getpid()]
        found = {each.pid: each for each in younger if each[:2] in self._known or self._carries_id(each.pid)}
        while fresh := [
            each for each in younger if each.pid not in found and (each.parent in found or each.session in found)
        ]:
            found.update((each.pid, each) for each in fresh)
        self._known.update(each[:2] for each in found.values())
        return list(found.values())

    def _ask(self, left: Iterable[Process]) -> None:
        """Once each: a second SIGTERM tells some servers to drop what they do."""
        for process in left:
            if process[:2] not in self._asked:  # by what stays: its parent changes when that one ends first
                self._asked.add(process[:2])
                _send(process, signal.SIGTERM)

    def _carries_id(self, pid: int) -> bool:
        for place in ("limits", "environ", "maps"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/{place}", "rb") as file:
                if self._id in file.read():
                    return True
        return False


def processes() -> Iterator[Process]:
    """All that run here; not those that have ended and wait to be reaped."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                fields = stat_fields(int(name))
                if fields[0] not in b"ZX":
                    yield Process(int(name), int(fields[19]), int(fields[1]), int(fields[3]))


def _send(process: Process, number: int) -> None:
    """Only while the pid is still the process that was looked at."""
    with contextlib.suppress(OSError, IndexError):
        if int(stat_fields(process.pid)[19]) == process.start:
            os.kill(process.pid, number)
