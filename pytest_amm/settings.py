"""The options in force, as one value: what `options` found, read by `parsers` and checked together.

An unusable value is a `pytest.UsageError` of one line that names its source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pytest_amm.markers import markers_in_use
from pytest_amm.options import OPTIONS
from pytest_amm.parsers import parse

if TYPE_CHECKING:
    from pytest_amm.budget import DirectoryBudget

_KINDS = {option.name: option.kind for option in OPTIONS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options in force. Sizes in bytes, ratios 0 to 1; None where nothing was asked for."""

    peaks: bool = False
    budget_bytes: int | None = None
    test_budget_bytes: int | None = None
    directories: tuple[DirectoryBudget, ...] = ()
    on_breach: str = "stop"
    hard: bool = False
    isolate: bool = False
    emergency_ratio: float | None = None
    emergency_warn_ratio: float | None = 0.80
    emergency_stall_ratio: float | None = 0.40
    emergency_asked: bool = False
    json_path: str | None = None
    html_path: str | None = None
    export: str | None = None
    compare_paths: tuple[str, ...] = ()
    fail_growth_ratio: float | None = None
    leaks: bool = False
    top_count: int = 10

    @property
    def watches_host(self) -> bool:
        """Whether anything about the machine can end or warn the run."""
        ratios = (self.emergency_ratio, self.emergency_warn_ratio, self.emergency_stall_ratio)
        return any(ratio is not None for ratio in ratios)

    @property
    def has_budget(self) -> bool:
        return bool(self.budget_bytes or self.test_budget_bytes or self.directories)

    @property
    def active(self) -> bool:
        """Whether anything has to be measured. `--amm-on-breach`, `--amm-top` and the like only shade what is."""
        return bool(
            self.peaks
            or self.has_budget
            or self.emergency_asked
            or self.json_path
            or self.html_path
            or self.export
            or self.compare_paths
            or self.leaks
        )


class HardAlone:
    """`--amm-hard` with no budget of an option: which markers there are to hold is known once tests are collected.

    Said and not refused: a suite with the option in its ini file may be run in parts, some without a marker.
    """

    def pytest_report_collectionfinish(self, items: Sequence[pytest.Item]) -> str | None:
        if "amm_budget" in markers_in_use(items):
            return None
        return "amm: --amm-hard has no budget to hold: add --amm-budget, --amm-test-budget or @pytest.mark.amm_budget"


def read(asked_for: Mapping[str, tuple[str, object]]) -> Settings:
    """The values of what `asked` found. Raises pytest.UsageError with one line for the first that cannot be used."""
    values = {name: parse(_KINDS[name], source, raw) for name, (source, raw) in asked_for.items()}
    settings = _settings(values)
    _check_together(settings, asked_for)
    return settings


def _settings(values: Mapping[str, Any]) -> Settings:
    defaults = Settings()
    emergency = values.get("amm_emergency", 0.85)
    warn = min(0.80, emergency) if emergency is not None else None
    triggers = ("amm_emergency", "amm_emergency_warn", "amm_emergency_stall")
    return Settings(
        peaks=values.get("amm_peaks", False),
        budget_bytes=values.get("amm_budget"),
        test_budget_bytes=values.get("amm_test_budget"),
        directories=values.get("amm_budget_for", ()),
        on_breach=values.get("amm_on_breach", defaults.on_breach),
        hard=values.get("amm_hard", False),
        isolate=values.get("amm_isolate", False),
        emergency_ratio=emergency,
        emergency_warn_ratio=values.get("amm_emergency_warn", warn),
        emergency_stall_ratio=values.get("amm_emergency_stall", defaults.emergency_stall_ratio),
        emergency_asked=any(values.get(name) is not None for name in triggers),
        json_path=values.get("amm_json"),
        html_path=values.get("amm_html"),
        export=values.get("amm_export"),
        compare_paths=values.get("amm_compare", ()),
        fail_growth_ratio=values.get("amm_fail_growth"),
        leaks=values.get("amm_leaks", False),
        top_count=values.get("amm_top", defaults.top_count),
    )


def _check_together(settings: Settings, asked_for: Mapping[str, tuple[str, object]]) -> None:
    if settings.fail_growth_ratio is not None and not settings.compare_paths:
        source = asked_for["amm_fail_growth"][0]
        raise pytest.UsageError(f"{source}: needs a report to compare with: add --amm-compare BASE.json")
    written: dict[str, str] = {}
    files = {"amm_json": settings.json_path, "amm_html": settings.html_path, "amm_export": settings.export}
    for name, path in files.items():
        if path and written.setdefault(path, name) != name:
            other = asked_for[written[path]][0]
            raise pytest.UsageError(f"{asked_for[name][0]}: {other} writes {path} too; give each a file of its own")
    emergency, warn = settings.emergency_ratio, settings.emergency_warn_ratio
    if emergency is not None and warn is not None and warn > emergency:
        source = asked_for["amm_emergency_warn"][0]
        raise pytest.UsageError(
            f"{source}: {warn:.0%} is above the emergency stop at {emergency:.0%}; the warning has to come first"
        )
