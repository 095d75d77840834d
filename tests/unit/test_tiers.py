from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amm_exporter.analysis.tiers import (
    LOOKS_BEFORE_LIMIT,
    SHORTEST_PAUSE_SECONDS,
    TierTrack,
    classify,
    fill_rate,
    next_pause,
    slack_bytes,
)
from amm_exporter.model import Reading, Tier
from amm_exporter.units import MIB

LIMIT = 1000
ENTER = (0.6, 0.7, 0.8, 0.85)
HYSTERESIS = 0.03


def tier_of(used_bytes: int, current: Tier = Tier.NORMAL) -> Tier:
    return classify(used_bytes / LIMIT, current, ENTER, HYSTERESIS)


@pytest.mark.parametrize(
    ("threshold_bytes", "below", "tier"),
    [
        (600, Tier.NORMAL, Tier.MODERATE),
        (700, Tier.MODERATE, Tier.HIGH),
        (800, Tier.HIGH, Tier.SEVERE),
        (850, Tier.SEVERE, Tier.CRITICAL),
    ],
)
def test_a_tier_is_entered_at_its_threshold_and_left_below_the_hysteresis(
    threshold_bytes: int, below: Tier, tier: Tier
) -> None:
    for current in (Tier.NORMAL, below):
        assert tier_of(threshold_bytes - 1, current) is below
        assert tier_of(threshold_bytes, current) is tier
        assert tier_of(threshold_bytes + 1, current) is tier
    assert tier_of(threshold_bytes - 30, tier) is tier
    assert tier_of(threshold_bytes - 31, tier) < tier


def test_tiers_are_skipped_upwards_at_once() -> None:
    assert tier_of(2000, Tier.NORMAL) is Tier.CRITICAL


def test_tiers_are_skipped_downwards_to_the_one_still_held() -> None:
    assert tier_of(100, Tier.CRITICAL) is Tier.NORMAL
    assert tier_of(690, Tier.CRITICAL) is Tier.HIGH
    assert tier_of(660, Tier.CRITICAL) is Tier.MODERATE


def test_without_hysteresis_the_past_does_not_matter() -> None:
    for current in Tier:
        assert classify(0.6999, current, ENTER) is Tier.MODERATE


RATIO = st.floats(0, 3)
CURRENT = st.sampled_from(Tier)
LADDER = st.lists(st.floats(0.01, 1.5), min_size=4, max_size=4, unique=True).map(sorted)
MARGIN = st.floats(0, 0.5)


@given(one=RATIO, other=RATIO, current=CURRENT, enter=LADDER, margin=MARGIN)
def test_more_use_never_means_a_lower_tier(
    one: float, other: float, current: Tier, enter: list[float], margin: float
) -> None:
    low, high = sorted((one, other))
    assert classify(low, current, enter, margin) <= classify(high, current, enter, margin)


@given(ratio=RATIO, current=CURRENT, enter=LADDER, margin=MARGIN)
def test_a_tier_is_decided_once_for_a_steady_use(
    ratio: float, current: Tier, enter: list[float], margin: float
) -> None:
    decided = classify(ratio, current, enter, margin)
    assert classify(ratio, decided, enter, margin) is decided


@given(
    centre=st.floats(0.1, 1),
    steps=st.lists(st.floats(-0.014, 0.014), min_size=2, max_size=60),
    current=CURRENT,
)
def test_a_use_that_moves_less_than_the_hysteresis_never_flaps(
    centre: float, steps: list[float], current: Tier
) -> None:
    """It may settle downwards once and rise as the use does, but never returns to a tier it has left."""
    seen = [current]
    for step in steps:
        tier = classify(centre + step, seen[-1], ENTER, HYSTERESIS)
        if tier is not seen[-1]:
            seen.append(tier)
    assert len(seen) == len(set(seen))


# -- how long


