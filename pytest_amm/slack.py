"""How much of the heap lies free when a test begins: it can take that again without growing (mallinfo(3)).

An upper bound of what its growth does not show: what it really took of it, malloc does not tell. Of malloc alone:
pymalloc's arenas, where objects of up to 512 bytes live, go back to the system when they are empty, and to count the
free blocks in the others takes a thousand times as long.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from amm_exporter.probes.mallinfo import Mallinfo2, glibc_mallinfo
from amm_exporter.units import MIB

_LEAST_PAUSE_SECONDS = 0.001
"""In this time a process touches 4 MB at most: what was free at its start is free at its end, but for that."""
_STILL_SECONDS = 0.05
"""The pause while what is resident stays as it is. A test that empties or fills the heap nearly always shows there; one
that frees what older tests had left, and leaves its pages in the heap, does not."""
_MOVED_BYTES = MIB
_SHARE = 100
"""A reading may cost one part in so many of the time: it takes 3 us, or 30 where a test has swept the processor's
caches, but 15 ms in a heap with a million free chunks."""


class FreeHeap:
    """Reads what is free, again and again, but not within a millisecond, nor soon after a costly reading, and seldom
    while nothing moves. None where malloc does not tell.
    """

    def __init__(
        self,
        *,
        mallinfo: Callable[[], Mallinfo2] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._mallinfo = mallinfo or glibc_mallinfo()
        self._clock = clock
        self._last_bytes: int | None = None
        self._last_rss_bytes = 0
        self._not_before = self._not_before_still = float("-inf")

    def read_bytes(self, rss_bytes: int, now: float) -> int | None:
        """Free and resident: pages that malloc has given back while it keeps their addresses cannot be told apart from
        the rest, but no more is resident than the process has beside what is in use. `now` is what the clock says."""
        still = abs(rss_bytes - self._last_rss_bytes) < _MOVED_BYTES
        if now >= (self._not_before_still if still else self._not_before) and self._mallinfo is not None:
            heap = self._mallinfo()
            self._last_bytes = max(0, min(heap.fordblks, rss_bytes - heap.uordblks))
            self._last_rss_bytes = rss_bytes
            self._not_before = now + max(_LEAST_PAUSE_SECONDS, _SHARE * (self._clock() - now))
            self._not_before_still = max(self._not_before, now + _STILL_SECONDS)
        return self._last_bytes
