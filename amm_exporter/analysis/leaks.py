"""Is this series leaking? A streaming detector, one for each series of bytes over time. Pure: samples in, verdict out.

The past is kept in a pyramid of blocks (`pyramid`). As the record grows, its whole life and recent stretches of it are
examined (`windows`), and the odds of a leak over the best bounded explanation are summed as in Page's CUSUM (1954,
Biometrika 41): a verdict turns when they have added up, not at the first lucky look. What a verdict says in words is
`verdicts`; where the growth sits (types, sites) is `growth`; leaks per call are `per_call`.

Measured against the rules in use today by `python -m benchmarks.leaks`; docs/leaks.md holds the table.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from amm_exporter.analysis.grid import POINTS
from amm_exporter.analysis.normal import normal_quantile
from amm_exporter.analysis.pyramid import Block, Pyramid
from amm_exporter.analysis.trend import STILL_GROWING
from amm_exporter.analysis.verdicts import LeakSettings, Verdict, exhaustion, undecided, verdict_of
from amm_exporter.analysis.windows import LEAST_RISE, SHORTEST_SECONDS, Demand, Finding, examine

__all__ = ["LeakDetector", "LeakSettings", "Verdict"]

LARGEST = 2.0**63
"""Sizes and times beyond this are no measurements."""

ODDS_OLD, ODDS_FRESH, ODDS_SLOWING = 2.0, 12.0, 14.0
"""Lead in Schwarz's criterion that counts for a leak at 99 % confidence: growth since the start of the record, growth
after a calm stretch, and growth that was faster before. With these and the next ones the share of innocents that are
ever flagged and the delay are traded for each other: `python -m benchmarks.leaks`."""

WAIT_SAMPLES, WAIT_ODDS = 48, 150.0
"""Programs fill what they will keep when they start, at first in a straight line: of shorter records are asked odds
that only a leak without noise brings."""

QUICK_SECONDS, QUICK_SAMPLES = 1.25, 40
"""Where samples are no further apart than this, `settle_seconds` have let a start pass, and fewer of them will do."""

YOUNG_SAMPLES, YOUNG_PACE, YOUNG_DOWN = 256, 0.8, 4.0
"""Up to here the last third must keep this share of the pace to raise a verdict, and two bad looks withdraw it: what
fills is about to end."""

LONG_SAMPLES = 4096
"""Beyond this a look costs nothing beside the samples between two of them: there are four times as many."""

RAISE, MOST, STEP_UP, STEP_DOWN = 4.0, 8.0, 3.0, 3.0
"""The sum of leads at which a verdict is raised (it falls at 0), its ceiling, and the most one look adds or takes."""

TREND_LOOKS = 1.0
"""The trend's t must be this many times the normal quantile. The contest asks more of whatever passes."""

PATIENCE, PATIENCE_ENDS, PATIENCE_LOOKS = 3.0, 24.0, 2.0
"""What fills is the less likely still to fill the longer it has. Growth that lasted longer than `slow_after_seconds`
gets odds for it, PATIENCE times the logarithm of how many times longer, up to so many times (three days of three
hours), if its trend is certain by so many times the normal quantile: noise with a long memory is not."""

OVERWHELMING = 15.0
"""A lead that needs no second look, unless the record is young."""

RESTART_SHARE, RESTART_SAMPLES = 0.5, 112
"""After a restart the new life must have grown by this share of the old, over so many samples, to be judged by itself.
One tooth of a saw among many never is."""

FINEST_GLANCE = 3
"""Recent growth is looked for in stretches of 32 blocks of at least 2**3 samples."""

UNSEEN = Finding(because="flat")
"""Stands for what a look at a flat record would find, until somebody asks for the verdict."""


