"""How long the watchdog may look away, and what will be filled before its next look can help. No clock, no I/O."""

from __future__ import annotations

from collections.abc import Iterable

FILL_BYTES_PER_SECOND = 4 << 30
"""How fast one process can touch new memory here; the pause is what the headroom lasts at this rate."""
LONGEST_PAUSE_SECONDS = 0.01
SHORTEST_PAUSE_SECONDS = 0.001
FINEST_PAUSE_SECONDS = 0.0001
"""While the headroom is being filled: a step that ends just past the budget is seen before the next one begins."""
IDLE_PAUSE_SECONDS = 0.05
QUICK_PAUSE_SECONDS = 0.002
KILL_SECONDS = 0.002
"""How long a process still runs after a kill, beside the time until the next look."""


class Pace:
    """How fast the tree grows, and how far apart two looks really are: both count from their worst for a while."""

    def __init__(self, now: float) -> None:
        self._looked = now
        self._tree_bytes = 0
        self._gap_seconds = LONGEST_PAUSE_SECONDS
        self._bytes_per_second = 0.0

    def note(self, now: float, tree_bytes: int) -> None:
        gap_seconds, self._looked = now - self._looked, now
        grown_bytes, self._tree_bytes = max(0, tree_bytes - self._tree_bytes), tree_bytes
        self._bytes_per_second = max(0.7 * self._bytes_per_second, grown_bytes / max(gap_seconds, 1e-4))
        self._gap_seconds = max(0.9 * self._gap_seconds, gap_seconds)

    def coming_bytes(self, untouched_bytes: int) -> int:
        """What is filled until a kill decided at the next look helps: not more than what is reserved and untouched."""
        return min(untouched_bytes, round(self._bytes_per_second * (self._gap_seconds + KILL_SECONDS)))

    def pause_seconds(self, headrooms: Iterable[int], *, armed: bool, quick: bool, spent_seconds: float) -> float:
        """What the smallest headroom lasts, and nine times the work of a look. `quick`: a child or a giant call runs.

        Less only to be there when the headroom ends, at the rate of now; then once the work of a look.
        """
        least_bytes = min(headrooms, default=FILL_BYTES_PER_SECOND)
        longest = QUICK_PAUSE_SECONDS if quick else LONGEST_PAUSE_SECONDS if armed else IDLE_PAUSE_SECONDS
        lasts = least_bytes / FILL_BYTES_PER_SECOND
        pause = max(SHORTEST_PAUSE_SECONDS, min(longest, lasts), min(9 * spent_seconds, 0.02))
        if least_bytes < 0 or pause * self._bytes_per_second <= least_bytes:
            return pause
        return min(pause, max(FINEST_PAUSE_SECONDS, spent_seconds, least_bytes / self._bytes_per_second))
