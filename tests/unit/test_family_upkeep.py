"""When a process wakes up to keep the house of its family, and what it does then: nothing while it is alone."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from amm_exporter.export.complaints import Complaints
from amm_exporter.export.family_directory import FamilyError
from amm_exporter.export.family_upkeep import UPKEEP_SECONDS, FamilyUpkeep


class Timers:
    """A loop whose time the test turns."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pending: list[tuple[float, Callable[[], None]]] = []
        self.calls: list[Callable[[], None]] = []

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        self.pending.append((self.now + seconds, function))

    def call(self, function: Callable[[], None]) -> None:
        self.calls.append(function)

    def turn(self) -> None:
        """Until the next timer."""
        self.now, function = self.pending.pop()
        function()


class Member:
    """What the upkeep sees of a FamilyMember."""

    def __init__(self, *, company: bool = True) -> None:
        self.socket: object | None = object()
        self.published_at = float("-inf")
        self.company = company
        self.tidied_count = 0

    def has_company(self) -> bool:
        return self.company

    def tidy(self) -> None:
        self.tidied_count += 1


class Scene:
    def __init__(self, member: Member | None, *, serves: bool = False) -> None:
        self.loop = Timers()
        self.published_at: list[float] = []
        self.upkeep = FamilyUpkeep(
            self.loop,
            lambda: member,
            publish=self._publish,
            serves=lambda: serves,
            complaints=Complaints(),
            clock=lambda: self.loop.now,
        )
        self._member = member

    def _publish(self) -> None:
        assert self._member is not None
        self._member.published_at = self.loop.now
        self.published_at.append(self.loop.now)


def test_it_looks_after_a_while_and_publishes() -> None:
    scene = Scene(Member())
    scene.upkeep.expect_company()
    scene.loop.turn()
    assert scene.published_at == [UPKEEP_SECONDS]


def test_with_company_it_goes_on() -> None:
    scene = Scene(Member())
    scene.upkeep.expect_company()
    for _ in range(3):
        scene.loop.turn()
    assert scene.published_at == [UPKEEP_SECONDS, 2 * UPKEEP_SECONDS, 3 * UPKEEP_SECONDS]


def test_alone_it_looks_once_and_again_when_company_is_expected_anew() -> None:
    scene = Scene(Member(company=False))
    for _ in range(2):
        scene.upkeep.expect_company()
        scene.loop.turn()
        assert not scene.loop.pending
    assert not scene.published_at


@pytest.mark.parametrize("seen", [True, False])
def test_nobody_is_looked_for_by_who_cannot_be_seen(seen: bool) -> None:
    member = Member()
    member.socket = None
    scene = Scene(member if seen else None)
    scene.upkeep.expect_company()
    scene.loop.turn()
    assert not scene.loop.pending
    assert not scene.published_at


def test_company_expected_twice_is_one_timer() -> None:
    scene = Scene(Member())
    scene.upkeep.expect_company()
    scene.upkeep.expect_company()
    assert len(scene.loop.pending) == 1


def test_another_thread_leaves_the_timer_to_the_loop_and_wakes_it_only_if_there_is_none() -> None:
    scene = Scene(Member())
    scene.upkeep.soon_expect_company()
    assert not scene.loop.pending
    scene.loop.calls.pop()()
    assert len(scene.loop.pending) == 1
    scene.upkeep.soon_expect_company()
    assert not scene.loop.calls


@pytest.mark.parametrize(("age_seconds", "published"), [(UPKEEP_SECONDS - 0.1, False), (UPKEEP_SECONDS, True)])
def test_a_snapshot_that_is_young_enough_stays(age_seconds: float, published: bool) -> None:
    member = Member()
    scene = Scene(member)
    member.published_at = UPKEEP_SECONDS - age_seconds
    scene.upkeep.expect_company()
    scene.loop.turn()
    assert bool(scene.published_at) is published


@pytest.mark.parametrize("serves", [True, False])
def test_the_dead_are_buried_by_whoever_serves(serves: bool) -> None:
    member = Member()
    scene = Scene(member, serves=serves)
    scene.upkeep.expect_company()
    scene.loop.turn()
    assert member.tidied_count == int(serves)


def test_where_the_dead_cannot_be_buried_it_is_said_once_and_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise FamilyError("the lock is held")

    member = Member()
    monkeypatch.setattr(member, "tidy", fail)
    scene = Scene(member, serves=True)
    scene.upkeep.expect_company()
    with caplog.at_level(logging.WARNING):
        scene.loop.turn()
        scene.loop.turn()
    assert caplog.messages == ["processes that were killed are not taken away: the lock is held"]
    assert scene.loop.pending
