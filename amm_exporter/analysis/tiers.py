"""Which tier a usage ratio means, and how long to wait before looking again. Pure functions of values."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from amm_exporter.model import Tier

SHORTEST_PAUSE_SECONDS = 0.05
"""20 looks a second: about 0.03 % of a core at 15 us a look, and short beside what a tier change sets going."""
LOOKS_BEFORE_LIMIT = 10
"""At the measured fill rate, look at least this often before the limit would be reached."""


def classify(ratio: float, current: Tier, enter_ratios: Sequence[float], hysteresis_ratio: float = 0.0) -> Tier:
    """The tier of `ratio`, coming from `current`.

    A tier is entered at its ratio (upwards at once, over several tiers if need be) and left only below that ratio less
    the hysteresis, so that a usage moving around a threshold does not flap.

    Args:
        enter_ratios: ascending, where MODERATE, HIGH, SEVERE and CRITICAL are entered.
    """
    entered = bisect_right(enter_ratios, ratio)
    if entered >= current:
        return Tier(entered)
    held = bisect_right([enter - hysteresis_ratio for enter in enter_ratios], ratio)
    return min(current, Tier(held))


def fill_rate(previous_rate: float, grown_bytes: int, elapsed_seconds: float) -> float:
    """Bytes per second by which memory fills: up at once with the last step, down by half a step at a time.

    A burst is followed at once; after it the watch stays close for a few looks, since bursts come in rows.
    """
    if elapsed_seconds <= 0:
        return previous_rate
    return max(grown_bytes / elapsed_seconds, previous_rate / 2, 0.0)


def next_pause(headroom_bytes: int, bytes_per_second: float, longest_seconds: float) -> float:
    """Seconds until the next look: a tenth of the time to the limit at this fill rate, within the two bounds."""
    if bytes_per_second <= 0:
        return longest_seconds
    pause = headroom_bytes / bytes_per_second / LOOKS_BEFORE_LIMIT
    return min(longest_seconds, max(SHORTEST_PAUSE_SECONDS, pause))
