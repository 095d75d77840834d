"""The shared page between tests and watchdog."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pytest_amm.board import POINT_COUNT, SLOT_COUNT, Board, Header, Owner, Seen, Stop
from pytest_amm.meter import Meter
from pytest_amm.timeline import Timeline
from pytest_amm.watch import Watch


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board.create()
    yield board
    board.close()


@pytest.mark.parametrize("slot", [0, 1, SLOT_COUNT - 1])
def test_every_field_comes_back_and_touches_no_other(board: Board, slot: int) -> None:
    values = (
        Owner(os.getpid(), 7, 2**40, 2**41, 9),
        (7, 3, 11),
        "tests/test_ü.py::test_x[a-b]",
        Seen(7, 2, 2**42, 2**43, 2**41, 2**40, 2**39, 2**38, 9),
        Stop(7, "test", 2**44, 2**45, 15, 123, 1.5, 2.5, 2**46, "python3"),
    )
    board.write_owner(slot, values[0])
    board.write_answer(slot, *values[1])
    board.write_name(slot, values[2])
    board.write_seen(slot, values[3])
    board.write_stop(slot, values[4])
    assert (board.owner(slot), board.answer(slot), board.name(slot), board.seen(slot), board.stop(slot)) == values
    assert board.slots() == [slot]
    header = Header(1, 2, 1, 850_000, 10)
    board.write_header(header)
    assert board.header() == header
    assert (board.tightest(), board.tree_peak_source) == ((0, 0), "samples")
    board.write_tightest(1, 812_345)
    board.write_tree_peak_source(cgroup=True)
    assert (board.tightest(), board.tree_peak_source) == ((1, 812_345), "cgroup")
    assert (board.refusals_hidden, board.host_settings()) == (False, "")
    board.hide_refusals()
    board.write_host_settings("ü" * 6000)
    assert (board.refusals_hidden, board.host_settings()) == (True, "ü" * 6000)
    assert board.owner(slot) == values[0]
    assert not board.ended
    board.end()
    assert board.ended


def test_a_long_test_id_is_cut_and_stays_text(board: Board) -> None:
    board.write_name(3, "ü" * 1000)
    assert board.name(3).startswith("ü" * 199)
    assert board.stop(3).rungs == 0


@pytest.mark.parametrize("name", ["t.py::t", "t" * 1000, "ü" * 1000, "t" + "ü" * 1000, "\udc80" * 500])
def test_a_test_is_known_by_what_was_kept_of_its_id(board: Board, name: str) -> None:
    board.write_name(3, name)
    assert board.is_named(3, name)
    assert not board.is_named(3, f"another {name}")


def test_another_process_sees_the_same_page(board: Board) -> None:
    board.write_name(5, "here")
    other = Board.open(board.path)
    assert other.name(5) == "here"
    other.close()


def test_the_timeline_stays_within_its_points_and_keeps_the_highest(board: Board) -> None:
    timeline = Timeline(board, interval_seconds=0.01)
    for tick in range(POINT_COUNT * 5):
        timeline.add(tick * 0.01, 999 if tick == 4321 else 1)
    points = board.points()
    assert len(points) <= POINT_COUNT
    assert max(size for _, size in points) == 999
    assert points == sorted(points)


@pytest.mark.parametrize(
    ("used_ppm", "stall_ppm", "stalls_told"),
    [(850_000, 0, False), (849_000, 410_000, True), (300_000, 390_000, True)],
    ids=["only the ratio", "only the stalls", "the stalls, which have passed since"],
)
def test_an_emergency_speaks_of_stalls_only_where_the_ratio_was_not_it(
    board: Board, used_ppm: int, stall_ppm: int, stalls_told: bool
) -> None:
    board.write_host_settings('{"emergency_ratio": 0.85, "stall_ratio": 0.4}')
    board.write_header(Header(1, 2, 2, used_ppm, stall_ppm))
    meter = Meter()
    words = Watch(board, 1, meter).host_words
    meter.close()
    assert words.startswith(f"{used_ppm / 1e4:g}% of the memory of this machine or container in use")
    assert ("every task stood still for memory" in words) is stalls_told
