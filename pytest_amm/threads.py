"""Ends the threads that a stopped test had started: it would fail, and its threads would go on allocating."""

from __future__ import annotations

import _thread
import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

AGAIN_SECONDS = 0.5
"""A thread that swallowed the exception gets it again after this; sooner would hit its own clean-up."""

_LIBRARY = os.path.dirname(threading.__file__)
_PACKAGES = ("site-packages", "dist-packages")
_WAITING = tuple(os.path.join(_LIBRARY, name) for name in ("threading.py", "queue.py", "selectors.py", "socket.py"))
_MAIN = frozenset((threading.main_thread(),))


class TestThreads:
    """The threads that were not there when the phase began, as far as they run code of the test.

    Those that wait are left alone: they do not grow, and may be pools and servers that later tests need. So are those
    that run the standard library only: a multiprocessing.Pool whose own threads have ended can never be closed.
    """

    __test__ = False

    def __init__(self, stopped: Callable[[], bool]) -> None:
        self._stopped = stopped
        """Whether the phase is being stopped, or just was."""
        self._before: frozenset[threading.Thread] = frozenset()
        self._interrupted: dict[threading.Thread, float] = {}
        self._hook: partial[Any] | None = None

    def begin(self) -> None:
        if threading.excepthook is not self._hook:
            self._listen()
        alone = threading.active_count() == 1  # as nearly always; three times as quick to know
        self._before = _MAIN if alone else frozenset(threading.enumerate())

    def interrupt(self) -> None:
        """Raise SystemExit in each of them: it ends a thread without a word."""
        if threading.excepthook is not self._hook:
            self._listen()
        now = time.monotonic()
        for thread in self._own():
            if now - self._interrupted.get(thread, -AGAIN_SECONDS) < AGAIN_SECONDS:
                continue
            self._interrupted[thread] = now
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))

    def wait(self, seconds: float) -> None:
        """Wait until they have ended, at most so long.

        By no clock, for a test may have stopped it; nor by `join`: up to Python 3.12 a thread whose join was
        interrupted says that it has ended (gh-90882).
        """
        pause_seconds = AGAIN_SECONDS / 100
        never = _thread.allocate_lock()
        never.acquire()
        for _ in range(round(seconds / pause_seconds)):
            if not self._own() and not self._ending():
                break
            self.interrupt()
            never.acquire(timeout=pause_seconds)
        self._interrupted.clear()

    def close(self) -> None:
        self._stopped = lambda: False  # who has taken over the hook may still call it
        if self._hook is not None and threading.excepthook is self._hook:
            (threading.excepthook,) = self._hook.args

    def _listen(self) -> None:
        """Before whoever has the hook now: a test may have set it anew, and pytest before 8.4 does in each phase."""
        hook = threading.excepthook
        if isinstance(hook, partial) and hook.func == self._on_exception:  # an earlier one of ours, put back
            self._hook = hook
        else:
            threading.excepthook = self._hook = partial(self._on_exception, hook)

    def _own(self) -> list[threading.Thread]:
        frames = sys._current_frames()
        frames.pop(threading.get_ident())
        others = (thread for thread in threading.enumerate() if thread not in self._before)
        return [each for each in others if (frame := frames.get(each.ident or 0)) is not None and _may_grow(frame)]

    def _ending(self) -> bool:
        """Whether one of them is being ended: it is past its own code, and pytest is not to hear of it later."""
        frames = sys._current_frames()
        codes = (frames[each.ident].f_code for each in self._interrupted if each.ident in frames)
        return any(code.co_filename == threading.__file__ and code.co_name.startswith("_bootstrap") for code in codes)

    def _on_exception(
        self, behind: Callable[[threading.ExceptHookArgs], object], arguments: threading.ExceptHookArgs
    ) -> None:
        """pytest keeps what a thread raised, with all its variables, and warns: not for what ending it raised.

        That may be a MemoryError before anything is interrupted: the watchdog has lowered the limit by then.
        """
        ends = issubclass(arguments.exc_type, (SystemExit, MemoryError)) and arguments.thread not in self._before
        if not (ends and self._stopped()):
            behind(arguments)


def _may_grow(frame: FrameType) -> bool:
    """Whether it runs code that is not of the standard library, and does not wait in that."""
    if frame.f_code.co_filename in _WAITING:
        return False
    each: FrameType | None = frame
    while each is not None:
        path = each.f_code.co_filename
        if not path.startswith((_LIBRARY, "<frozen ")) or any(name in path for name in _PACKAGES):
            return True
        each = each.f_back
    return False
