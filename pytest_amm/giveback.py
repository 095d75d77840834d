"""Gives back what a stopped or failed test still holds: pytest keeps its traceback, and with it every variable."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import inspect
from collections.abc import Generator, Iterator
from types import FrameType, TracebackType

import pytest


def give_back(config: pytest.Config, error: BaseException | None) -> None:
    """Empty the frames of the error and return free memory to the system; not where a debugger wants to see them.

    frame.clear() alone does not free the variables on 3.10 to 3.12 once somebody has read f_locals (pytest does, to
    show the failure): the dict of that snapshot lives on the frame until it is read again. Nor does it free what a
    function has in its closure, from 3.11 on: see `_Afterwards`.
    """
    if config.getoption("usepdb", False):
        return
    if error is not None:
        for frame in frames(error):
            with contextlib.suppress(RuntimeError):  # still running: a frame of pytest itself
                frame.clear()
                local = frame.f_locals
                if frame.f_code.co_flags & inspect.CO_OPTIMIZED and isinstance(local, dict):
                    local.clear()  # a function's snapshot: what exec() put there stays otherwise
        _Afterwards.see_to(config.pluginmanager)
    gc.collect()
    trim()


class _Afterwards:
    """Collects once more, before the next phase: a frame keeps its function, and that what is in its closure.

    They are in a cycle then, of the failure and the frame of pytest that made the report of it.
    """

    def __init__(self, plugins: pytest.PytestPluginManager) -> None:
        self._plugins = plugins

    @classmethod
    def see_to(cls, plugins: pytest.PytestPluginManager) -> None:
        if not plugins.has_plugin(cls.__name__):
            plugins.register(cls(plugins), cls.__name__)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Generator[None, object, object]:
        self._collect()
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Generator[None, object, object]:
        self._collect()
        return (yield)

    def _collect(self) -> None:
        self._plugins.unregister(self)
        gc.collect()
        trim()


def trim() -> None:
    """Return the free heap to the system (malloc_trim(3)); nothing where the C library has no such call."""
    call = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if call is not None:
        call(0)


def frames(error: BaseException) -> Iterator[FrameType]:
    """All frames of an error, its causes and contexts."""
    todo, seen = [error], set()
    while todo:
        each = todo.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield from _of_traceback(each.__traceback__)
        todo += [other for other in (each.__cause__, each.__context__) if other is not None]


def _of_traceback(traceback: TracebackType | None) -> Iterator[FrameType]:
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next
