"""What a collection sees: one view of the governor and of the probes that only work from inside the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from amm_exporter.analysis.leaks import Verdict
from amm_exporter.control.evidence_desk import EvidenceDesk
from amm_exporter.control.governor import Governor
from amm_exporter.control.watched import CACHES
from amm_exporter.model import ProcessMemory, Sample
from amm_exporter.probes.allocator import AllocatorMemory, AllocatorProbe
from amm_exporter.probes.caches import Stats
from amm_exporter.probes.gc_events import GcPause

if TYPE_CHECKING:
    from amm_exporter.probes.objects import Census

VIEW_SECONDS = 0.05
"""The longest that the callbacks of one collection share a view. They take a few milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The governor, one sample, and what was read beside it at that moment."""

    governor: Governor
    sample: Sample
    details: ProcessMemory | None
    started_unix_seconds: float | None
    self_bytes: int
    census: Census | None
    leaks: Mapping[str, Verdict]
    allocators: tuple[AllocatorMemory, ...] = ()
    preloaded: tuple[str, ...] = ()
    caches: Mapping[str, Stats] = field(default_factory=dict)


class Source:
    """Makes views of one governor. `self_bytes` is what starting AMM added to the resident set.

    `record` is called with each pause of the collector, outside of it: when `drain` is, and before each new view.
    """

    def __init__(
        self,
        governor: Governor,
        self_bytes: int,
        desk: EvidenceDesk | None = None,
        *,
        record: Callable[[GcPause], None] = lambda pause: None,
    ) -> None:
        self.governor = governor
        self._record = record
        self._self_bytes = self_bytes
        self.desk = desk
        self._allocators = AllocatorProbe() if governor.gc is not None else None
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """A lock and a start time of the child's own: the parent's lock may have been held at the fork."""
        self.lock = threading.RLock()
        self._drain_lock = threading.RLock()  # its own: a view waits for whatever tells a cache's statistics
        self._view: View | None = None
        self._view_at = float("-inf")
        self._shown_to: set[object] = set()
        self._started = self.governor.sampler.start_unix_seconds()

    def drain(self) -> None:
        with self._drain_lock:
            if self.governor.gc is not None:
                for pause in self.governor.gc.drain():
                    self._record(pause)

    def view(self, asker: object) -> View:
        """One for all who ask within a collection: who asks again is in the next one, however soon that comes."""
        with self.lock:
            late = time.monotonic() - self._view_at > VIEW_SECONDS
            if self._view is None or late or asker in self._shown_to:
                self.drain()
                self._view = View(
                    governor=self.governor,
                    sample=self.governor.sample(),
                    details=self.governor.sampler.details(),
                    started_unix_seconds=self._started,
                    self_bytes=self._self_bytes,
                    census=self.desk.census if self.desk else None,
                    leaks=self.governor.leaks.shown(),
                    caches=CACHES.read() if self.governor.gc is not None else {},
                    allocators=self._allocators.read() if self._allocators else (),
                    preloaded=self._allocators.preloaded if self._allocators else (),
                )
                self._view_at = time.monotonic()
                self._shown_to = set()
            self._shown_to.add(asker)
            return self._view
