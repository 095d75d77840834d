"""Counts the allocations that a limit refused, also those whose MemoryError the test caught: it would pass otherwise.

What raises `MemoryError` by itself, as a test of error handling does, is not counted. Free from Python 3.12 on
(sys.monitoring tells raised exceptions alone); before, calls are traced, unless somebody else traces them already:
benchmarks/pytest_refusals.py shows what that costs.
"""

from __future__ import annotations

import dis
import re
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType, TracebackType
from typing import Any

from pytest_amm.failure import OverBudget

ENOUGH = 100
"""A test that catches so many and goes on never ends, since it never grows: it is ended here, and fails anyway."""
_RAISE_STATEMENT = dis.opmap["RAISE_VARARGS"]
_TOOL_IDS = (4, 3, 5)  # the others have a name: debugger, coverage, profiler, optimizer
_IN_OTHER_WORDS = re.compile(
    r"malloc fail|(out of|insufficient|not enough) memory|(can ?not|can't|unable to|failed to|could not) allocate", re.I
)
"""As C libraries say it: OpenSSL "malloc failure", zlib "insufficient memory", Linux "Cannot allocate memory"."""


def refused(error: BaseException | None) -> bool:
    """Whether the error is of an allocation that failed, and none that the code raised by itself."""
    traceback = error.__traceback__ if error is not None and _tells_of_memory(error) else None
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and not _raises(traceback.tb_frame.f_code, traceback.tb_lasti)


def _tells_of_memory(error: BaseException) -> bool:
    """By its arguments: how a test's own error turns into text is not to be run here."""
    said = [part for part in error.args if isinstance(part, str)] if isinstance(error, Exception) else []
    return isinstance(error, MemoryError) or any(_IN_OTHER_WORDS.search(part) for part in said)


def _raises(code: CodeType, offset: int) -> bool:
    return code.co_code[offset] == _RAISE_STATEMENT


class Refusals:
    """Counts between `start` and `stop`, in all threads (before 3.12: in this one and those it starts)."""

    def __init__(self) -> None:
        self.count = 0
        self.where = ""
        """File and line of the first."""
        self._counts = False
        self._undo: Callable[[], None] | None = None

    def start(self) -> bool:
        """False where somebody else traces: nothing is counted then."""
        self.count, self.where = 0, ""
        self._counts = True
        if self._undo is None:
            self._undo = _listen(self._note)
        return self._undo is not None

    def stop(self) -> None:
        self._counts = False
        if sys.version_info < (3, 12):  # later it costs less to go on than to start again
            self.close()

    def close(self) -> None:
        if self._undo is not None:
            self._undo()
            self._undo = None

    def _note(self, kind: type, traceback: TracebackType | None, code: CodeType, offset: int) -> None:
        """An error was raised in a frame, or passes it on its way: then the traceback has more than that frame."""
        raised_here = traceback is not None and traceback.tb_next is None
        if not (self._counts and raised_here and issubclass(kind, MemoryError)):
            return
        if not _raises(code, offset):
            self.count += 1
            self.where = self.where or f"{code.co_filename}:{traceback.tb_lineno if traceback else 0}"
            if self.count >= ENOUGH:
                raise OverBudget(f"refused {self.count} allocations, and went on")


_Note = Callable[[type, "TracebackType | None", CodeType, int], None]

if sys.version_info >= (3, 12):

    def _listen(note: _Note) -> Callable[[], None] | None:
        monitoring = sys.monitoring
        tool = next((each for each in _TOOL_IDS if monitoring.get_tool(each) is None), None)
        if tool is None:
            return None
        event = monitoring.events.RAISE

        def raised(code: CodeType, offset: int, error: BaseException) -> None:
            if isinstance(error, MemoryError):
                note(type(error), error.__traceback__, code, offset)

        def undo() -> None:
            monitoring.set_events(tool, 0)
            monitoring.register_callback(tool, event, None)
            monitoring.free_tool_id(tool)

        monitoring.use_tool_id(tool, "amm")
        monitoring.register_callback(tool, event, raised)
        monitoring.set_events(tool, event)
        return undo

else:

    def _listen(note: _Note) -> Callable[[], None] | None:
        if sys.gettrace() is not None:
            return None

        def called(frame: FrameType, _event: str, _value: Any) -> Any:
            frame.f_trace_lines = False
            return passed

        def passed(frame: FrameType, event: str, value: Any) -> Any:
            if event == "exception":
                kind, _, traceback = value
                note(kind, traceback, frame.f_code, frame.f_lasti)
            return passed

        def undo() -> None:
            if sys.gettrace() is called:  # else the test has set its own
                sys.settrace(None)
            threading.settrace(None)

        threading.settrace(called)
        sys.settrace(called)
        return undo
