"""One thread that waits for sockets and timers: everything the exporter does in a process happens on it.

A thread for each connection would let 500 idle clients start 500 threads in the host program; asyncio would do, but its
import costs 14 ms and 1.5 MiB where `selectors` costs nothing.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from amm_exporter.export.descriptors import is_still, let_go
from amm_exporter.probes.procfs import identity

log = logging.getLogger("amm.export")

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


CLOSE_SECONDS = 5.0
"""The longest `close` waits: a metric's callback that hangs must not keep the program from ending."""


_KEPT: list[selectors.BaseSelector] = []
"""Selectors whose descriptor the program has closed: to forget one would close that number, now a file of its own."""


class Loop:
    """A selector, timers and calls from other threads, on one daemon thread.

    `watch`, `unwatch` and `later` belong to the loop's thread (or to any before `start`); `call` to every thread.
    `lost()` is called on it, as the last thing, when a program that becomes a daemon has closed all descriptors.
    """

    def __init__(
        self,
        name: str = "amm-exporter",
        clock: Callable[[], float] = time.monotonic,
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._lost = lost
        self._selector = selectors.DefaultSelector()
        self._calls: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._running = True
        self._wake_reader, self._wake_writer = socket.socketpair()
        for end in (self._wake_reader, self._wake_writer):
            end.setblocking(False)
        self._identity = identity(self._wake_reader.fileno())
        self._closed_as: bool | None = None
        self._broken = False
        self.watch(self._wake_reader, READ, self._woken)
        self._thread = _Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def on_thread(self) -> bool:
        """Whether the caller is the loop's own thread."""
        return threading.current_thread() is self._thread

    @property
    def intact(self) -> bool:
        """Whether the descriptors are still those of the loop, or were so when it closed them.

        Else their numbers may have gone to files of the program, and nobody may close or use them: neither the loop's
        nor those of whoever opened sockets beside it.
        """
        if self._closed_as is not None:
            return self._closed_as
        return not self._broken and is_still(self._wake_reader.fileno(), self._identity)

    def watch(self, sock: socket.socket, events: int, ready: Callable[[int], None]) -> None:
        """Call `ready(events)` whenever the socket is; watching again replaces what was asked before."""
        try:
            self._selector.modify(sock, events, ready)
        except KeyError:
            self._selector.register(sock, events, ready)

    def unwatch(self, sock: socket.socket) -> None:
        if sock.fileno() in self._selector.get_map():
            self._selector.unregister(sock)

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call `function` once, `seconds` from now."""
        heapq.heappush(self._timers, (self._clock() + seconds, next(self._order), function))

    def call(self, function: Callable[[], None]) -> None:
        """Call `function` on the loop's thread, soon."""
        if not self.intact:
            return  # nobody is left to call
        self._calls.append(function)
        try:
            self._wake_writer.send(b"\0")
        except BlockingIOError:
            pass  # its buffer is full of wake-ups already
        except OSError:
            self._calls.clear()  # closed meanwhile

    def close(self) -> None:
        """End the thread and free its descriptors. Sockets that are watched stay their owners' to close."""
        if self._thread.is_alive() and not self.on_thread and self.intact:
            self.call(self._stop)
            self._thread.join(CLOSE_SECONDS)
        self._stop()
        self.abandon()

    def abandon(self) -> None:
        """Close the descriptors without touching the thread: what a forked child does with its parent's loop."""
        if self._closed_as is not None:
            return
        self._closed_as = self.intact
        let_go(self._wake_reader, self._closed_as)
        let_go(self._wake_writer, self._closed_as)
        if self._closed_as:
            self._selector.close()
        else:
            _KEPT.append(self._selector)

    def _stop(self) -> None:
        self._running = False

    def _woken(self, _events: int) -> None:
        while True:
            try:
                if not self._wake_reader.recv(4096):
                    return
            except BlockingIOError:
                return

    def _run(self) -> None:
        while self._running:
            ready = self._select()
            if not self.intact:
                self._guarded(self._lost)
                return
            for key, events in ready:
                # One callback may have closed what another waits for.
                if self._selector.get_map().get(key.fd) is key:
                    self._guarded(partial(key.data, events))
            while self._calls:
                self._guarded(self._calls.popleft())
            now = self._clock()  # what is put off till later waits for the next round
            while self._timers and self._timers[0][0] <= now:
                self._guarded(heapq.heappop(self._timers)[2])

    def _select(self) -> list[tuple[selectors.SelectorKey, int]]:
        try:
            return self._selector.select(self._pause())
        except (OSError, ValueError):  # its number has gone, or is another file's
            self._broken = True
            return []

    def _pause(self) -> float | None:
        if self._calls:
            return 0.0
        return max(0.0, self._timers[0][0] - self._clock()) if self._timers else None

    def _guarded(self, function: Callable[[], None]) -> None:
        try:
            function()
        except Exception:  # the thread must outlive whatever it calls
            log.exception("the exporter's thread goes on after an error")


class _Thread(threading.Thread):
    def _delete(self) -> None:
        # A worker that gevent patches after this has started: the thread ends under another number than it began.
        with suppress(KeyError):
            super()._delete()  # type: ignore[misc] # not in typeshed; by this name in all of 3.10 to 3.13
