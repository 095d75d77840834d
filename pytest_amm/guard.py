"""The side of a stop that lies in the tested process: saying what runs, raising into it, undoing what was lowered.

The watchdog sends a signal; its handler raises only while a test or a fixture is on the stack, since an exception
inside pytest's own code would end the session. What the watchdog does is in `watchdog`.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import threading
from types import CodeType, FrameType
from typing import Any

import pytest
from _pytest import fixtures as pytest_fixtures
from _pytest import python as pytest_python
from _pytest import runner as pytest_runner

from amm_exporter.probes.procfs import out_of_the_way
from amm_exporter.units import format_size
from pytest_amm import limits
from pytest_amm.board import DUMP_SIGNAL, GENERATION, RUNG_LIMIT, SIGNAL, STOPPED, Board, Stop
from pytest_amm.evidence import Evidence, mappings, stacks
from pytest_amm.failure import OverBudget
from pytest_amm.meter import Meter
from pytest_amm.refusals import Refusals
from pytest_amm.threads import TestThreads
from pytest_amm.unnamed import unnamed_file
from pytest_amm.watch import Watch, Watched

_ENDING_SECONDS = 2.0
"""How long a thread of a stopped test may take to end before the next test starts."""

_USER_CODE = frozenset(
    function.__code__
    for function in (
        pytest_fixtures.call_fixture_func,
        getattr(pytest_fixtures, "_teardown_yield_fixture", None),
        getattr(pytest_python, "importtestmodule", None) or getattr(pytest_python.Module, "_importtestmodule", None),
    )
    if function is not None
)
"""What pytest calls a fixture by, or imports a test module. A test is called by whoever has the hook for it: anyio and
others run a coroutine in theirs."""
_FINALIZES = frozenset(
    function.__code__ for function in (pytest_fixtures.FixtureDef.finish, pytest_runner.SetupState.teardown_exact)
)
"""What calls a finalizer: of pytest's own there are some among them, which are not interrupted."""
_PYTEST = os.path.dirname(pytest_python.__file__)