def test_a_track_counts_changes_and_time() -> None:
    track = TierTrack(100.0)
    assert track.move(105.0, Tier.NORMAL) is None
    assert track.move(110.0, Tier.SEVERE) is Tier.NORMAL
    assert track.move(112.0, Tier.NORMAL) is Tier.SEVERE
    assert track.move(113.0, Tier.SEVERE) is Tier.NORMAL
    assert track.transitions == {(Tier.NORMAL, Tier.SEVERE): 2, (Tier.SEVERE, Tier.NORMAL): 1}
    assert track.seconds_in(Tier.NORMAL, 120.0) == 11.0
    assert track.seconds_in(Tier.SEVERE, 120.0) == 9.0
    assert track.seconds_in(Tier.HIGH, 120.0) == 0.0


def test_a_clock_that_steps_back_adds_no_time() -> None:
    track = TierTrack(100.0)
    track.move(90.0, Tier.HIGH)
    assert track.seconds_in(Tier.NORMAL, 90.0) == 0.0
    assert track.seconds_in(Tier.HIGH, 80.0) == 0.0


# -- when to look again


def test_a_burst_is_followed_at_once_and_forgotten_by_halves() -> None:
    rate = fill_rate(0.0, 10 * MIB, 1.0)
    assert rate == 10 * MIB
    assert fill_rate(rate, 0, 1.0) == 5 * MIB
    assert fill_rate(rate, 40 * MIB, 2.0) == 20 * MIB


def test_a_shrinking_memory_fills_at_no_rate() -> None:
    assert fill_rate(0.0, -10 * MIB, 1.0) == 0.0


@pytest.mark.parametrize("elapsed", [0.0, -1.0])
def test_without_time_passed_the_rate_stays(elapsed: float) -> None:
    assert fill_rate(7.0, MIB, elapsed) == 7.0


def test_the_pause_shrinks_with_the_headroom() -> None:
    assert next_pause(100 * MIB, 0, 1.0) == 1.0
    assert next_pause(100 * MIB, MIB, 1.0) == 1.0
    assert next_pause(5 * MIB, MIB, 1.0) == 5 / LOOKS_BEFORE_LIMIT
    assert next_pause(0, MIB, 1.0) == SHORTEST_PAUSE_SECONDS


@given(st.integers(0, 1 << 50), st.floats(-1e12, 1e12), st.floats(0.01, 3600))
def test_a_pause_stays_within_its_bounds(headroom: int, rate: float, longest: float) -> None:
    pause = next_pause(headroom, rate, longest)
    assert min(SHORTEST_PAUSE_SECONDS, longest) <= pause <= longest


def held(used_bytes: int, limit_bytes: int) -> Reading:
    return Reading(scope="tree", used_bytes=used_bytes, limit_bytes=limit_bytes)


@pytest.mark.parametrize(
    ("readings", "enter_ratio", "slack"),
    [
        ([held(160, 640)], 0.6, 10),  # up to half of the limit
        ([held(160, 640)], 0.3, 2),  # up to the first tier
        ([held(320, 640)], 0.6, 0),
        ([held(600, 640)], 0.6, 0),
        ([held(0, 640_000), held(160, 640)], 0.6, 10),
        ([], 0.6, 0),
    ],
)
def test_a_sample_stands_while_use_moves_by_little_of_the_room(
    readings: list[Reading], enter_ratio: float, slack: int
) -> None:
    assert slack_bytes(readings, enter_ratio) == slack


@given(used=st.integers(0, 500 * MIB), seconds=st.floats(0.01, 0.99))
def test_what_moves_unseen_changes_neither_tier_nor_pause(used: int, seconds: float) -> None:
    limit = 1000 * MIB
    moved = used + slack_bytes([held(used, limit)], ENTER[0])
    assert classify(moved / limit, Tier.NORMAL, ENTER, HYSTERESIS) is Tier.NORMAL
    assert next_pause(limit - moved, fill_rate(0.0, moved - used, seconds), seconds) == seconds
