"""What the demo tells of its leak: that it was found, then what grows, what keeps it alive, and the line that makes it.

The exporter does the same by itself with more time between the readings (`control.evidence_desk`), and on request
(`amm evidence`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from amm_exporter.analysis.growth import ORIGIN_WORDS
from amm_exporter.analysis.leaks import Verdict
from amm_exporter.control.chains import chain_to
from amm_exporter.control.governor import Governor
from amm_exporter.control.growth_watch import GrowthWatch
from amm_exporter.probes.allocations import SiteTrace
from amm_exporter.units import format_duration, format_size

SPACING_SECONDS, TRACE_SECONDS = 0.8, 2.0
"""Between two readings, since the demo's leak is fast (a look comes each second); how long lines are traced then."""


class LeakStory:
    """`look` now and then, between two steps of the job: what the job holds for a moment is not seen then."""

    def __init__(self, governor: Governor, say: Callable[[str], None]) -> None:
        self._governor = governor
        self._say = say
        self._trace = SiteTrace()
        self._next: Callable[[float, int], None] | None = self._wait
        self._growth: GrowthWatch | None = None
        self._known_seconds = self._traced_until = self._slope = 0.0
        self._rows: list[tuple[str, str]] = []

    def look(self, elapsed_seconds: float) -> None:
        sample = self._governor.latest
        if self._next is not None and sample is not None and sample.process is not None:
            self._next(elapsed_seconds, sample.process.rss_bytes)

    def stop(self) -> None:
        self._trace.stop()

    @property
    def known(self) -> bool:
        return self._known_seconds > 0.0

    def told(self) -> Iterator[str]:
        """The lines of the summary."""
        for series, verdict in self._leaking():
            yield f"a leak, known after {self._known_seconds:.0f}s: {series} {'; '.join(verdict.reasons)}"
        yield from (f"  {what:<8} {row}" for what, row in self._rows)

    def _leaking(self) -> list[tuple[str, Verdict]]:
        return [(series, verdict) for series, verdict in self._governor.leaks.verdicts().items() if verdict.leaking]

    def _wait(self, elapsed_seconds: float, _: int) -> None:
        for series, verdict in self._leaking()[:1]:
            self._known_seconds = elapsed_seconds
            self._say(f"      ! {series} leaks: {verdict.reasons[0]}")
            self._slope = verdict.slope
            self._growth = self._watch()
            self._next = self._read

    def _watch(self) -> GrowthWatch:
        """Counting by the time of this thread: on a busy machine others leave too little of any other for a census."""
        return GrowthWatch(self._slope, shortest_seconds=SPACING_SECONDS, clock=time.thread_time)

    def _read(self, elapsed_seconds: float, resident_bytes: int) -> None:
        found = self._growth.look(elapsed_seconds, resident_bytes) if self._growth else None
        if found is None:
            return
        if found["origin"] is None:  # on a busy machine six readings may be too unsteady: six more
            self._growth = self._watch()
            return
        self._tell("grows", ORIGIN_WORDS.get(found["origin"], "unknown"))
        for row in found["types"][:1]:
            self._tell("type", f"{row['name']}, {format_size(row['gained'])} in {format_duration(found['seconds'])}")
            if chain := chain_to(row["name"]):
                self._tell("kept by", " -> ".join(chain))
        self._trace.start()
        self._traced_until = elapsed_seconds + TRACE_SECONDS
        self._next = self._end

    def _end(self, elapsed_seconds: float, _: int) -> None:
        if elapsed_seconds < self._traced_until:
            return
        sites = self._trace.sites()
        self._trace.stop()
        self._next = None
        for site in sorted(sites, key=lambda site: -sites[site])[:1]:
            self._tell("line", f"{site}, {format_size(sites[site])} in {format_duration(TRACE_SECONDS)}")

    def _tell(self, what: str, text: str) -> None:
        self._rows.append((what, text))
        self._say(f"      ! {what}: {text}")
