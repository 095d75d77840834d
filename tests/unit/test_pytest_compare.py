"""Comparing runs: the noise bound, what fails, what is told."""

from __future__ import annotations

import random
from typing import Any

import pytest

from pytest_amm.compare import Change, caveats, compare, lines, noise, regressions

MB = 1 << 20


def document(growths: dict[str, int]) -> dict[str, Any]:
    return {"tests": [{"nodeid": name, "outcome": "passed", "growth_bytes": size} for name, size in growths.items()]}


def with_outcome(report: dict[str, Any], nodeid: str, outcome: str) -> dict[str, Any]:
    return {"tests": [{**test, "outcome": outcome} if test["nodeid"] == nodeid else test for test in report["tests"]]}


def jittered(seed: int, jitter: int = MB) -> dict[str, int]:
    chance = random.Random(seed)
    return {f"t{number}": 10 * MB + chance.randint(-jitter, jitter) for number in range(100)}


def changes(now: dict[str, int], *bases: dict[str, int]) -> list[Change]:
    return compare([document(base) for base in bases], document(now)["tests"])


@pytest.mark.parametrize("seed", range(20))
def test_two_runs_of_the_same_code_do_not_regress(seed: int) -> None:
    assert regressions(changes(jittered(seed), jittered(seed + 1000)), 0.1) == []


@pytest.mark.parametrize("seed", range(20))
def test_a_regression_beyond_noise_and_ratio_is_found_in_the_crowd(seed: int) -> None:
    now = jittered(seed) | {"t5": 20 * MB}
    assert [change.nodeid for change in regressions(changes(now, jittered(seed + 1000)), 0.1)] == ["t5"]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_one_of_few_tests_that_grew_is_no_noise(count: int) -> None:
    base = {f"t{number}": 40 * MB for number in range(count)}
    assert [change.nodeid for change in regressions(changes(base | {"t0": 60 * MB}, base), 0.1)] == ["t0"]


def test_a_change_below_the_ratio_does_not_fail() -> None:
    base = {f"t{number}": 100 * MB for number in range(10)}
    assert regressions(changes(base | {"t1": 105 * MB}, base), 0.1) == []
    assert len(regressions(changes(base | {"t1": 115 * MB}, base), 0.1)) == 1


def test_several_bases_widen_the_noise_of_the_test_that_differs_among_them() -> None:
    bases = ({"a": 10 * MB, "b": 10 * MB}, {"a": 10 * MB, "b": 30 * MB}, {"a": 10 * MB, "b": 12 * MB})
    now = {"a": 25 * MB, "b": 25 * MB}
    assert [change.nodeid for change in regressions(changes(now, *bases), 0.1)] == ["a"]


def test_one_improvement_is_no_noise() -> None:
    assert noise([0] * 50 + [-500 * MB]) == 256 * 1024


def test_only_tests_of_both_runs_are_compared() -> None:
    assert [change.nodeid for change in changes({"a": 1, "new": 9}, {"a": 1, "gone": 9})] == ["a"]


def test_what_could_not_be_compared_is_told() -> None:
    """A gate that compares nothing, as after a move to another directory, must not look as one that found nothing."""
    base, now = document({"a": 1, "gone": 9}), document({"a": 1, "new": 9, "newer": 9})
    assert list(caveats(base, now)) == ["not compared: 2 new or renamed here, 1 only in the base"]
    assert list(caveats(base, base)) == []
    assert list(lines([], fail_ratio=0.1, count=5)) == ["no test passed in both runs: nothing was compared"]


def test_another_python_or_system_is_told() -> None:
    base, now = ({"tests": [], "session": {"python": python, "system": "Linux"}} for python in ("3.10.9", "3.11.0"))
    assert list(caveats(base, now)) == [
        "the base is of Python 3.10 on Linux, this run of Python 3.11 on Linux: what tests take differs by that as well"
    ]
    assert list(caveats(base, base | {"session": {"python": "3.10.1", "system": "Linux"}})) == []


