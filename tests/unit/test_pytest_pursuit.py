"""The ladder of a stop: which step comes when."""

from __future__ import annotations

import pytest

from pytest_amm.pursuit import ANSWER_SECONDS, PATIENCE_SECONDS, QUICK_GROWTH_BYTES, Pursuit, next_action

MB = 1 << 20


def pursuit(rungs: int = 0, scope: str = "session") -> Pursuit:
    return Pursuit(
        generation=1,
        scope=scope,
        budget_bytes=100 * MB,
        started=10.0,
        used_bytes=101 * MB,
        rungs=rungs,
    )


def action(state: Pursuit, **changes: object) -> str | None:
    values: dict[str, object] = {
        "now": 10.001,
        "used_bytes": 101 * MB,
        "answered": False,
        "signalable": True,
        "child_to_blame": False,
        "endangers": False,
    }
    return next_action(state, **{**values, **changes})  # type: ignore[arg-type]


def test_first_a_signal() -> None:
    assert action(pursuit()) == "signal"


def test_a_child_that_grew_is_killed_first() -> None:
    assert action(pursuit(), child_to_blame=True) == "child"


def test_a_process_that_takes_no_signal_is_limited_at_once() -> None:
    assert action(pursuit(), signalable=False) == "limit"


@pytest.mark.parametrize(("grown", "expected"), [(QUICK_GROWTH_BYTES, None), (QUICK_GROWTH_BYTES + 1, "limit")])
def test_growth_after_the_signal_means_c_code(grown: int, expected: str | None) -> None:
    assert action(pursuit(1), now=10.0, used_bytes=101 * MB + grown) == expected


@pytest.mark.parametrize(("answered", "expected"), [(False, "limit"), (True, None)])
def test_the_longer_there_is_no_answer_the_less_growth_means_c_code(answered: bool, expected: str | None) -> None:
    used_bytes = 101 * MB + QUICK_GROWTH_BYTES * 2 // 3
    assert action(pursuit(1), used_bytes=used_bytes) is None
    assert action(pursuit(1), answered=answered, now=10.0 + ANSWER_SECONDS / 2, used_bytes=used_bytes) == expected


@pytest.mark.parametrize(("after", "expected"), [(0.9 * ANSWER_SECONDS, None), (1.1 * ANSWER_SECONDS, "limit")])
def test_a_handler_that_does_not_answer_means_c_code(after: float, expected: str | None) -> None:
    assert action(pursuit(1), now=10.0 + after) == expected


def test_an_answered_signal_is_given_time_to_unwind() -> None:
    assert action(pursuit(1), answered=True, now=15.0, used_bytes=90 * MB) is None


def test_past_the_ceiling_it_is_killed_but_only_after_the_softer_steps() -> None:
    assert action(pursuit(), endangers=True) == "signal"
    assert action(pursuit(1), endangers=True, used_bytes=140 * MB) == "limit"
    assert action(pursuit(3), endangers=True, used_bytes=160 * MB) == "kill"


@pytest.mark.parametrize(("scope", "expected"), [("session", "kill"), ("emergency", "kill"), ("test", "signal")])
def test_a_test_over_its_own_budget_alone_is_never_killed(scope: str, expected: str) -> None:
    assert action(pursuit(3, scope), now=10.0 + PATIENCE_SECONDS + 1) == expected


def test_who_swallowed_the_exception_gets_it_again() -> None:
    assert action(pursuit(3), answered=True, now=10.2, used_bytes=102 * MB) == "signal"
    assert action(pursuit(3), answered=True, now=10.05, used_bytes=102 * MB) is None


def test_growth_is_noted_until_it_ends() -> None:
    state = pursuit()
    assert state.see(10.5, 110 * MB)
    assert not state.see(11.0, 110 * MB)
    assert not state.see(11.0, 90 * MB)
    assert (state.used_bytes, state.grew_until) == (110 * MB, 10.5)
