"""Ten thousand random values for every option and every marker argument: read as documented, or one line of refusal."""

from __future__ import annotations

import os
import random
import re
import string
from collections.abc import Callable, Iterable, Iterator

import pytest

from pytest_amm.budget import Budgets
from pytest_amm.isolate import Isolation
from pytest_amm.leakgate import LeakRule, rule_of
from pytest_amm.markers import MARKERS
from pytest_amm.options import BREACH_MODES, OPTIONS, Option
from pytest_amm.settings import Settings, read

PIECES = (
    "1", "0", "-1", "1.5", "1e9", "nan", "inf", "MB", "GiB", "kb", "s", "h", "%", "85", "off", "stop", "fail", "warn",
    "true", "no", "=", "/", ",", " ", "\n", "\0", "x", "tests", ".", "..", "é", "１", "٣", "'", '"', "{", "{0}", "%s",
    "\\", "9" * 40, "_", "otlp", "http://", ".prom", "[", "99%", "64MB", "1KB", "2s", __file__, os.devnull,
)  # fmt: skip
OBJECTS = (None, True, False, 0, -1, 1, 2**70, 0.5, float("nan"), float("inf"), b"1MB", [], {}, (), object(), ["1MB"])
GOOD = ("64MB", "1.5 GiB", "85%", "0.5", "stop", "otlp", "true", "tests=64MB", "report.json", "7", "off", __file__)
COUNTS = (1_000, pytest.param(10_000, marks=pytest.mark.slow))

DOCUMENTED: dict[str, Callable[[Settings], bool]] = {
    "amm_peaks": lambda found: found.peaks in (True, False),
    "amm_budget": lambda found: found.budget_bytes is not None and found.budget_bytes >= 1 << 20,
    "amm_test_budget": lambda found: found.test_budget_bytes is not None and found.test_budget_bytes > 0,
    "amm_budget_for": lambda found: all(each.path and each.size_bytes > 0 for each in found.directories),
    "amm_on_breach": lambda found: found.on_breach in BREACH_MODES,
    "amm_hard": lambda found: found.hard in (True, False),
    "amm_isolate": lambda found: found.isolate in (True, False),
    "amm_emergency": lambda found: found.emergency_ratio is None or 0 < found.emergency_ratio <= 1,
    "amm_emergency_warn": lambda found: 0 < found.emergency_warn_ratio <= 0.85,
    "amm_emergency_stall": lambda found: found.emergency_stall_ratio is None or 0 < found.emergency_stall_ratio <= 1,
    "amm_json": lambda found: is_replaceable(found.json_path),
    "amm_html": lambda found: is_replaceable(found.html_path),
    "amm_export": lambda found: bool(re.match(r"otlp$|https?://.|/.*\.prom$", found.export or "", re.DOTALL)),
    "amm_compare": lambda found: all(map(os.path.isfile, found.compare_paths)),
    "amm_fail_growth": lambda _found: False,  # alone it has nothing to compare with
    "amm_leaks": lambda found: found.leaks in (True, False),
    "amm_top": lambda found: 0 <= found.top_count <= 999_999,
}
"""What holds of the settings once one option was accepted, whatever its text was."""


def is_replaceable(path: str | None) -> bool:
    return path is not None and os.path.isabs(path) and (os.path.isfile(path) or not os.path.exists(path))


def random_value(chance: random.Random) -> object:
    kind = chance.random()
    if kind < 0.2:
        return chance.choice(OBJECTS)
    if kind < 0.3:
        return "".join(chance.choices(string.printable, k=chance.randint(0, 12)))
    if kind < 0.4:
        return chance.choice(GOOD)
    return "".join(chance.choices(PIECES, k=chance.randint(0, 5)))


def random_text(chance: random.Random) -> str:
    while not isinstance(value := random_value(chance), str):
        pass
    return value


def each_once(values: Iterable[object]) -> Iterator[object]:
    """Half of the random values are ones that were judged already."""
    seen = set()
    for value in values:
        key = type(value), repr(value)
        if key not in seen:
            seen.add(key)
            yield value


def one_line(text: str) -> bool:
    return bool(text) and len(text.splitlines()) == 1 and "Traceback" not in text


def refusal(fn: Callable[[], object]) -> str | None:
    """The line of a usage error; None when the value is taken. Anything else it raises is a failure."""
    try:
        fn()
    except pytest.UsageError as error:
        told = str(error)
    else:
        return None
    assert one_line(told)
    return told