class LeakDetector:
    """Feed it `add(t_seconds, value_bytes)`; ask `verdict()` whenever you like, also from another thread.

    Times may be irregular, repeat or jump (a clock that is set back is taken to have stood still), values may be any
    finite numbers; what is not finite is ignored. State is O(log n), a sample costs O(1) on average.
    """

    __slots__ = (
        "_clock_shift", "_demands", "_finding", "_first_time", "_known", "_last_time", "_leaking", "_level",
        "_pyramid", "_quantile", "_seen", "_shown", "_sum", "settings",
    )  # fmt: skip

    def __init__(self, settings: LeakSettings | None = None) -> None:
        self.settings = settings or LeakSettings()
        self._pyramid = Pyramid()
        self._clock_shift = 0.0
        self._first_time = 0.0
        self._last_time = -math.inf
        self._level = 0
        self._sum = 0.0
        self._leaking = False
        self._finding: Finding | None = None
        self._seen: list[Block] = []
        self._shown: tuple[bool, Finding | None] = (False, None)  # in one piece, for threads that ask meanwhile
        self._known: tuple[object, Verdict] | None = None
        self._demands = _demands(self.settings)
        self._quantile = normal_quantile(self.settings.confidence)

    def add(self, t_seconds: float, value_bytes: float) -> None:
        """One sample. Amortised a few microseconds; looks at the record each time it has grown by about a tenth."""
        if not (-LARGEST < t_seconds < LARGEST and -LARGEST < value_bytes < LARGEST):
            return
        time = t_seconds + self._clock_shift
        if time < self._last_time:
            self._clock_shift += self._last_time - time
            time = self._last_time
        self._last_time = time
        pyramid = self._pyramid
        pyramid.add(time, value_bytes)
        count = pyramid.count
        if count >= POINTS:
            if count & (self._pause(count) - 1) == 0:
                self._look()
            elif count & ((16 << FINEST_GLANCE) - 1) == 0:
                self._glance()
        elif count == 1:
            self._first_time = time

    def _pause(self, count: int) -> int:
        """Samples between two looks, a power of two: fewer while a verdict is in the making, or young."""
        if count >= LONG_SAMPLES:
            return 1 << self._level
        soon = 0.0 < self._sum < RAISE or (self._leaking and count < YOUNG_SAMPLES)
        return (2 if soon else 4) << self._level

    @property
    def leaking(self) -> bool:
        """The verdict's first word, at the cost of reading an attribute."""
        return self._leaking

    def verdict(self, headroom_bytes: int | None = None) -> Verdict:
        """What the last look found. `headroom_bytes` adds the time until so much is taken. A few microseconds."""
        count, recent = self._pyramid.count, list(self._pyramid.level(0))
        span = max(0.0, self._last_time - self._first_time) if count else 0.0
        leaking, finding = shown = self._shown
        if finding is None:
            return undecided(recent, self.settings, count, span)
        known = self._known
        if known is None or known[0] is not shown:
            if finding is UNSEEN:
                finding = examine(self._seen, None, self._demands["grown"])
            known = self._known = shown, verdict_of(finding, leaking, recent, self._clock_shift, self.settings)
        left = exhaustion(known[1].slope, headroom_bytes) if leaking else None
        return replace(known[1], sample_count=count, span_seconds=span, exhaustion_seconds=left)

    def _life(self) -> list[Block]:
        """At least 32 blocks over the window (or everything); sets the level they are from."""
        window = self.settings.window_seconds
        if window is None:
            self._level = (self._pyramid.count // POINTS).bit_length() - 1
            return list(self._pyramid.level(self._level))
        self._level, blocks = self._pyramid.since(self._last_time - window)
        if len(blocks) < POINTS:
            blocks = list(self._pyramid.level(self._level))[-POINTS:]
        return blocks

    def _look(self) -> None:
        """Examine life and recent stretches, best reason first, and add the lead to the sum."""
        life = self._life()
        lead = -YOUNG_DOWN if self._pyramid.count < YOUNG_SAMPLES else -STEP_DOWN
        if self._is_flat():
            self._seen = life
            self._turn(lead, UNSEEN)
            return
        at_once = RAISE if self._pyramid.count >= YOUNG_SAMPLES else STEP_UP
        best = first = None
        for blocks, older, samples in self._stretches(life):
            finding = examine(blocks, older, self._demand(samples))
            first = first or finding
            found = self._lead(finding)
            lead = max(lead, min(found, STEP_UP) if found < OVERWHELMING else at_once)
            if found >= 0.0:
                best = finding
                break
        self._turn(lead, best or first)

    def _is_flat(self) -> bool:
        """Whether no stretch can hold a rise worth a look (see `examine`): the common case, at a tenth of the price."""
        for level in range(self._level + 1):
            means = [block[1] for block in self._pyramid.level(level)]
            if max(means) - min(means) >= LEAST_RISE * self.settings.min_growth_bytes:
                return False
        return True

    def _demand(self, samples: int) -> Demand:
        if samples >= YOUNG_SAMPLES:
            return self._demands["grown"]
        if self._leaking:
            return self._demands["held"]
        quick = self._last_time - self._first_time <= QUICK_SECONDS * samples
        return self._demands["young" if samples >= (QUICK_SAMPLES if quick else WAIT_SAMPLES) else "new"]

    def _glance(self) -> None:
        """Between the looks of a long life: has something new begun in the last few blocks?"""
        pyramid, life = self._pyramid, self._pyramid.level(self._level)
        count = pyramid.count
        for level in range(FINEST_GLANCE, self._level - 2):
            if count & ((16 << level) - 1):
                break
            blocks = list(pyramid.level(level))[-POINTS:]
            older = [block for block in life if block[0] < blocks[0][0]]
            high = max((block[1] for block in older), default=math.inf)  # none where the clock stands still
            if (blocks[-1][1] + blocks[-2][1]) / 2 - high < self.settings.min_growth_bytes:
                continue
            finding = examine(blocks, older, self._demands["grown"])
            lead = self._lead(finding)
            if lead >= 0.0:
                self._turn(min(lead, STEP_UP), finding)
                return

    def _lead(self, finding: Finding) -> float:
        """By how much the odds exceed what is asked; -inf for a look that never came to a contest, or came too soon."""
        if finding.lead is None or self._is_slow(finding) or self._is_settling(finding):
            return -math.inf
        return finding.lead + self._patience(finding)

    def _patience(self, finding: Finding) -> float:
        slow_after = self.settings.slow_after_seconds
        lasted = self._last_time - finding.onset_seconds
        if finding.fresh or lasted <= slow_after or finding.trend_t < PATIENCE_LOOKS * self._quantile:
            return 0.0
        return PATIENCE * math.log(min(lasted / max(slow_after, SHORTEST_SECONDS), PATIENCE_ENDS))

    def _is_slow(self, finding: Finding) -> bool:
        settings = self.settings
        lasted = self._last_time - finding.onset_seconds
        return finding.slope < settings.min_slope and lasted < settings.slow_after_seconds

    def _is_settling(self, finding: Finding) -> bool:
        """A program loads when it starts, and later too: a tooth of a saw takes seconds."""
        return self._last_time - max(self._first_time, finding.onset_seconds) < self.settings.settle_seconds

    def _turn(self, lead: float, finding: Finding | None) -> None:
        self._sum = min(MOST, max(0.0, self._sum + lead))
        if self._sum >= RAISE:
            self._leaking = self._leaking or lead >= 0.0
        elif self._sum <= 0.0:
            self._leaking = False
        if lead >= 0.0 or not self._leaking or self._finding is None:
            self._finding = finding
        self._shown = (self._leaking, self._finding)

    def _stretches(self, life: list[Block]) -> Iterator[tuple[list[Block], list[Block] | None, int]]:
        """Stretches to examine, what lies before them, and how many samples their story has."""
        pyramid = self._pyramid
        yield life, None, len(life) << self._level
        recent = [life[-POINTS:]] if len(life) > POINTS else []
        finest = FINEST_GLANCE if self._level > FINEST_GLANCE + 2 else max(0, self._level - 2)
        recent += [list(pyramid.level(level))[-POINTS:] for level in range(self._level - 1, finest - 1, -1)]
        for blocks in recent:
            older = [block for block in life if block[0] < blocks[0][0]]
            if len(older) >= 4:
                yield blocks, older, pyramid.count
        restart = _only_restart(life)
        if restart is not None:
            level, blocks = pyramid.since(restart[0])
            enough = len(blocks) << level >= RESTART_SAMPLES and len(blocks) >= POINTS
            if enough and life[-1][1] - min(block[1] for block in blocks) > RESTART_SHARE * restart[1]:
                yield blocks, None, len(blocks) << level


def _demands(settings: LeakSettings) -> dict[str, Demand]:
    """What is asked of a record by its age, and while a verdict on a young one stands."""
    confidence = settings.confidence
    extra = math.log(confidence / (1.0 - confidence) / 99.0)
    grown = Demand(
        growth_bytes=settings.min_growth_bytes,
        growth_ratio=settings.min_growth_ratio,
        trend_t=TREND_LOOKS * normal_quantile(confidence),
        odds_old=ODDS_OLD + extra,
        odds_fresh=ODDS_FRESH + extra,
        odds_slowing=ODDS_SLOWING + extra,
        pace=STILL_GROWING,
        doubts=1.0,
    )
    young = replace(grown, pace=YOUNG_PACE, doubts=0.0)
    odds = WAIT_ODDS + extra
    new = replace(young, odds_old=ODDS_OLD + odds, odds_fresh=ODDS_FRESH + odds, odds_slowing=ODDS_SLOWING + odds)
    return {"grown": grown, "young": young, "new": new, "held": replace(grown, doubts=0.0)}


def _only_restart(life: list[Block]) -> tuple[float, float] | None:
    """Time of the one fall by over half of all that had been gained, and that gain; None if there are more: a saw."""
    low = high = life[0][1]
    last = len(life) - 1
    found: tuple[int, float] | None = None
    for index in range(1, len(life)):
        before = life[index - 1][1]
        if before > high:
            high = before
        after = min(life[index][1], life[min(index + 1, last)][1])
        if high > low and before - after > 0.5 * (high - low) and before - after > 0.02 * before:
            if found is not None and index > found[0] + 2:
                return None
            found = index, high - low
    return None if found is None else (life[min(found[0] + 1, len(life) - 1)][0], found[1])
