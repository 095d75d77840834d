"""Gives back what a stopped or failed test still holds: pytest keeps its traceback, and with it every variable."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import inspect
import os
from collections.abc import Iterator
from types import FrameType, TracebackType

import pytest
from _pytest import python as pytest_python

_PYTEST = os.path.dirname(pytest_python.__file__)
"""Its closures hold nothing of the test, and a failure without their frames would have none."""


def give_back(config: pytest.Config, excinfo: pytest.ExceptionInfo[BaseException] | None) -> None:
    """Empty the frames of the error and return free memory to the system; not where a debugger wants to see them.

    frame.clear() alone does not free the variables on 3.10 to 3.12 once somebody has read f_locals (pytest does, to
    show the failure): the dict of that snapshot lives on the frame until it is read again. Nor does it free what a
    function has in its closure, from 3.11 on: those frames have to go.
    """
    if config.getoption("usepdb", False):
        return
    if excinfo is not None:
        for frame in frames(excinfo.value):
            with contextlib.suppress(RuntimeError):  # still running: a frame of pytest itself
                frame.clear()
                local = frame.f_locals
                if frame.f_code.co_flags & inspect.CO_OPTIMIZED and isinstance(local, dict):
                    local.clear()  # a function's snapshot: what exec() put there stays otherwise
        _cut_at_closures(excinfo)
    gc.collect()
    trim()


def _cut_at_closures(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """Take the frames of functions with a closure out of the tracebacks, with those below, which lead back to them.

    A frame keeps its function, and that its closure. Its report is made; whoever still looks at the error finds the
    lines of pytest, and those of the test down to the first such function.
    """
    for error in errors(excinfo.value):
        if error.__traceback__ is not None and _has_closure(error.__traceback__):
            error.__traceback__ = None
        each = error.__traceback__
        while each is not None and each.tb_next is not None:
            if _has_closure(each.tb_next):
                each.tb_next = None
            each = each.tb_next
    excinfo.traceback = type(excinfo.traceback)(excinfo.tb)  # the frames that pytest has told it of


def _has_closure(traceback: TracebackType) -> bool:
    code = traceback.tb_frame.f_code
    return bool(code.co_freevars) and not code.co_filename.startswith(_PYTEST)


def trim() -> None:
    """Return the free heap to the system (malloc_trim(3)); nothing where the C library has no such call."""
    call = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if call is not None:
        call(0)


def frames(error: BaseException) -> Iterator[FrameType]:
    """All frames of an error, its causes and contexts."""
    for each in errors(error):
        traceback = each.__traceback__
        while traceback is not None:
            yield traceback.tb_frame
            traceback = traceback.tb_next


def errors(error: BaseException) -> Iterator[BaseException]:
    """The error, its causes and contexts."""
    todo, seen = [error], set()
    while todo:
        each = todo.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        todo += [other for other in (each.__cause__, each.__context__) if other is not None]