class Guard(Watch):
    """A watch that can stop the test. Made in the main thread; `close` undoes the handler and the limits."""

    hard = False
    """Whether a test's allocations are refused beforehand from its budget on."""

    def __init__(
        self,
        board: Board,
        slot: int,
        meter: Meter,
        *,
        budget_bytes: int | None = None,
        stops: bool = True,
    ) -> None:
        super().__init__(board, slot, meter)
        self._counted = self._raises = self._refused = 0
        self._mapped: list[Evidence] | None = None
        self._testifies = False
        self._item_code: CodeType | None = None
        self._emergency = ""
        self._threads = TestThreads(self._is_stopped)
        self._evidence = out_of_the_way(unnamed_file("amm-evidence"))
        self._limits = limits.Limits(budget_bytes if stops else None, hard=self.hard and stops)
        self._previous = self._listen()
        board.write_answer(slot, 0, 0, self._evidence)

    def begin(self, item: pytest.Item, base_bytes: int, limit_bytes: int) -> None:
        self._item_code = None if type(item).runtest is pytest.Function.runtest else _runtest_code(item)
        super().begin(item, base_bytes, limit_bytes)

    def arm(self) -> None:
        self._threads.begin()
        super().arm()

    def arm_collector(self, collector: pytest.Collector) -> None:
        """As `begin` and `arm`, for the import of test files: no limit is set beforehand for these."""
        self._item_code = None
        super().begin(collector, self._meter.rss_bytes(), 0)  # type: ignore[arg-type]  # all it asks is the nodeid
        self._threads.begin()
        super().arm()

    def disarm_collector(self) -> Watched | None:
        return super().disarm()

    def _watched(self, generation: int, reaped_bytes: int) -> Watched:
        """Undoes a lowered limit and waits for the threads of a stopped test."""
        watched = super()._watched(generation, reaped_bytes)
        if watched.stop is not None and watched.stop.rungs:
            self._settle(watched.stop)
            if watched.stop.scope == "emergency":
                self._emergency = super().host_words
        return watched

    def evidence(self) -> list[Evidence]:
        """Where the watchdog took stacks or mappings, while C code held on, these tell and not the later ones."""
        found, own = super().evidence(), [*stacks(self._dump()), *(self._mapped or ())]
        self._mapped = None
        told = {each.label for each in found}
        return found + [each for each in own if each.label not in told]

    def _dump(self) -> str:
        """The stacks that were written down in this phase, then none."""
        try:
            raw = os.pread(self._evidence, 1 << 16, 0)
            os.ftruncate(self._evidence, 0)
            os.lseek(self._evidence, 0, os.SEEK_SET)
        except OSError:  # a test has closed all descriptors
            return ""
        return raw.decode("utf-8", "replace")

    @property
    def refuses_bytes(self) -> int | None:  # type: ignore[override]  # read-only here
        return self._limits.allowed_bytes

    @property
    def host_level(self) -> int:
        """An emergency ends the run also where the stopped test has given its memory back."""
        return 2 if self._emergency else super().host_level

    @property
    def host_words(self) -> str:
        return self._emergency or super().host_words

    def close(self) -> None:
        self._limits.close()
        self._threads.close()
        if self._previous is not None:
            faulthandler.unregister(DUMP_SIGNAL)
            signal.signal(SIGNAL, self._previous)
            self._previous = None
        with contextlib.suppress(OSError):  # a test has closed it
            os.close(self._evidence)
        self._evidence = -1

    def _listen(self) -> Any:
        """The previous handler, or None where signals cannot be used: pytest runs in a thread, or not on Linux."""
        if threading.current_thread() is not threading.main_thread() or not sys.platform.startswith("linux"):
            return None
        previous = signal.signal(SIGNAL, self._on_signal)
        faulthandler.register(DUMP_SIGNAL, file=self._evidence, all_threads=True)
        return previous if previous is not None else signal.SIG_DFL

    def _on_signal(self, _number: int, frame: FrameType | None) -> None:
        __tracebackhide__ = True  # pytest then shows the line of the test that was interrupted
        stop = self._board.stop(self._slot)
        if not self._generation & 1 or stop.generation != self._generation or not self._in_user_code(frame):
            return
        if self._testifies:  # the exception is on its way
            return
        if self._counted != self._generation:
            self._counted, self._raises, self._refused = self._generation, 0, 0
        if stop.rungs & RUNG_LIMIT and isinstance(sys.exc_info()[1], MemoryError) and self._refused < 3:
            self._refused += 1  # a MemoryError is on its way already: a second exception would hit its `finally` blocks
            return
        self._raises += 1
        self._board.write_answer(self._slot, self._generation, self._raises, self._evidence)
        self._threads.interrupt()
        self._testify()
        raise OverBudget(stopped_text(stop))

    def _testify(self) -> None:
        """What the process does, and what it has while it still has it."""
        if self._mapped is None:
            self._testifies = True
            faulthandler.dump_traceback(self._evidence, all_threads=True)  # no other thread moves: this one has the GIL
            with contextlib.suppress(Exception):  # it may get no memory any more, and a test may have replaced `open`
                self._mapped = mappings(self._pid)
            self._testifies = False

    def _in_user_code(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code is self._item_code or _is_user_code(frame):
                return True
            frame = frame.f_back
        return False

    def _is_stopped(self) -> bool:
        """Whether the phase that is under way, or just over, is one that the watchdog ends."""
        return self._words[STOPPED] == (self._generation - 1) | 1

    def _settle(self, stop: Stop) -> None:
        """Threads first, watched as their test was: one may be in a C call that grows. Then the limit is restored."""
        self._words[GENERATION] = self._generation - 1
        self._threads.wait(_ENDING_SECONDS)
        self._words[GENERATION] = self._generation
        rungs = stop.rungs | self._board.stop(self._slot).rungs
        if rungs & RUNG_LIMIT:
            self._limits.restore()
        if self._previous is not None and signal.getsignal(SIGNAL) != self._on_signal:
            signal.signal(SIGNAL, self._on_signal)  # the test has set it anew, and could be ended by the limit only


class HardGuard(Guard):
    """A guard under whose limits no test can pass its budget: the allocation that would is refused."""

    hard = True

    def __init__(
        self, board: Board, slot: int, meter: Meter, *, budget_bytes: int | None = None, stops: bool = True
    ) -> None:
        self._refusals = Refusals()
        super().__init__(board, slot, meter, budget_bytes=budget_bytes, stops=stops)

    def begin(self, item: pytest.Item, base_bytes: int, limit_bytes: int) -> None:
        self._limits.tighten(self._board.header().tree_bytes or base_bytes, limit_bytes)
        super().begin(item, base_bytes, limit_bytes)

    def arm(self) -> None:
        if self._limits.allowed_bytes is not None and not self._refusals.start():
            self._board.hide_refusals()
        super().arm()

    def disarm(self) -> Watched | None:
        self._refusals.stop()
        return super().disarm()

    def end(self) -> None:
        """The test is over: the limit that was set for it is undone."""
        self._limits.loosen()

    @property
    def refused_at(self) -> str:  # type: ignore[override]  # read-only here
        return self._refusals.where

    def close(self) -> None:
        super().close()
        self._refusals.close()


def stopped_text(stop: Stop) -> str:
    """What the exception says that ends the test."""
    what = {"session": "the process tree reached", "test": "the test grew by", "emergency": "the machine had in use"}
    if stop.scope == "emergency" and stop.used_bytes < stop.budget_bytes:
        return f"stopped: every task stood still for memory, with {format_size(stop.used_bytes)} in use"
    return f"stopped: {what[stop.scope]} {format_size(stop.used_bytes)}, the budget is {format_size(stop.budget_bytes)}"


def _is_user_code(frame: FrameType) -> bool:
    code, caller = frame.f_code, frame.f_back
    if code in _USER_CODE or code.co_name == "pytest_pyfunc_call":
        return True
    if code.co_name.startswith("pytest_") and os.path.basename(code.co_filename) == "conftest.py":
        return code.co_name != "pytest_runtest_protocol"  # this one may run pytest's own code
    finalizes = caller is not None and caller.f_code in _FINALIZES
    return finalizes and not code.co_filename.startswith(_PYTEST)


def _runtest_code(item: pytest.Item) -> CodeType | None:
    return getattr(type(item).runtest, "__code__", None)
