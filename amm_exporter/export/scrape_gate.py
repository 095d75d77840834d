"""One scrape at a time, and none while the process forks: a child must inherit no lock that is held."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

FORK_WAIT_SECONDS = 1.0
"""The longest a fork waits for a scrape to end: a callback that hangs must not hang the program's fork."""


class ScrapeGate:
    """`passing` is around every scrape, `shut` and `reopen` around every fork. A forked child needs a new one."""

    def __init__(self, wait_seconds: float = FORK_WAIT_SECONDS) -> None:
        self._wait_seconds = wait_seconds
        self._scraping = threading.RLock()
        self._is_open = threading.Event()
        self._is_open.set()
        self._held = False

    @contextmanager
    def passing(self) -> Iterator[None]:
        # Python's locks are not fair: without the event, two threads that scrape back to back would starve a fork.
        self._is_open.wait(self._wait_seconds)
        with self._scraping:
            yield

    def shut(self) -> None:
        """Let a scrape that is under way end, and begin no other."""
        self._is_open.clear()
        self._held = self._scraping.acquire(timeout=self._wait_seconds)

    def reopen(self) -> None:
        if self._held:
            self._held = False
            self._scraping.release()
        self._is_open.set()
