"""How long the watchdog looks away, and what it expects to come meanwhile."""

from __future__ import annotations

import pytest

from pytest_amm.pace import FILL_BYTES_PER_SECOND, KILL_SECONDS, Pace

MIB = 1 << 20


@pytest.mark.parametrize(
    ("headrooms", "armed", "quick", "spent", "expected"),
    [
        ([], False, False, 0.0, 0.05),
        ([], True, False, 0.0, 0.01),
        ([8 << 30], True, False, 0.0, 0.01),
        ([8 << 30], True, True, 0.0, 0.002),
        ([8 << 30, FILL_BYTES_PER_SECOND // 200], True, False, 0.0, 0.005),
        ([1], True, False, 0.0, 0.001),
        ([-5 * MIB], True, False, 0.0, 0.001),
        ([1], True, False, 0.001, 0.009),
        ([1], True, True, 1.0, 0.02),
    ],
)
def test_it_looks_away_for_what_the_headroom_lasts(
    headrooms: list[int], armed: bool, quick: bool, spent: float, expected: float
) -> None:
    pause_seconds = Pace(0.0).pause_seconds(headrooms, armed=armed, quick=quick, spent_seconds=spent)
    assert pause_seconds == pytest.approx(expected)


@pytest.mark.parametrize(
    ("headroom", "spent", "expected"),
    [
        (8 * MIB, 0.0, 0.002),
        (MIB // 2, 0.0, 0.00025),
        (MIB // 2, 0.0003, 0.0003),
        (0, 0.0, 0.0001),
        (-1, 0.0, 0.001),
    ],
)
def test_it_is_there_when_what_grows_now_has_filled_the_headroom(headroom: int, spent: float, expected: float) -> None:
    pace = Pace(0.0)
    pace.note(1.0, 2000 * MIB)
    found = pace.pause_seconds([headroom], armed=True, quick=False, spent_seconds=spent)
    assert found == pytest.approx(expected, rel=0.03)


def test_what_comes_is_the_rate_over_the_gap_but_only_what_is_reserved() -> None:
    pace = Pace(0.0)
    for tick in range(1, 60):
        pace.note(tick * 0.002, tick * 4 * MIB)
    expected = 2000 * MIB * (0.002 + KILL_SECONDS)
    assert pace.coming_bytes(1 << 40) == pytest.approx(expected, rel=0.1)
    assert pace.coming_bytes(3 * MIB) == 3 * MIB
    assert pace.coming_bytes(0) == 0


def test_a_late_look_makes_it_careful_and_shrinking_does_not_count_as_growth() -> None:
    pace = Pace(0.0)
    for tick in range(1, 60):
        pace.note(tick * 0.002, tick * 4 * MIB)
    calm = pace.coming_bytes(1 << 40)
    pace.note(59 * 0.002 + 0.05, 59 * 4 * MIB + 100 * MIB)
    assert pace.coming_bytes(1 << 40) > 5 * calm
    for tick in range(100):
        pace.note(1.0 + tick * 0.002, 10 * MIB)
    assert pace.coming_bytes(1 << 40) < MIB
