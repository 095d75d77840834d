"""Ten thousand random values for the options and marker arguments: read as documented, or one line of refusal."""

from __future__ import annotations

import random
import string
from collections.abc import Callable

import pytest

from amm_exporter.errors import AMMError
from pytest_amm.budget import _marker_bytes as marker_bytes
from pytest_amm.leakgate import parse_rule
from pytest_amm.options import OPTIONS, Option
from pytest_amm.settings import read

PIECES = (
    *("1", "0", "-1", "1.5", "1e9", "nan", "inf", "MB", "GiB", "kb", "%", "85", "off", "stop", "fail", "warn", "true"),
    *("no", "=", "/", ",", " ", "\n", "\0", "x", "tests", ".", "..", "é", "１", "٣", "'", '"', "{", "{0}", "%s", "\\"),
    *("9" * 40, "_"),
)
OBJECTS = (None, True, False, 0, -1, 1, 2**70, 0.5, float("nan"), float("inf"), b"1MB", [], {}, (), object(), ["1MB"])
COUNTS = (1_000, pytest.param(10_000, marks=pytest.mark.slow))


def random_value(chance: random.Random) -> object:
    kind = chance.random()
    if kind < 0.2:
        return chance.choice(OBJECTS)
    if kind < 0.3:
        return "".join(chance.choices(string.printable, k=chance.randint(0, 12)))
    return "".join(chance.choices(PIECES, k=chance.randint(0, 5)))


def one_line(text: str) -> bool:
    return bool(text) and "\n" not in text and "Traceback" not in text


def refusal(fn: Callable[[], object], expected: type[Exception]) -> str | None:
    """What the function says when it refuses; None when it takes the value. Anything else it raises is a failure."""
    try:
        fn()
    except expected as error:
        return str(error)
    return None


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_an_option_takes_or_refuses_any_value_in_one_line(option: Option, count: int) -> None:
    chance = random.Random(option.name)
    refusals = []
    for _ in range(count):
        value = random_value(chance)
        refusals.append(refusal(lambda value=value: read({option.name: ("--source", value)}), pytest.UsageError))
    told = [text for text in refusals if text is not None]
    assert told
    assert [text for text in told if not one_line(text) or not text.startswith("--source")] == []


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("argument", ["max_per_call", "warmup", "confidence", "time_limit", "other"])
def test_a_marker_argument_takes_or_refuses_any_value_in_one_line(argument: str, count: int) -> None:
    chance = random.Random(argument)
    told = []
    for _ in range(count):
        value = random_value(chance)
        told.append(refusal(lambda value=value: parse_rule({argument: value}), AMMError))
    assert [text for text in told if text is not None and not one_line(text)] == []


@pytest.mark.parametrize("count", COUNTS)
def test_a_budget_marker_takes_or_refuses_any_value_in_one_line(count: int) -> None:
    chance = random.Random("amm_budget")
    told = []
    for _ in range(count):
        arguments = tuple(random_value(chance) for _ in range(chance.choice((1, 1, 1, 0, 2))))
        marker = pytest.Mark("amm_budget", arguments, {}, _ispytest=True)
        told.append(refusal(lambda marker=marker: marker_bytes("test_it", marker), pytest.UsageError))
    assert [text for text in told if text is not None and not one_line(text)] == []
    assert 0 < sum(text is None for text in told) < count
