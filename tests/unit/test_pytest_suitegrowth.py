"""Growth from test to test, on made-up readings: a leak is told from warm-up, and the words say which."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from pytest_amm.suitegrowth import ALLOWED_BYTES, SuiteGrowth, judge, lines

KB, MB = 1024, 1 << 20


def judged(kept: Callable[[int], float], tests: int = 60) -> SuiteGrowth:
    return judge([(f"test_it[{number}]", 50 * MB + int(kept(number))) for number in range(tests)])


def test_what_each_test_leaves_behind_is_a_leak() -> None:
    growth = judged(lambda number: 200_000 * number)
    assert growth.decision == "leak"
    assert growth.lower <= growth.bytes_per_test <= growth.upper
    assert growth.bytes_per_test == pytest.approx(200_000, rel=0.01)
    assert growth.kept_bytes == 59 * 200_000


@pytest.mark.parametrize(
    "kept",
    [
        lambda number: 20 * MB * (1 - math.exp(-number / 10)),
        lambda number: 5 * MB * math.log(1 + number),
        lambda number: 3 * MB * sum(number >= first for first in (2, 5, 9, 14)),
    ],
    ids=["saturating", "logarithmic", "imports"],
)
def test_warm_up_is_none(kept: Callable[[int], float]) -> None:
    growth = judged(kept)
    assert (growth.decision, growth.kind) == ("clean", "warm-up")


@pytest.mark.parametrize(("share", "decision"), [(0.5, "clean"), (2.0, "leak")])
def test_pytest_itself_may_keep_something_of_each_test(share: float, decision: str) -> None:
    assert judged(lambda number: share * ALLOWED_BYTES * number, tests=200).decision == decision


def test_a_few_tests_decide_nothing() -> None:
    assert judged(lambda number: 200_000 * number, tests=8).decision == "undecided"
    assert judge([("test_it", MB)]).decision == "undecided"


def test_the_words_name_the_pace_and_the_tests_after_which_most_stayed() -> None:
    text = list(lines(judged(lambda number: 200 * KB * number + (MB if number > 30 else 0))))
    assert text[0].startswith("across 60 tests: leaks 2")
    assert text[1] == "   1.2 MiB  test_it[31]"
    assert next(lines(judged(lambda number: 0.0))) == "across 60 tests: no leak: 0 B stayed in all"
    assert "too few to tell a leak from warm-up" in next(lines(judged(lambda number: 0.0, tests=3)))
