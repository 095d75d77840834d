"""Budgets: what one test may use, and who said so. Whether it held is judged in `breach`.

The session budget is held against the absolute peak of the process tree, a test budget against the test's own growth
above where it started. Stopping a test while it runs is in `watchdog` and `guard`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pytest

from pytest_amm.markers import nearest

MARKER = "amm_budget"


class DirectoryBudget(NamedTuple):
    """The test budget of everything under one path, relative to the rootdir. A tuple, quicker to load."""

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


class Budgets:
    """The budget of every test: its nearest marker, else the longest directory that covers it, else the common one."""

    def __init__(self, common_bytes: int | None, directories: Sequence[DirectoryBudget]) -> None:
        self._common = None if common_bytes is None else TestBudget(size_bytes=common_bytes, source="--amm-test-budget")
        self._directories = sorted(directories, key=lambda each: -len(each.path))
        self._own: dict[str, TestBudget] = {}

    def read(self, items: Iterable[pytest.Item], *, marked: bool) -> None:
        """Before the first test runs: a wrong marker is found in a second, not after an hour.

        `marked` is whether any of them has the marker. Raises pytest.UsageError for one that cannot be used.
        """
        if not marked and not self._directories:
            return
        for item in items:
            own = (_by_marker(item) if marked else None) or self._by_directory(item.nodeid)
            if own is not None:
                self._own[item.nodeid] = own

    def of(self, nodeid: str) -> TestBudget | None:
        return self._own.get(nodeid, self._common)

    def _by_directory(self, nodeid: str) -> TestBudget | None:
        for each in self._directories:
            if each.covers(nodeid):
                return TestBudget(size_bytes=each.size_bytes, source=f"amm_budget_for {each.path}")
        return None


def _by_marker(item: pytest.Item) -> TestBudget | None:
    marker = nearest(item, MARKER)
    if marker is None:
        return None
    return TestBudget(size_bytes=_marker_bytes(item.nodeid, marker), source="@pytest.mark.amm_budget")


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
