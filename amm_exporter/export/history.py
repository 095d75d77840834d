"""What memory was since the start, in bounded space: for the page's charts. Coarser as it grows longer, peaks kept.

The governor feeds it; the page reads it. A process that runs for a month costs the same 60 kB as one of ten minutes.
"""

from __future__ import annotations

import threading
from array import array
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from amm_exporter.model import Sample, Tier

CAPACITY = 720
"""Points kept: one for each pixel or two of a chart. 36 minutes at one in three seconds, then ever fewer; one in thirty
while nothing moves."""
MAX_EVENTS = 50
_COLUMNS = ("t", "rss", "ratio", "limit", "tier")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A change of tier."""

    unix_seconds: float
    previous: Tier
    tier: Tier
    ratio: float | None


class History:
    """`add` each sample; when it is full, every two points become one that holds the larger values."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._columns = {name: array("d") for name in _COLUMNS}
        self._step_seconds = 0.0
        self._wall_clock_ahead_seconds = 0.0
        self._tier: Tier | None = None
        self.pid: int | None = None
        """The process that is watched: this one, or another from outside."""
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)

    def add(self, sample: Sample, tier: Tier) -> None:
        worst = sample.worst
        ratio = worst.ratio if worst else float("nan")
        with self._lock:
            if self._tier is not None and tier != self._tier:
                event = Event(unix_seconds=sample.unix_seconds, previous=self._tier, tier=tier, ratio=ratio)
                self._events.append(event)
            self._tier = tier
            self.pid = sample.process.pid if sample.process else self.pid
            rss = sample.process.rss_bytes if sample.process else float("nan")
            limit = worst.limit_bytes if worst else float("nan")
            # Kept by the monotonic clock: a wall clock set right at boot would leap over years, one set back run twice.
            self._wall_clock_ahead_seconds = sample.unix_seconds - sample.t_seconds
            self._put((sample.t_seconds, rss, ratio, limit, float(tier)))

    def columns(self) -> Mapping[str, list[float | None]]:
        """Equally long lists: t (unix seconds), rss, ratio, limit, tier. What was not known is None."""
        with self._lock:
            return {
                **{
                    name: [None if value != value else value for value in found]
                    for name, found in self._columns.items()
                },
                "t": [round(at + self._wall_clock_ahead_seconds, 3) for at in self._columns["t"]],
            }

    def events(self) -> list[Event]:
        """The last changes of tier, the oldest first."""
        with self._lock:
            return list(self._events)

    def _put(self, point: tuple[float, ...]) -> None:
        times = self._columns["t"]
        if times and point[0] - times[-1] < self._step_seconds:
            self._raise_last(point)
            return
        if len(times) >= self._capacity:
            self._halve()
        for column, value in zip(self._columns.values(), point, strict=True):
            column.append(value)

    def _raise_last(self, point: tuple[float, ...]) -> None:
        for column, value in list(zip(self._columns.values(), point, strict=True))[1:]:
            column[-1] = _larger(column[-1], value)

    def _halve(self) -> None:
        span = self._columns["t"][-1] - self._columns["t"][0]
        self._columns["t"] = self._columns["t"][::2]
        for name in _COLUMNS[1:]:
            column = self._columns[name]
            pairs = zip(column[::2], [*column[1::2], float("nan")], strict=False)
            self._columns[name] = array("d", (_larger(left, right) for left, right in pairs))
        self._step_seconds = 2 * span / self._capacity


def _larger(left: float, right: float) -> float:
    """The larger of two, or the one that is a number."""
    return right if left != left or right > left else left
