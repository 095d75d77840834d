"""What a signal handler raised inside a gc callback, raised again where it would have been without the callback.

A signal that arrives during a collection, Ctrl-C above all, is handled in the first Python code that runs after it: a
callback of gc, out of which no exception gets (CPython prints it as ignored). The program would go on.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Callable
from types import CodeType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sys import UnraisableHookArgs


class LateErrors:
    """From `start()` to `stop()`, for callbacks with this code. Unraisable exceptions of others go where they went."""

    def __init__(self, code: CodeType) -> None:
        self._code = code
        self._before: Callable[[UnraisableHookArgs], Any] | None = None
        self._hook = self._on_unraisable  # one for good, so that it is known again

    def start(self) -> None:
        if self._before is None and hasattr(signal, "pthread_kill"):
            self._before, sys.unraisablehook = sys.unraisablehook, self._hook

    def stop(self) -> None:
        """Leaves a hook that somebody else has set since, which then may call this one: it hands on."""
        if sys.unraisablehook is self._hook and self._before is not None:
            sys.unraisablehook, self._before = self._before, None

    def _on_unraisable(self, unraisable: UnraisableHookArgs) -> None:
        error, traceback = unraisable.exc_value, unraisable.exc_traceback
        ours = traceback is not None and traceback.tb_frame.f_code is self._code
        if ours and error is not None and threading.current_thread() is threading.main_thread():
            _raise_again(error.with_traceback(traceback.tb_next if traceback else None))
        else:
            (self._before or sys.__unraisablehook__)(unraisable)


def _raise_again(error: BaseException) -> None:
    """In the main thread, by a signal, which also ends a wait that it has meanwhile begun; from another thread, since
    here it would be lost like the first time."""
    before = signal.getsignal(signal.SIGINT)

    def late(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        raise error

    if before is not None:  # None: set by C code, and not to be set again from here
        signal.signal(signal.SIGINT, late)
        _thread.start_new_thread(signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
