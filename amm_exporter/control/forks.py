"""What a forked child does for the governors that ran in its parent: it starts them anew."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Forkable(Protocol):
    def after_fork_in_child(self) -> None: ...


# The interpreter keeps fork handlers for ever: one for the module, over governors that it does not keep alive.
_RUNNING: weakref.WeakSet[Forkable] = weakref.WeakSet()
_handler_once = threading.Lock()


def restart_after_fork(governor: Forkable) -> None:
    follow_forks()
    _RUNNING.add(governor)


def forget(governor: Forkable) -> None:
    _RUNNING.discard(governor)


def follow_forks() -> None:
    """Register the handler, once. What takes a governor's locks in a forked child registers its own after this.

    Handlers run in the order of registration, and until this one has run a lock may be held by a thread that is not
    there: a scrape in the child waited for ever, one fork in ten under two busy scrapers.
    """
    if hasattr(os, "register_at_fork") and _handler_once.acquire(blocking=False):
        os.register_at_fork(after_in_child=_after_fork_in_child)


def _after_fork_in_child() -> None:
    for governor in tuple(_RUNNING):
        governor.after_fork_in_child()
