"""The side of the watchdog's sight that lies in the tested process: says which test runs, hears what its children took.

Nothing in the process is changed for it, and it costs a few microseconds a test. Stopping tests is in `guard`.
"""

from __future__ import annotations

import json
import sys
from os import getpid
from typing import TYPE_CHECKING, NamedTuple

import pytest

from pytest_amm.board import GENERATION, SEEN, STOPPED, Board, Seen, Stop
from pytest_amm.meter import Meter

if TYPE_CHECKING:
    from pytest_amm.evidence import Evidence

if sys.platform != "win32":
    from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

_SAME_RATIO = 15 / 16
"""A child's mark as the watchdog read it last, against what the kernel tells of it at its end: counted in batches of
pages, and it goes on after the last look."""


class Watched(NamedTuple):
    """What the watchdog saw and did in one phase; None where it had nothing to see or to do.

    `reaped_bytes` is the peak of a child that has ended, as the kernel tells its parent; 0 when none beat earlier ones.
    """

    seen: Seen | None
    stop: Stop | None
    reaped_bytes: int

    def peaks(self, start_bytes: int, peak_bytes: int) -> tuple[int, int, int]:
        """Of the tree, of the children, and what of the former was there before the test, where the process itself
        began with `start_bytes` and had `peak_bytes`."""
        tree_bytes, children_bytes, earlier_bytes = peak_bytes, 0, 0
        if self.seen is not None:
            children_bytes = self.seen.children_peak_bytes
            if self.seen.tree_peak_bytes > peak_bytes:
                tree_bytes, earlier_bytes = self.seen.tree_peak_bytes, self.seen.earlier_bytes
        if self.reaped_bytes > children_bytes:  # it had its peak and ended between two looks
            children_bytes = self.reaped_bytes
            if start_bytes + children_bytes > tree_bytes:
                tree_bytes, earlier_bytes = start_bytes + children_bytes, 0
        return tree_bytes, children_bytes, earlier_bytes


class Watch:
    """Arms and disarms one process: a generation of the board is a phase of a test, an odd one is under way."""

    refuses_bytes: int | None = None
    """The growth that a limit set beforehand allows the present test; None where none is set."""
    refused_at = ""
    """Where an allocation was refused in the last phase, also if the MemoryError was caught; empty if none was."""

    def __init__(self, board: Board, slot: int, meter: Meter) -> None:
        self._board = board
        self._slot = slot
        self._meter = meter
        self._generation = 0
        self._test_number = 0
        self._reaped_bytes = getrusage(RUSAGE_CHILDREN).ru_maxrss * 1024 if sys.platform != "win32" else 0
        self._pid = getpid()
        self._say_owner, self._words = board.line(slot)
        # It goes on where another process of this slot ended: what is told of that one is not of ours.
        generation = self._words[GENERATION]
        self._say_owner(self._pid, generation + (generation & 1), 0, 0, 0)

    def begin(self, item: pytest.Item, base_bytes: int, limit_bytes: int) -> None:
        """A new test, from here on judged above `base_bytes`.

        It may be in a child that another plugin forked (pytest-forked), or after tests that were: what is told of it
        must be told of this process, and not taken for what was told of them.
        """
        self._pid = getpid()
        generation = self._words[GENERATION]
        self._generation = generation = generation + (generation & 1)
        self._test_number += 1
        self._say_owner(self._pid, generation, base_bytes, limit_bytes, self._test_number)
        self._reaped_bytes = getrusage(RUSAGE_CHILDREN).ru_maxrss * 1024  # isolated tests are no children of this one
        self._board.write_name(self._slot, item.nodeid)

    def arm(self) -> None:
        self._words[GENERATION] = self._generation = self._generation + 1

    def disarm(self) -> Watched | None:
        """The phase is over. None when only the process itself ran in it, as in most: that has to be quick."""
        generation, words = self._generation, self._words
        words[GENERATION] = self._generation = generation + 1
        reaped_bytes = getrusage(RUSAGE_CHILDREN).ru_maxrss * 1024
        if reaped_bytes <= self._reaped_bytes and generation != words[SEEN] and generation != words[STOPPED]:
            return None
        return self._watched(generation, reaped_bytes)

    def _watched(self, generation: int, reaped_bytes: int) -> Watched:
        seen = self._board.seen(self._slot) if generation == self._words[SEEN] else None
        stop = self._board.stop(self._slot) if generation == self._words[STOPPED] else None
        return Watched(seen, stop, self._reaped(reaped_bytes, seen))

    def evidence(self) -> list[Evidence]:
        """What was found out about the phase that is just over."""
        from pytest_amm.evidence import from_text

        return from_text(self._board.evidence(self._slot, self._generation - 1))

    def end(self) -> None:
        """The test is over."""

    def close(self) -> None:
        """The run is over."""

    @property
    def host_level(self) -> int:
        """0 fine, 1 warn and clean up, 2 end the run."""
        return self._board.host_level()

    @property
    def host_words(self) -> str:
        from amm_exporter.units import format_ratio

        header = self._board.header()
        words = f"{format_ratio(header.host_ppm / 1e6)} of the memory of this machine or container in use"
        emergency_ratio = json.loads(self._board.host_settings()).get("emergency_ratio")
        if emergency_ratio is not None and header.host_ppm >= emergency_ratio * 1e6:
            return words
        return f"{words}, every task stood still for memory {format_ratio(header.stall_ppm / 1e6)} of the last 10 s"

    def _reaped(self, most_bytes: int, seen: Seen | None) -> int:
        """The kernel keeps the largest peak of all children that were waited for (getrusage(2), RUSAGE_CHILDREN).

        A child inherits its parent's mark at exec, so only a value above the parent's own says anything.
        """
        if most_bytes <= self._reaped_bytes:
            return 0
        self._reaped_bytes = most_bytes
        if most_bytes * _SAME_RATIO <= self._earlier_mark_bytes():
            return 0
        if most_bytes <= self._meter.session_peak_bytes or most_bytes <= getrusage(RUSAGE_SELF).ru_maxrss * 1024:
            return 0
        return most_bytes - (seen.inherited_bytes if seen else 0)

    def _earlier_mark_bytes(self) -> int:
        """The largest mark of the children that were there before this test: one that ends in it, as a server of the
        session does in the last, had its peak at any time."""
        last = self._board.seen(self._slot)
        return last.earlier_mark_bytes if last.test_number == self._test_number else last.mark_bytes
