"""Ends the threads that a stopped test had started: it would fail, and its threads would go on allocating."""

from __future__ import annotations

import ctypes
import threading
import time

AGAIN_SECONDS = 0.5
"""A thread that swallowed the exception gets it again after this; sooner would hit its own clean-up."""


_MAIN = frozenset((threading.main_thread(),))


class TestThreads:
    """The threads that were not there when the test began."""

    __test__ = False

    def __init__(self) -> None:
        self._before: frozenset[threading.Thread] = frozenset()
        self._interrupted: dict[threading.Thread, float] = {}
        self._hook = threading.excepthook

    def begin(self) -> None:
        alone = threading.active_count() == 1  # as nearly always; three times as quick to know
        self._before = _MAIN if alone else frozenset(threading.enumerate())

    def interrupt(self) -> None:
        """Raise SystemExit in each of them: it ends a thread without a word."""
        now = time.monotonic()
        if not self._interrupted:
            self._hook, threading.excepthook = threading.excepthook, self._silent
        for thread in self._own():
            if thread.ident is None or now - self._interrupted.get(thread, 0.0) < AGAIN_SECONDS:
                continue
            self._interrupted[thread] = now
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))

    def wait(self, seconds: float) -> None:
        """Wait until they have ended, at most so long."""
        deadline = time.monotonic() + seconds
        while (threads := self._own()) and time.monotonic() < deadline:
            self.interrupt()
            threads[0].join(AGAIN_SECONDS / 10)
        if self._interrupted:
            threading.excepthook = self._hook
            self._interrupted.clear()

    def _own(self) -> list[threading.Thread]:
        current = threading.current_thread()
        return [thread for thread in threading.enumerate() if thread not in self._before and thread is not current]

    def _silent(self, arguments: threading.ExceptHookArgs) -> None:
        """pytest keeps what a thread raised, with all its variables, and warns: not for what we raised ourselves."""
        if arguments.thread not in self._interrupted or not issubclass(arguments.exc_type, (SystemExit, MemoryError)):
            self._hook(arguments)
