"""Budgets: what one test may use, and whether it did. Pure apart from reading a test's markers.

The session budget is held against the absolute peak of the process tree, a test budget against the test's own growth
above where it started. Stopping a test while it runs is in `watchdog` and `stopping`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pytest

MARKER = "amm_budget"
MARKERS = {
    MARKER: "amm_budget(size): how far this test may grow above where it started; overrides --amm-test-budget",
    "amm_leak": "amm_leak(max_per_call='1KB', warmup=20, confidence='99%', time_limit='8s'): "
    "run the test until it is decided whether each call leaves more than this behind",
    "amm_isolate": "amm_isolate: run this test in a forked child, so that a stop costs this test only",
}
"""Every marker of the plugin, with the line that `pytest --markers` shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryBudget:
    """The test budget of everything under one path, relative to the rootdir."""

    path: str
    size_bytes: int

    def covers(self, nodeid: str) -> bool:
        return nodeid == self.path or nodeid.startswith((self.path + "/", self.path + "::")) or self.path == "."


@dataclass(frozen=True, slots=True, kw_only=True)
class TestBudget:
    """How far a test may grow, and who said so."""

    __test__ = False

    size_bytes: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """A budget that did not hold. `scope` is session, test or emergency.

    `peak_bytes` is what is held against `budget_bytes`: for the session the absolute peak of the tree, for a test its
    growth, for an emergency the memory in use on the machine.
    """

    scope: str
    budget_bytes: int
    peak_bytes: int
    phase: str
    source: str
    stopped: bool = False
    stop_seconds: float | None = None
    """From the first look that saw the budget passed to the last that saw memory grow."""
    refused: bool = False
    """Whether a limit set beforehand refused an allocation: the peak then stays below the budget."""

    @property
    def over_bytes(self) -> int:
        return self.peak_bytes - self.budget_bytes


def judge(
    *,
    phase: str,
    tree_peak_bytes: int,
    growth_bytes: int,
    session_budget_bytes: int | None,
    test_budget: TestBudget | None,
) -> Breach | None:
    """The breach of one phase, the session's before the test's; None where both hold. Reaching a budget is allowed."""
    if session_budget_bytes is not None and tree_peak_bytes > session_budget_bytes:
        return Breach(
            scope="session",
            budget_bytes=session_budget_bytes,
            peak_bytes=tree_peak_bytes,
            phase=phase,
            source="--amm-budget",
        )
    if test_budget is not None and growth_bytes > test_budget.size_bytes:
        return Breach(
            scope="test",
            budget_bytes=test_budget.size_bytes,
            peak_bytes=growth_bytes,
            phase=phase,
            source=test_budget.source,
        )
    return None


def budget_of(
    item: pytest.Item, default_bytes: int | None, directories: Iterable[DirectoryBudget]
) -> TestBudget | None:
    """The budget of one test: its nearest marker, else the longest directory that covers it, else the default.

    Raises pytest.UsageError for a marker that cannot be used.
    """
    marker = item.get_closest_marker(MARKER)
    if marker is not None:
        return TestBudget(size_bytes=_marker_bytes(item.nodeid, marker), source="@pytest.mark.amm_budget")
    covering = [each for each in directories if each.covers(item.nodeid)]
    if covering:
        longest = max(covering, key=lambda each: len(each.path))
        return TestBudget(size_bytes=longest.size_bytes, source=f"amm_budget_for {longest.path}")
    if default_bytes is not None:
        return TestBudget(size_bytes=default_bytes, source="--amm-test-budget")
    return None


def has_marker(items: Iterable[pytest.Item], names: Iterable[str]) -> bool:
    """Whether any test, class or module carries one of the markers. Looks at each parent once: 0.3 us a test."""
    wanted = frozenset(names)
    seen: set[pytest.Collector] = set()
    for item in items:
        if any(mark.name in wanted for mark in item.own_markers):
            return True
        parent = item.parent
        while parent is not None and parent not in seen:
            seen.add(parent)
            if any(mark.name in wanted for mark in parent.own_markers):
                return True
            parent = parent.parent
    return False


def _marker_bytes(nodeid: str, marker: pytest.Mark) -> int:
    from amm_exporter.errors import UnitError
    from amm_exporter.units import SIZE_FORMS, parse_size

    where = f"{nodeid}: @pytest.mark.amm_budget"
    values = [*marker.args, *(value for key, value in marker.kwargs.items() if key == "size")]
    unknown = sorted(set(marker.kwargs) - {"size"})
    if unknown:
        raise pytest.UsageError(f"{where}: unknown argument {unknown[0]!r}; expected one size, as amm_budget('64MB')")
    if len(values) != 1:
        raise pytest.UsageError(f"{where}: got {len(values)} arguments; expected one size, as amm_budget('64MB')")
    try:
        size_bytes = parse_size(values[0])
        if size_bytes == 0:
            raise UnitError(values[0], SIZE_FORMS + ", more than zero")
    except UnitError as error:
        raise pytest.UsageError(f"{where}: {error}") from None
    return size_bytes
