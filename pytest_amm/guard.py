"""The side of a stop that lies in the tested process: saying what runs, raising into it, undoing what was lowered.

The watchdog sends a signal; its handler raises only while a test or a fixture is on the stack, since an exception
inside pytest's own code would end the session. What the watchdog does is in `watchdog`.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from types import CodeType, FrameType
from typing import Any, NamedTuple

import pytest
from _pytest import fixtures as pytest_fixtures
from _pytest import python as pytest_python

from amm_exporter.units import format_ratio, format_size
from pytest_amm import limits
from pytest_amm.board import RUNG_LIMIT, Board, Seen, Stop
from pytest_amm.failure import OverBudget
from pytest_amm.meter import Meter
from pytest_amm.threads import TestThreads

if sys.platform != "win32":
    from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

SIGNAL = getattr(signal, "SIGRTMIN", 34) + 7
"""A real-time signal: SIGUSR1, SIGALRM and their like belong to the tests."""
_ENDING_SECONDS = 2.0
"""How long a thread of a stopped test may take to end before the next test starts."""

_USER_CODE = frozenset(
    function.__code__
    for function in (
        pytest_python.pytest_pyfunc_call,
        pytest_fixtures.call_fixture_func,
        getattr(pytest_fixtures, "_teardown_yield_fixture", None),
    )
    if function is not None
)


class Watched(NamedTuple):
    """What the watchdog saw and did in one phase; None where it had nothing to see or to do.

    `reaped_bytes` is the peak of a child that has ended, as the kernel tells its parent; 0 when none beat earlier ones.
    """

    seen: Seen | None
    stop: Stop | None
    reaped_bytes: int = 0


class Guard:
    """Arms and disarms one process. Made in the main thread; `close` undoes the handler and the limits."""

    def __init__(
        self,
        board: Board,
        slot: int,
        meter: Meter,
        *,
        budget_bytes: int | None = None,
        hard: bool = False,
        stops: bool = True,
    ) -> None:
        self._board = board
        self._slot = slot
        self.meter = meter
        self._pid = os.getpid()
        self._generation = 0
        self._test_number = 0
        self._base_bytes = 0
        self._limit_bytes = 0
        self._raises = 0
        self._refused = 0
        self._reaped_bytes = getrusage(RUSAGE_CHILDREN).ru_maxrss * 1024 if sys.platform != "win32" else 0
        self._item_code: CodeType | None = None
        self._threads = TestThreads()
        self._evidence = os.memfd_create("amm-evidence") if hasattr(os, "memfd_create") else -1
        self._limits = limits.Limits(budget_bytes if stops else None, hard=hard and stops)
        self._previous = self._listen()
        board.write_answer(slot, 0, 0, self._evidence)
        self._write()

    @classmethod
    def of_outer_run(cls) -> Guard | None:
        """The guard of a pytest run in this process that started the present one, known by the handler it left."""
        owner = getattr(signal.getsignal(SIGNAL), "__self__", None) if sys.platform.startswith("linux") else None
        return owner if isinstance(owner, cls) else None

    def begin(self, item: pytest.Item, base_bytes: int, limit_bytes: int) -> None:
        """A new test, from here on judged above `base_bytes`."""
        self._test_number += 1
        self._base_bytes = base_bytes
        self._limit_bytes = limit_bytes
        self._item_code = None if isinstance(item, pytest.Function) else _runtest_code(item)
        self._threads.begin()
        if self._limits.hard:
            self._limits.tighten(self._board.header().tree_bytes or base_bytes, limit_bytes)
        self._board.write_name(self._slot, item.nodeid)

    def arm(self) -> None:
        self._generation += 1
        self._raises = self._refused = 0
        self._write()

    def disarm(self) -> Watched:
        """The phase is over. Undoes a lowered limit and waits for the threads of a stopped test."""
        generation = self._generation
        self._generation += 1
        self._write()
        was_seen, was_stopped = self._board.noted(self._slot, generation)
        seen = self._board.seen(self._slot) if was_seen else None
        stop = self._board.stop(self._slot) if was_stopped else None
        reaped_bytes = self._reaped(seen)
        if stop is not None and stop.rungs:
            self._settle(stop)
        return Watched(seen, stop, reaped_bytes)

    def evidence(self) -> str:
        """The stacks that faulthandler took at the last signal."""
        if self._evidence < 0:
            return ""
        size = os.lseek(self._evidence, 0, os.SEEK_END)
        return os.pread(self._evidence, 8192, max(0, size - 8192)).decode("utf-8", "replace")

    def end(self) -> None:
        """The test is over: a limit that was set for it is undone."""
        if self._limits.hard:
            self._limits.loosen()

    @property
    def refuses_bytes(self) -> int | None:
        """The growth that a limit set beforehand allows the present test; None where none is set."""
        return self._limits.allowed_bytes

    @property
    def host_level(self) -> int:
        """0 fine, 1 warn and clean up, 2 end the run."""
        return self._board.host_level()

    @property
    def host_words(self) -> str:
        header = self._board.header()
        return (
            f"{format_ratio(header.host_ppm / 1e6)} of the memory of this machine or container in use, "
            f"every task stood still for memory {format_ratio(header.stall_ppm / 1e6)} of the last 10 s"
        )

    def close(self) -> None:
        self._limits.close()
        if self._previous is not None:
            faulthandler.unregister(SIGNAL)
            signal.signal(SIGNAL, self._previous)
            self._previous = None
        if self._evidence >= 0:
            os.close(self._evidence)
            self._evidence = -1

    def _listen(self) -> Any:
        """The previous handler, or None where signals cannot be used: pytest runs in a thread, or not on Linux."""
        if threading.current_thread() is not threading.main_thread() or not sys.platform.startswith("linux"):
            return None
        previous = signal.signal(SIGNAL, self._on_signal)
        # chained: first the stacks, also while C code holds the GIL, then Python's own note of the signal
        faulthandler.register(SIGNAL, file=self._evidence, all_threads=True, chain=True)
        return previous if previous is not None else signal.SIG_DFL

    def _reaped(self, seen: Seen | None) -> int:
        """The kernel keeps the largest peak of all children that were waited for (getrusage(2), RUSAGE_CHILDREN).

        A child inherits its parent's mark at exec, so only a value above the parent's own says anything.
        """
        most_bytes = getrusage(RUSAGE_CHILDREN).ru_maxrss * 1024
        if most_bytes <= self._reaped_bytes:
            return 0
        self._reaped_bytes = most_bytes
        if most_bytes <= self.meter.session_peak_bytes or most_bytes <= getrusage(RUSAGE_SELF).ru_maxrss * 1024:
            return 0
        return most_bytes - (seen.inherited_bytes if seen else 0)

    def _write(self) -> None:
        owner = (self._pid, self._generation, self._base_bytes, self._limit_bytes, self._test_number)
        self._board.write_owner(self._slot, owner)

    def _on_signal(self, _number: int, frame: FrameType | None) -> None:
        __tracebackhide__ = True  # pytest then shows the line of the test that was interrupted
        stop = self._board.stop(self._slot)
        if not self._generation & 1 or stop.generation != self._generation or not self._in_user_code(frame):
            return
        if stop.rungs & RUNG_LIMIT and isinstance(sys.exc_info()[1], MemoryError) and self._refused < 3:
            self._refused += 1  # a MemoryError is on its way already: a second exception would hit its `finally` blocks
            return
        self._raises += 1
        self._board.write_answer(self._slot, self._generation, self._raises, self._evidence)
        self._threads.interrupt()
        raise OverBudget(stopped_text(stop))

    def _in_user_code(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code in _USER_CODE or frame.f_code is self._item_code:
                return True
            frame = frame.f_back
        return False

    def _settle(self, stop: Stop) -> None:
        """Threads first, under the lowered limit; then the limit is what it was."""
        self._threads.wait(_ENDING_SECONDS)
        if stop.rungs & RUNG_LIMIT:
            self._limits.restore_address_space()


def stopped_text(stop: Stop) -> str:
    """What the exception says that ends the test."""
    what = {"session": "the process tree reached", "test": "the test grew by", "emergency": "the machine had in use"}
    return f"stopped: {what[stop.scope]} {format_size(stop.used_bytes)}, the budget is {format_size(stop.budget_bytes)}"


def _runtest_code(item: pytest.Item) -> CodeType | None:
    return getattr(type(item).runtest, "__code__", None)
