"""Which tier a usage ratio means, and how long to wait before looking again. Pure functions of values."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

from amm_exporter.model import Reading, Tier

SHORTEST_PAUSE_SECONDS = 0.05
"""20 looks a second: about 0.03 % of a core at 15 us a look, and short beside what a tier change sets going."""
SMOOTHING_SECONDS = 30.0
LOOKS_BEFORE_LIMIT = 10
"""At the measured fill rate, look at least this often before the limit would be reached."""
CALM_RATIO = 0.5
"""From here on every look is a whole one: memory in use may push file cache out while what is counted stands still."""
SLACK = 1 / 16
"""Share of the room below that use may move by unseen. Growth by that much from look to look shortens no pause."""


def classify(ratio: float, current: Tier, enter_ratios: Sequence[float], hysteresis_ratio: float = 0.0) -> Tier:
    """The tier of `ratio`, coming from `current`.

    A tier is entered at its ratio (upwards at once, over several tiers if need be) and left only below that ratio less
    the hysteresis, so that a usage moving around a threshold does not flap.

    Args:
        enter_ratios: ascending, where MODERATE, HIGH, SEVERE and CRITICAL are entered.
    """
    entered = bisect_right(enter_ratios, ratio)
    if entered == current:
        return current
    if entered > current:
        return Tier(entered)
    held = bisect_right([enter - hysteresis_ratio for enter in enter_ratios], ratio)
    return min(current, Tier(held))


class TierTrack:
    """The tier in force, how often it changed and how long each one lasted; time is given, never read."""

    def __init__(self, t_seconds: float) -> None:
        self.tier = Tier.NORMAL
        self.transitions: dict[tuple[Tier, Tier], int] = {}
        self._since_seconds = t_seconds
        self._seconds_in = dict.fromkeys(Tier, 0.0)

    def move(self, t_seconds: float, tier: Tier) -> Tier | None:
        """Be in `tier` from now on. The tier left behind, or None where nothing changed."""
        if tier is self.tier:
            return None
        previous, self.tier = self.tier, tier
        self._seconds_in[previous] += max(0.0, t_seconds - self._since_seconds)
        self._since_seconds = t_seconds
        self.transitions[previous, tier] = self.transitions.get((previous, tier), 0) + 1
        return previous

    def seconds_in(self, tier: Tier, t_seconds: float) -> float:
        """Time spent in a tier up to now, the current stay included."""
        current = max(0.0, t_seconds - self._since_seconds) if tier is self.tier else 0.0
        return self._seconds_in[tier] + current


def fill_rate(previous_rate: float, grown_bytes: int, elapsed_seconds: float) -> float:
    """Bytes per second by which memory fills: up at once with the last step, down by half a step at a time.

    A burst is followed at once; after it the watch stays close for a few looks, since bursts come in rows.
    """
    if elapsed_seconds <= 0:
        return previous_rate
    return max(grown_bytes / elapsed_seconds, previous_rate / 2, 0.0)


def smoothed_rate(previous_rate: float, grown_bytes: int, elapsed_seconds: float) -> float:
    """Exponentially weighted growth in bytes per second over SMOOTHING_SECONDS: bursts pass, a run-up stays."""
    if elapsed_seconds <= 0:
        return previous_rate
    weight = 1 - math.exp(-elapsed_seconds / SMOOTHING_SECONDS)
    return previous_rate + weight * (grown_bytes / elapsed_seconds - previous_rate)


def next_pause(headroom_bytes: int, bytes_per_second: float, longest_seconds: float) -> float:
    """Seconds until the next look: a tenth of the time to the limit at this fill rate, within the two bounds."""
    if bytes_per_second <= 0:
        return longest_seconds
    pause = headroom_bytes / bytes_per_second / LOOKS_BEFORE_LIMIT
    return min(longest_seconds, max(SHORTEST_PAUSE_SECONDS, pause))


def slack_bytes(readings: Sequence[Reading], enter_ratio: float) -> int:
    """By how much use may move until the tier has to be decided anew: 0 unless every reading has ample room."""
    ceiling = min(CALM_RATIO, enter_ratio)
    room = min((ceiling * reading.limit_bytes - reading.used_bytes for reading in readings), default=0.0)
    return max(0, int(SLACK * room))
