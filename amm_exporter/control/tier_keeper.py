"""The tier in force, decided from one sample to the next, and how fast memory fills. Acts on nothing, reads nothing.

What a ratio means is `analysis.tiers`; when to look and whom to tell is the governor's.
"""

from __future__ import annotations

import logging

from amm_exporter.analysis.tiers import (
    SMOOTHING_SECONDS,
    TierTrack,
    classify,
    fill_rate,
    next_pause,
    slack_bytes,
    smoothed_rate,
)
from amm_exporter.errors import PolicyError
from amm_exporter.model import RAISED_TIERS, Reading, Sample, Tier, TierChange
from amm_exporter.policy import Policy
from amm_exporter.units import format_ratio, format_size

log = logging.getLogger("amm.control")


class Filling:
    """How fast one use goes towards its limit: `rate` by the last steps, `trend` over half a minute."""

    __slots__ = ("_used_bytes", "headroom_bytes", "rate", "trend")

    def __init__(self, reading: Reading) -> None:
        self._used_bytes = reading.used_bytes
        self.headroom_bytes = reading.headroom_bytes
        self.rate = self.trend = 0.0

    def rest(self, elapsed_seconds: float) -> None:
        self.rate = fill_rate(self.rate, 0, elapsed_seconds)
        self.trend = smoothed_rate(self.trend, 0, elapsed_seconds)

    def follow(self, reading: Reading, elapsed_seconds: float) -> None:
        grown, self._used_bytes = reading.used_bytes - self._used_bytes, reading.used_bytes
        self.headroom_bytes = reading.headroom_bytes
        self.rate = fill_rate(self.rate, grown, elapsed_seconds)
        self.trend = smoothed_rate(self.trend, grown, elapsed_seconds)


class TierKeeper:
    """Give it every sample, in order. Under a limit that moves, the thresholds move with it."""

    def __init__(self, policy: Policy, t_seconds: float) -> None:
        self._policy = policy
        self.track = TierTrack(t_seconds)
        self.worst: Reading | None = None
        self.enter_ratios: tuple[float, ...] = ()
        self._readings: tuple[Reading, ...] = ()
        self._fillings: dict[str, Filling] = {}
        self._t_seconds = t_seconds
        self._enter_limit = 0
        self._starts_until: float | None = t_seconds + SMOOTHING_SECONDS
        self._complaints: set[str] = set()

    def stood(self, until_seconds: float) -> None:
        """Nothing had moved until then: what has grown by the next sample grew since."""
        elapsed = until_seconds - self._t_seconds
        if elapsed > 0.0:
            self._t_seconds = until_seconds
            for filling in self._fillings.values():
                filling.rest(elapsed)

    def decide(self, sample: Sample) -> TierChange | None:
        """The change that this sample makes, None where the tier stays."""
        worst = self.worst = sample.worst
        self._readings = sample.readings
        self._follow_growth(sample.t_seconds)
        if worst is None:
            self._complain("reading", f"signal {self._policy.signal!r} has no data here; the tier stays as it is")
            return None
        self._follow_limit(sample.limit.size_bytes if sample.limit else 0)
        tier = classify(worst.ratio, self.track.tier, self.enter_ratios, self._policy.hysteresis_ratio)
        left = self.track.move(sample.t_seconds, tier)
        if self._starts_until is not None and sample.t_seconds >= self._starts_until:
            self._end_start()
        if left is None:
            return None
        return TierChange(t_seconds=sample.t_seconds, previous=left, tier=tier, reading=worst)

    @property
    def pause_seconds(self) -> float:
        """Until the next look, by what is left and how fast it goes."""
        longest = self._policy.interval_seconds
        pauses = (next_pause(each.headroom_bytes, each.rate, longest) for each in self._fillings.values())
        return min(pauses, default=longest)

    @property
    def slack_bytes(self) -> int:
        """By how much a reading may move from the last sample on while neither the tier nor the pause changes."""
        calm = self.track.tier is Tier.NORMAL and self.pause_seconds >= self._policy.interval_seconds
        return slack_bytes(self._readings, self.enter_ratios[0]) if calm and self.enter_ratios else 0

    @property
    def exhaustion_seconds(self) -> float | None:
        """Until the first reading reaches its limit by the growth of the last half minute; None while all rest, and
        for the first half minute while there is ample room: each program grows as it starts."""
        if self._starts_until is not None and self.track.tier is Tier.NORMAL:
            return None
        growing = (each for each in self._fillings.values() if each.trend > 0)
        return min((each.headroom_bytes / each.trend for each in growing), default=None)

    def _end_start(self) -> None:
        """What a program at rest took to start says nothing of how it goes on."""
        self._starts_until = None
        if self.track.tier is Tier.NORMAL:
            for filling in self._fillings.values():
                filling.trend = 0.0

    def _follow_growth(self, t_seconds: float) -> None:
        elapsed, self._t_seconds = t_seconds - self._t_seconds, t_seconds
        fillings = {reading.scope: self._fillings.get(reading.scope) or Filling(reading) for reading in self._readings}
        for reading in self._readings:
            fillings[reading.scope].follow(reading, elapsed)
        self._fillings = fillings  # as a whole: a scrape may be reading the last one

    def _follow_limit(self, limit_bytes: int) -> None:
        if self.enter_ratios and limit_bytes == self._enter_limit:
            return
        self._enter_limit = limit_bytes
        try:
            self.enter_ratios = self._policy.enter_ratios(limit_bytes)
        except PolicyError as error:
            self._complain("order", f"{error}; tiers above the disorder are entered together")
            thresholds = [self._policy.thresholds[tier] for tier in RAISED_TIERS]
            ratios = [threshold.ratio_of(limit_bytes, self._policy.target_bytes) for threshold in thresholds]
            self.enter_ratios = tuple(max(ratios[: index + 1]) for index in range(len(ratios)))

    def _complain(self, about: str, text: str) -> None:
        """Log once for each thing."""
        if about not in self._complaints:
            self._complaints.add(about)
            log.warning("%s", text)


def log_change(change: TierChange) -> None:
    """Loud where it worsens."""
    reading = change.reading
    where = (
        f"{reading.scope} uses {format_size(reading.used_bytes)}, {format_ratio(reading.ratio)} of "
        f"{format_size(reading.limit_bytes)}"
        if reading
        else "no reading"
    )
    level = logging.WARNING if change.tier > change.previous and change.tier >= Tier.HIGH else logging.INFO
    log.log(level, "memory tier %s -> %s: %s", change.previous.name, change.tier.name, where)