def test_what_is_told() -> None:
    base = {f"t{number}": 10 * MB for number in range(10)}
    assert list(lines(changes(base | {"t1": 30 * MB}, base), fail_ratio=0.1, count=5)) == [
        "    before       now    change     noise  test",
        "    10 MiB    30 MiB    20 MiB   256 KiB  t1 (more than 10%)",
        "this fails the run: 1 test grew by more than 10% and more than the noise",
    ]
    assert list(lines(changes(base, base), fail_ratio=0.1, count=5)) == [
        "no test differs by more than the noise (256 KiB here) among 10 in both runs"
    ]


def test_what_is_not_shown_is_counted() -> None:
    base = {f"t{number}": 10 * MB for number in range(10)}
    now = base | {f"t{number}": 30 * MB for number in range(3)}
    assert list(lines(changes(now, base), fail_ratio=None, count=2))[-1] == "and 1 more (all with -vv)"


def long_tailed(seed: int) -> dict[str, int]:
    """Most tests differ by little, a few by much, as where the allocator has a whole arena more or less."""
    chance = random.Random(seed)
    return {f"t{number}": 10 * MB + chance.choice((-1, 1)) * round(MB * chance.expovariate(1)) for number in range(100)}


def test_noise_with_a_long_tail_seldom_fails_a_run() -> None:
    runs = [regressions(changes(long_tailed(seed), long_tailed(seed + 1000)), 0.1) for seed in range(200)]
    assert sum(map(bool, runs)) < 20


def placed(growth: int, start: int, worker: str) -> dict[str, object]:
    return {
        "nodeid": "t",
        "outcome": "passed",
        "growth_bytes": growth,
        "worker": worker,
        "phases": [{"start_bytes": start}],
    }


@pytest.mark.parametrize(("lay_in_base", "regressed"), [(0, True), (4 * MB, True), (6 * MB, False)])
def test_what_lay_resident_before_a_test_may_have_hidden_its_need(lay_in_base: int, *, regressed: bool) -> None:
    """It ran first in its process this time, and took what it needs afresh."""
    others = [{**placed(0, 50 * MB, "gw0"), "nodeid": f"other {number}"} for number in range(20)]
    base = {"tests": [*others, placed(MB, 50 * MB + lay_in_base, "gw0")]}
    now = [*others, placed(6 * MB, 40 * MB, "gw1")]
    assert bool(regressions(compare([base], now), 0.1)) is regressed


def test_a_test_whose_process_ended_unseen_is_not_compared() -> None:
    unseen = {"tests": [{"nodeid": "t", "outcome": "passed", "growth_bytes": 0, "phases": []}]}
    assert compare([unseen], document({"t": 90 * MB})["tests"]) == []


@pytest.mark.parametrize("outcome", ["skipped", "failed"])
def test_a_test_that_did_not_do_its_work_before_has_not_regressed(outcome: str) -> None:
    """It took nothing in the base, and takes what it needs now that it is fixed or no longer skipped."""
    base = with_outcome(document({f"t{number}": 0 for number in range(10)}), "t0", outcome)
    now = document({f"t{number}": 40 * MB * (number == 0) for number in range(10)})
    assert regressions(compare([base], now["tests"]), 0.1) == []
    assert list(caveats(base, now)) == ["not compared: 1 that did not pass in both"]


def test_tests_that_failed_make_no_noise() -> None:
    """One was stopped early, which made of 5 small differences a noise that hid the regression of another."""
    base = document({f"t{number}": 10 * MB for number in range(6)} | {"stopped": 90 * MB})
    grown = {f"t{number}": 10 * MB - 4096 for number in range(5)} | {"t5": 14 * MB, "stopped": 20 * MB}
    now = with_outcome(document(grown), "stopped", "failed")
    assert [change.nodeid for change in regressions(compare([base], now["tests"]), 0.1)] == ["t5"]


def test_an_expected_failure_is_compared() -> None:
    base, now = (with_outcome(document({"t": size}), "t", "skipped") for size in (10 * MB, 30 * MB))
    assert [change.nodeid for change in regressions(compare([base], now["tests"]), 0.1)] == ["t"]