def test_every_option_has_a_documented_domain() -> None:
    assert DOCUMENTED.keys() == {option.name for option in OPTIONS}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_an_option_takes_any_value_as_documented_or_refuses_it_in_one_line(option: Option, count: int) -> None:
    chance = random.Random(option.name)
    several = option.kind in ("directories", "paths")
    taken = 0

    def random_option() -> object:
        if several and chance.random() < 0.5:
            return [random_text(chance) for _ in range(chance.randint(1, 3))]
        return random_value(chance)

    for value in each_once(random_option() for _ in range(count)):

        def accept(value: object = value) -> None:
            nonlocal taken
            assert DOCUMENTED[option.name](read({option.name: ("--source", value)})), value
            taken += 1

        told = refusal(accept)
        assert told is None or told.startswith("--source: ")
    assert taken < count
    assert taken > 0 or option.name == "amm_fail_growth"


LEAK_ARGUMENTS: dict[str, Callable[[LeakRule], bool]] = {
    "max_per_call": lambda rule: rule.max_per_call_bytes >= 0,
    "warmup": lambda rule: 0 <= rule.warmup_count <= 1_000_000,
    "confidence": lambda rule: 0.5 < rule.confidence_ratio < 1,
    "time_limit": lambda rule: rule.time_limit_seconds >= 0,
    "other": lambda _rule: False,
}


@pytest.fixture
def item(request: pytest.FixtureRequest) -> pytest.Item:
    """One beside the test that asks for it: a run of its own for each costs more than all the values."""
    item: pytest.Item = pytest.Function.from_parent(request.node.parent, name="test_func", callobj=lambda: None)
    return item


def set_mark(item: pytest.Item, name: str, *arguments: object, **keywords: object) -> None:
    item.own_markers[:] = [pytest.Mark(name, arguments, keywords, _ispytest=True)]


def test_every_marker_and_argument_is_tried() -> None:
    named = set(re.findall(r"(\w+)=", MARKERS["amm_leak"]))
    assert named | {"other"} == LEAK_ARGUMENTS.keys()
    assert MARKERS.keys() == {"amm_budget", "amm_leak", "amm_isolate"}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("argument", LEAK_ARGUMENTS)
def test_a_leak_marker_takes_any_argument_as_documented_or_refuses_it_in_one_line(
    item: pytest.Item, argument: str, count: int
) -> None:
    chance = random.Random(argument)
    taken = 0

    def random_argument() -> object:
        return random_value(chance) if chance.random() < 0.8 else chance.randint(-5, 2_000_000)

    for value in each_once(random_argument() for _ in range(count)):
        set_mark(item, "amm_leak", **{argument: value})

        def accept(value: object = value) -> None:
            nonlocal taken
            rule = rule_of(item, every=False)
            assert rule is not None
            assert LEAK_ARGUMENTS[argument](rule), value
            taken += 1

        told = refusal(accept)
        assert told is None or "@pytest.mark.amm_leak" in told
    assert taken < count
    assert taken > 0 or argument == "other"


@pytest.mark.parametrize("count", COUNTS)
def test_a_budget_marker_takes_any_argument_as_documented_or_refuses_it_in_one_line(
    item: pytest.Item, count: int
) -> None:
    chance = random.Random("amm_budget")
    taken = 0
    for _ in range(count):
        arguments = [random_value(chance) for _ in range(chance.choice((1, 1, 1, 0, 2)))]
        names = chance.choice(((), (), ("size",), ("sizes",)))
        set_mark(item, "amm_budget", *arguments, **{name: random_value(chance) for name in names})

        def accept(arguments: object = arguments) -> None:
            nonlocal taken
            budgets = Budgets(None, ())
            budgets.read([item], marked=True)
            budget = budgets.of(item.nodeid)
            assert budget is not None
            assert budget.size_bytes > 0
            taken += 1

        told = refusal(accept)
        assert told is None or "@pytest.mark.amm_budget" in told
    assert 0 < taken < count


def test_a_marker_without_arguments_refuses_any(item: pytest.Item) -> None:
    chance = random.Random("amm_isolate")
    isolation = Isolation(None, 0, lambda: None, every=False, worker="", run_started=0.0)
    set_mark(item, "amm_isolate")
    assert refusal(lambda: isolation.read([item])) is None
    for _ in range(100):
        set_mark(item, "amm_isolate", random_value(chance))
        assert "takes no argument" in (refusal(lambda: isolation.read([item])) or "")
        set_mark(item, "amm_isolate", why=random_value(chance))
        assert "takes no argument" in (refusal(lambda: isolation.read([item])) or "")
