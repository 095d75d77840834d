"""The memory of one stretch of a test: where it started, its peak, where it ended. Own process only.

Linux: the kernel's high-water mark, exact. Elsewhere: a sampling thread, and `exact` is False. Children are seen by
the watchdog.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import ClassVar, NamedTuple, Protocol

from amm_exporter.probes.peak import HighWaterMark

try:
    from resource import RUSAGE_SELF, getrusage
except ImportError:  # Windows
    getrusage = None  # type: ignore[assignment]

_QUIET_BYTES = 256 * 1024
"""Below this growth the mark is taken from getrusage (1.1 us) and not from /proc/self/status (8 to 30 us).

getrusage tells the same mark, except that it never falls below what the process had inherited at exec: it can only be
too high, so a small growth by getrusage is a small growth."""


class Mark(Protocol):
    """What can be reset and read: the kernel's high-water mark, or a sampler."""

    def reset(self) -> None: ...
    def read_bytes(self) -> int: ...
    def close(self) -> None: ...


class Probe(Protocol):
    """What tells the resident set of this process."""

    def rss_bytes(self) -> int: ...
    def close(self) -> None: ...


class Span(NamedTuple):
    """One measured stretch: resident bytes at its start, at most, at its end. A tuple: three are made a test."""

    start_bytes: int
    peak_bytes: int
    end_bytes: int


class Meter:
    """Measures one stretch after the other; to be used by one thread. `close` gives the file descriptors back."""

    _owners: ClassVar[list[Meter]] = []
    """Who claimed the mark, the last one last. The process has one mark, as the kernel has it, so there is one list."""

    def __init__(self, *, probe: Probe | None = None, mark: Mark | None = None, session_peak_bytes: int = 0) -> None:
        self._outer: Meter | None = None
        self._probe = probe or _probe()
        if mark is None:
            kernel = HighWaterMark()
            mark = kernel if kernel.supported else SampledMark(self._probe.rss_bytes)
        self._mark = mark
        self._kernel = mark if isinstance(mark, HighWaterMark) else None
        self.exact = self._kernel is not None
        self.session_peak_bytes = session_peak_bytes or mark.read_bytes()
        self._start_bytes = self._end_bytes = 0
        self._folded_bytes = 0

    def claim(self) -> None:
        """Take the mark over, until `close`: the meter that has it now is told of each reset.

        For a pytest run inside a test of another one, as pytester makes it.
        """
        if self._owners:
            self._outer = self._owners[-1]
        self._owners.append(self)

    def start(self) -> int:
        """A new stretch begins: the mark is reset. Returns the resident bytes now."""
        self.go_on()
        self._start_bytes = self._probe.rss_bytes()
        return self._start_bytes

    def go_on(self) -> None:
        """A new stretch begins where the last one ended: as `start`, a reading cheaper."""
        self._folded_bytes = 0
        if self._outer is not None:
            self._outer.fold()
        self._mark.reset()
        self._start_bytes = self._end_bytes

    def stop(self) -> Span:
        """The stretch that `start` began. It may go on: the mark is not reset."""
        start_bytes = self._start_bytes
        peak_bytes, end_bytes = self._look()
        self._end_bytes = end_bytes
        peak_bytes = max(peak_bytes, start_bytes, end_bytes, self._folded_bytes)
        if peak_bytes > self.session_peak_bytes:
            self.session_peak_bytes = peak_bytes
        return Span(start_bytes, peak_bytes, end_bytes)

    @contextlib.contextmanager
    def nested(self) -> Iterator[Callable[[], Span]]:
        """A stretch within the present one: the mark has one owner, so the outer peak so far is folded in."""
        outer_start_bytes = self._start_bytes
        outer = self.stop()
        start_bytes = self.start()
        found: list[Span] = []
        try:
            yield lambda: found[0]
        finally:
            inner = self.stop()
            found.append(Span(start_bytes, inner.peak_bytes, inner.end_bytes))
            self._start_bytes = outer_start_bytes
            self._folded_bytes = max(outer.peak_bytes, inner.peak_bytes)

    def fold(self) -> None:
        """Keep the peak so far: somebody else is about to reset the mark."""
        self._folded_bytes = max(self._folded_bytes, self._look()[0])

    def rss_bytes(self) -> int:
        return self._probe.rss_bytes()

    def close(self) -> None:
        if self in self._owners:
            self._owners.remove(self)
        self._mark.close()
        self._probe.close()

    def _look(self) -> tuple[int, int]:
        """The peak so far, and what is resident now."""
        if self._kernel is None:
            return self._mark.read_bytes(), self._probe.rss_bytes()
        if getrusage is not None:
            peak_bytes = getrusage(RUSAGE_SELF).ru_maxrss * 1024
            if peak_bytes - self._start_bytes < _QUIET_BYTES:
                return peak_bytes, self._probe.rss_bytes()
        return self._kernel.read_with_resident()


def _probe() -> Probe:
    if sys.platform.startswith("linux"):
        from amm_exporter.probes.resident import Resident

        return Resident()
    from amm_exporter.probes.process import ProcessProbe

    return ProcessProbe()


class SampledMark:
    """The largest of the readings of a thread: what stands in where the kernel has no resettable mark."""

    def __init__(self, read_bytes: Callable[[], int], *, interval_seconds: float = 0.01) -> None:
        self._read = read_bytes
        self._peak_bytes = read_bytes()
        self._ended = threading.Event()
        self._interval_seconds = interval_seconds
        self._thread = threading.Thread(target=self._sample, name="amm-sampled-mark", daemon=True)
        self._thread.start()

    def reset(self) -> None:
        self._peak_bytes = self._read()

    def read_bytes(self) -> int:
        self._peak_bytes = max(self._peak_bytes, self._read())
        return self._peak_bytes

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(self._interval_seconds):
            self._peak_bytes = max(self._peak_bytes, self._read())
