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

from amm_exporter.probes.peak import OwnMark


class Mark(Protocol):
    """What can be reset, and read together with what is resident: the kernel's high-water mark, or a sampler."""

    def reset(self) -> None: ...
    def read(self) -> tuple[int, int]: ...
    def rss_bytes(self) -> int: ...
    def close(self) -> None: ...


class Span(NamedTuple):
    """One measured stretch: resident bytes at its start, at most, at its end."""

    start_bytes: int
    peak_bytes: int
    end_bytes: int


class Meter:
    """Measures one stretch after the other; to be used by one thread. `close` gives the file descriptors back."""

    _owners: ClassVar[list[Meter]] = []
    """Who claimed the mark, the last one last. The process has one mark, as the kernel has it, so there is one list."""

    def __init__(self, *, mark: Mark | None = None, session_peak_bytes: int = 0) -> None:
        self._outer: Meter | None = None
        self._mark = mark = mark or _mark()
        self.exact = isinstance(mark, OwnMark)
        self.rss_bytes = mark.rss_bytes
        self.session_peak_bytes = session_peak_bytes or mark.read()[0]
        self._start_bytes = self._end_bytes = 0
        self._folded_bytes = 0
        self._risen = True

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
        self._start_bytes = start_bytes = self.rss_bytes()
        return start_bytes

    def go_on(self) -> None:
        """A new stretch begins where the last one ended: as `start`, a reading cheaper."""
        self._folded_bytes = 0
        if self._outer is not None:
            self._outer.fold()
        self._mark.reset()
        self._start_bytes = self._end_bytes

    def go_on_at_once(self) -> None:
        """As `go_on`, right after the last stretch: a mark that was no higher than what is resident needs no reset."""
        if self._risen or self._outer is not None:
            self.go_on()
            return
        self._folded_bytes = 0
        self._start_bytes = self._end_bytes

    def settle(self) -> int:
        """Much was given back after the last stretch: the next one begins with what is resident now. Returns that."""
        self._end_bytes = self.rss_bytes()
        return self._end_bytes

    def stop(self) -> Span:
        """The stretch that `start` began. It may go on: the mark is not reset."""
        return Span(*self.look())

    def look(self) -> tuple[int, int, int]:
        """As `stop`, in plain numbers: three are asked for in each test."""
        start_bytes = self._start_bytes
        peak_bytes, end_bytes = self._mark.read()
        self._end_bytes = end_bytes
        self._risen = peak_bytes > end_bytes
        peak_bytes = max(peak_bytes, start_bytes, end_bytes, self._folded_bytes)
        if peak_bytes > self.session_peak_bytes:
            self.session_peak_bytes = peak_bytes
        return start_bytes, peak_bytes, end_bytes

    @contextlib.contextmanager
    def nested(self, tell: Callable[[Span], object]) -> Iterator[None]:
        """A stretch within the present one: the mark has one owner, so the outer peak so far is folded in.

        `tell` hears of it at its end, also when the block raises: what it took until then.
        """
        outer_start_bytes = self._start_bytes
        outer = self.stop()
        start_bytes = self.start()
        try:
            yield
        finally:
            inner = self.stop()
            tell(Span(start_bytes, inner.peak_bytes, inner.end_bytes))
            self._start_bytes = outer_start_bytes
            self._folded_bytes = max(outer.peak_bytes, inner.peak_bytes)

    def fold(self) -> None:
        """Keep the peak so far: somebody else is about to reset the mark."""
        self._folded_bytes = max(self._folded_bytes, self._mark.read()[0])

    def close(self) -> None:
        if self in self._owners:
            self._owners.remove(self)
        self._mark.close()


def _mark() -> Mark:
    if not sys.platform.startswith("linux"):
        from amm_exporter.probes.process import ProcessProbe

        return SampledMark(ProcessProbe().rss_bytes)
    kernel = OwnMark()
    return kernel if kernel.supported else SampledMark(kernel.rss_bytes)


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

    def read(self) -> tuple[int, int]:
        rss_bytes = self._read()
        self._peak_bytes = max(self._peak_bytes, rss_bytes)
        return self._peak_bytes, rss_bytes

    def rss_bytes(self) -> int:
        return self._read()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(self._interval_seconds):
            self._peak_bytes = max(self._peak_bytes, self._read())
