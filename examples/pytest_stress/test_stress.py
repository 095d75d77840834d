"""Stress under a budget: objects, widgets and sustained cycles, in chunks that adapt to the machine.

pytest --amm-budget=512MB examples/pytest_stress
"""

from __future__ import annotations

import weakref
from typing import Any

import pytest


class Widget:
    """A small thing with children and listeners that refer back to it, as in a user interface."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.children = [{"owner": self, "index": index} for index in range(10)]
        self.listeners = [lambda: self.name]


@pytest.mark.amm_budget("128MB")
def test_a_hundred_thousand_objects_come_and_go(amm: Any) -> None:
    def create_and_destroy() -> None:
        objects = [{"number": number, "text": str(number)} for number in range(100_000)]
        assert len(objects) == 100_000

    assert amm.stress(create_and_destroy, cycles=8).stable


@pytest.mark.amm_budget("32MB")
def test_a_thousand_widgets_leave_nothing(amm: Any) -> None:
    alive: weakref.WeakSet[Widget] = weakref.WeakSet()

    def show() -> None:
        for chunk in amm.batches(range(1000)):
            alive.update([Widget(f"widget {number}") for number in chunk])

    verdict = amm.stress(show, cycles=10)
    assert len(alive) == 0
    assert verdict.stable


@pytest.mark.amm_budget("64MB")
def test_thirty_sustained_cycles_settle(amm: Any) -> None:
    def cycle() -> None:
        rows = [[column * row for column in range(50)] for row in range(2000)]
        assert sum(map(len, rows)) == 100_000

    assert amm.stress(cycle, cycles=30).stable


def test_a_cache_gives_back_what_it_held(amm: Any) -> None:
    cache: dict[int, bytes] = {}

    def fill() -> None:
        cache.update((number, bytes(1_000_000)) for number in range(40))

    effect = amm.before_after(fill, cache.clear)
    assert effect.effective
    assert effect.score_ratio > 0.8


@pytest.mark.amm_leak(max_per_call="500B")
def test_formatting_does_not_leak() -> None:
    ", ".join(f"{number:>10}" for number in range(100))
