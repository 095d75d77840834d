from __future__ import annotations

import pickle

import pytest

from amm_exporter.errors import (
    LONGEST_SHOWN,
    AMMError,
    PolicyError,
    ProbeError,
    UnitError,
    did_you_mean,
    nearest,
    shown,
)


@pytest.mark.parametrize("kind", [UnitError, PolicyError, ProbeError])
def test_one_base_catches_all(kind: type[Exception]) -> None:
    assert issubclass(kind, AMMError)


def test_a_unit_error_says_what_was_got_and_expected() -> None:
    assert str(UnitError("x", "a size")) == "got 'x'; expected a size"
    assert str(UnitError("x", "a size", "write '1MB'")) == "got 'x'; expected a size; write '1MB'"


def test_a_policy_error_says_where() -> None:
    error = PolicyError("amm.yaml", "tiers.high", "got 1")
    assert str(error) == "amm.yaml: tiers.high: got 1"
    assert (error.source, error.key, error.problem) == ("amm.yaml", "tiers.high", "got 1")
    assert str(PolicyError("amm.yaml", "", "no such file")) == "amm.yaml: no such file"


@pytest.mark.parametrize("error", [UnitError("x", "a size", "a hint"), PolicyError("file", "key", "problem")])
def test_an_error_crosses_processes(error: AMMError) -> None:
    """multiprocessing and pytest-xdist pickle what is raised."""
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), vars(copy)) == (str(error), vars(error))


def test_a_long_value_is_cut_in_the_message() -> None:
    assert shown("x" * 1000) == "'" + "x" * (LONGEST_SHOWN - 1) + "..."
    assert shown("x" * (LONGEST_SHOWN - 2)) == repr("x" * (LONGEST_SHOWN - 2))


def test_an_integer_that_python_does_not_write_out_is_told_in_words() -> None:
    assert shown(1 << 20000) == "a number of more than 4300 digits"


@pytest.mark.parametrize(
    ("word", "found"), [("limt", "limit"), ("LIMIT", "limit"), ("zzz", None), ("", None), ("hysteresys", "hysteresis")]
)
def test_the_nearest_word(word: str, found: str | None) -> None:
    assert nearest(word, ["limit", "hysteresis", "interval"]) == found


def test_with_nothing_near_all_words_are_listed() -> None:
    assert did_you_mean("limt", ["limit", "target"]) == "did you mean 'limit'?"
    assert did_you_mean("zzz", ["limit", "target"]) == "accepted: limit, target"
