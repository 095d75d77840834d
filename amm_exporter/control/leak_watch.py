"""Leak detectors over the samples of one process: one for each series, fed at the policy's pace, at most."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from amm_exporter.analysis.leaks import LeakDetector, LeakSettings, Verdict
from amm_exporter.model import Sample
from amm_exporter.policy import Policy

log = logging.getLogger("amm.control")

SHORTEST_SECONDS = 1.0
"""Between two samples of a detector. Calm samples are no closer, and steps should be even; a leak is found no sooner by
more of them."""


ALWAYS_SHOWN = frozenset({"rss", "tree", "cgroup"})
"""Series that have metrics at all times. Others have while they leak: five metrics each would exceed what a process may
have at rest."""


class LeakWatch:
    """Feed it every sample and glance; it takes one value of each series each `interval` and keeps the verdicts.

    Series: `rss`, the resident set of the process; `tree`, where it has children; `cgroup`, the working set, where the
    cgroup has a limit; and what else is fed to it (`heap` and `floor`, by `holders`).
    """

    def __init__(self, policy: Policy) -> None:
        self._settings = leak_settings(policy)
        self._shows_all = policy.leak.series == "all"
        self._interval_seconds = max(SHORTEST_SECONDS, policy.interval_seconds)
        self._due_seconds = float("-inf")
        self._last: Mapping[str, int] = {}
        self._glanced: list[tuple[float, Mapping[str, int]]] = []
        self._detectors: dict[str, LeakDetector] = {}
        self._headroom_bytes: int | None = None
        self._leaking: frozenset[str] = frozenset()

    @property
    def threshold_bytes_per_second(self) -> float:
        return self._settings.min_slope

    @property
    def leaking(self) -> frozenset[str]:
        """The series judged to leak now: for asking at every sample, where building the verdicts would be dear."""
        return self._leaking

    def add(self, sample: Sample) -> None:
        """Samples come faster when memory is tight; a leak is judged on even steps, with some slack for lateness."""
        self._feed_glanced()
        self._headroom_bytes = sample.headroom_bytes
        self._last = series_of(sample)
        if self._is_due(sample.t_seconds):
            for series, value in self._last.items():
                self.feed(series, sample.t_seconds, value)

    def glance(self, t_seconds: float, found: Mapping[str, int]) -> None:
        """Between two samples: what a glance sees of their series. It is judged with the next sample: two at once cost
        little more than one, in caches that are cold."""
        self._last = found
        if self._is_due(t_seconds):
            self._glanced.append((t_seconds, found))

    def stood(self, until_seconds: float) -> None:
        """Nothing had moved from the last sample or glance until then."""
        while self._last and self._due_seconds <= until_seconds:
            self._glanced.append((self._due_seconds, self._last))
            self._due_seconds += self._interval_seconds

    def feed(self, series: str, t_seconds: float, value_bytes: int) -> None:
        """One value of one series, at whatever pace is right for it."""
        detector = self._detectors.get(series)
        if detector is None:
            detector = self._detectors[series] = LeakDetector(self._settings)
        detector.add(t_seconds, value_bytes)
        if detector.leaking is not (series in self._leaking):
            self._turn(series, detector.verdict())

    def verdicts(self) -> Mapping[str, Verdict]:
        """What is known of each series now; the time to exhaustion is until the first limit is reached."""
        return {series: detector.verdict(self._headroom_bytes) for series, detector in tuple(self._detectors.items())}

    def shown(self) -> Mapping[str, Verdict]:
        """Those that have metrics of their own."""
        return {
            series: verdict
            for series, verdict in self.verdicts().items()
            if self._shows_all or verdict.leaking or series in ALWAYS_SHOWN
        }

    def _feed_glanced(self) -> None:
        glanced, self._glanced = self._glanced, []
        for t_seconds, found in glanced:
            for series, value in found.items():
                if series in self._detectors:
                    self.feed(series, t_seconds, value)

    def _is_due(self, t_seconds: float) -> bool:
        if t_seconds < self._due_seconds:
            return False
        self._due_seconds = t_seconds + 0.9 * self._interval_seconds
        return True

    def _turn(self, series: str, verdict: Verdict) -> None:
        if verdict.leaking:
            self._leaking |= {series}
            log.warning("%s leaks: %s", series, "; ".join(verdict.reasons))
        else:
            self._leaking -= {series}
            log.info("%s no longer leaks: %s", series, "; ".join(verdict.reasons))


def leak_settings(policy: Policy) -> LeakSettings:
    """The detector's settings for a policy."""
    leak = policy.leak
    return LeakSettings(
        window_seconds=leak.window_seconds, confidence=leak.confidence, min_slope=leak.min_slope_bytes_per_second
    )


def series_of(sample: Sample) -> dict[str, int]:
    """What is judged of one sample, by name."""
    found = {}
    if sample.process is not None:
        found["rss"] = sample.process.rss_bytes
    if sample.tree is not None and len(sample.tree.processes) > 1:
        found["tree"] = sample.tree.rss_bytes
    if sample.cgroup is not None and sample.cgroup.limit_bytes is not None:
        found["cgroup"] = sample.cgroup.working_set_bytes
    return found
