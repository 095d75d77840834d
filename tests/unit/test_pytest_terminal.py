"""The memory section of the terminal."""

from __future__ import annotations

import dataclasses

import pytest

from pytest_amm.breach import Breach
from pytest_amm.records import Phase, Record, from_data, packed, to_data, unpack
from pytest_amm.terminal import bar, is_bad, section, shorten, tree

MB = 1 << 20


def record(name: str, growth: int, breach: Breach | None = None) -> Record:
    setup = Phase(name="setup", start_bytes=10 * MB, peak_bytes=10 * MB, end_bytes=10 * MB, tree_peak_bytes=10 * MB)
    peak = (10 + growth) * MB
    call = Phase(name="call", start_bytes=10 * MB, peak_bytes=peak, end_bytes=11 * MB, tree_peak_bytes=peak)
    return Record(nodeid=name, outcome="passed", start_seconds=0.0, seconds=0.1, phases=(setup, call), breach=breach)


def test_the_tree_is_held_against_the_budget_too() -> None:
    said = "process tree: at most 90 MiB at one time, by the watchdog's samples"
    assert tree(90 * MB, "watchdog", budget_bytes=None) == said
    assert tree(90 * MB, "watchdog", budget_bytes=100 * MB) == f"{said}, 90% of the budget of 100 MiB"


def test_rows_come_by_growth_and_the_footer_holds_the_highest_against_the_budget() -> None:
    records = [record("t.py::small", 1), record("t.py::big", 30), record("t.py::middle", 15)]
    assert list(section(records, width=80, top_count=2, budget_bytes=80 * MB)) == [
        "      peak    growth      kept            test",
        "    40 MiB    30 MiB     1 MiB  ████████  t.py::big",
        "    25 MiB    15 MiB     1 MiB  ████      t.py::middle",
        "highest: 40 MiB in call of t.py::big, 50% of the budget of 80 MiB",
    ]


def test_a_breach_is_shown_even_when_others_are_heavier() -> None:
    breach = Breach(scope="test", budget_bytes=MB, peak_bytes=2 * MB, phase="call", source="marker")
    lines = list(section([record("a", 30), record("b", 2, breach)], width=80, top_count=1, budget_bytes=None))
    assert lines[1].endswith("b (over budget)")


def test_a_breach_that_only_warns_is_told_in_words() -> None:
    breach = Breach(scope="test", budget_bytes=MB, peak_bytes=2 * MB, phase="call", source="marker")
    told = "warning: t.py::b: grew 2 MiB in call, 1 MiB over 1 MiB"
    for outcome, said in (("passed", True), ("skipped", True), ("failed", False)):
        over = dataclasses.replace(record("t.py::b", 2, breach), outcome=outcome)
        assert (told in section([over], width=80, top_count=1, budget_bytes=None)) == said


def test_a_leak_is_shown_even_when_others_are_heavier() -> None:
    leaky = dataclasses.replace(record("b", 2), leak="leak")
    lines = list(section([record("a", 30), leaky], width=80, top_count=1, budget_bytes=None))
    assert lines[1].endswith("b (leaks)")
    assert [line for line in lines if is_bad(line)] == lines[1:2]


@pytest.mark.parametrize("width", [60, 71, 72, 80, 120, 200])
def test_no_row_is_wider_than_the_terminal(width: int) -> None:
    breach = Breach(scope="test", budget_bytes=MB, peak_bytes=2 * MB, phase="call", source="marker", stopped=True)
    name = "tests/" + "long_" * 60
    for row in list(section([record(name, 3, breach), record(name, 2)], width=width, top_count=9, budget_bytes=None))[
        1:3
    ]:
        assert len(row) <= width
        assert ("█" in row) == (width >= 72)


def test_the_end_of_a_long_id_is_kept() -> None:
    assert shorten("tests/unit/test_x.py::test_y", 10) == "…y::test_y"[-10:]


def test_long_parameters_leave_room_for_the_name_of_the_function() -> None:
    assert shorten("tests/test_x.py::test_y[" + "0123456789" * 9 + "]", 20) == "…::test_y[…23456789]"


def test_wide_signs_count_as_the_two_columns_they_take() -> None:
    assert shorten("t.py::日本語", 12) == "t.py::日本語"
    assert shorten("t.py::日本語", 11) == "…py::日本語"
    assert shorten("日本語", 4) == "…語"


@pytest.mark.parametrize(("ratio", "drawn"), [(0, ""), (1, "████"), (0.5, "██"), (1 / 32, "▏"), (7, "████"), (-1, "")])
def test_bar(ratio: float, drawn: str) -> None:
    assert bar(ratio, 4) == drawn.ljust(4)


def test_a_record_crosses_process_borders_unchanged() -> None:
    breach = Breach(scope="test", budget_bytes=MB, peak_bytes=2 * MB, phase="call", source="marker")
    for each in (record("a", 3), record("b", 4, breach)):
        assert from_data(to_data(each)) == each
        assert unpack(packed(each)) == each
