"""The typed policy. Built by `load`; every value here has been checked."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from amm_exporter.errors import PolicyError
from amm_exporter.model import RAISED_TIERS, Tier
from amm_exporter.units import format_ratio, format_size

PlanValue = int | float | str | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """Where a tier is entered: a ratio of the limit, a size, or a multiple of the target. Exactly one is set."""

    ratio: float | None = None
    size_bytes: int | None = None
    multiple: float | None = None

    def ratio_of(self, limit_bytes: int, target_bytes: int | None) -> float:
        """The usage ratio it means under a limit; above 1 where the size is beyond the limit."""
        if self.ratio is not None:
            return self.ratio
        size = self.size_bytes if self.size_bytes is not None else (self.multiple or 0) * (target_bytes or 0)
        return size / limit_bytes if limit_bytes > 0 else 1.0

    def __str__(self) -> str:
        if self.ratio is not None:
            return format_ratio(self.ratio)
        return format_size(self.size_bytes) if self.size_bytes is not None else f"{self.multiple:g}x target"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakPolicy:
    """What counts as a leak. `window_seconds` None: the detector chooses. `series`: auto or all."""

    window_seconds: float | None
    confidence: float
    min_slope_bytes_per_second: float
    series: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyPolicy:
    """The adaptive threshold of the pressure anomaly rule: median + deviations x MAD, within floor and ceiling."""

    deviations: float
    floor_ratio: float
    ceiling_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Everything AMM decides by. `None` for a limit means auto, for a budget or target that there is none."""

    limit_bytes: int | None
    signal: str
    budget_bytes: int | None
    target_bytes: int | None
    thresholds: Mapping[Tier, Threshold]
    hysteresis_ratio: float
    interval_seconds: float
    plan: Mapping[str, Mapping[Tier, PlanValue]]
    actions: Mapping[Tier, tuple[str, ...]]
    leak: LeakPolicy
    gc_profile: str
    anomaly: AnomalyPolicy
    census: str
    evidence_directory: str
    settings: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    """Every key with its value as it was written."""
    sources: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Every key with the place its value came from."""

    def enter_ratios(self, limit_bytes: int) -> tuple[float, float, float, float]:
        """Usage ratios at which MODERATE, HIGH, SEVERE and CRITICAL are entered under this limit.

        Raises PolicyError where sizes and ratios, mixed, are out of order under it or closer than the hysteresis.
        """
        ratios = [self.thresholds[tier].ratio_of(limit_bytes, self.target_bytes) for tier in RAISED_TIERS]
        all_ratios = all(self.thresholds[tier].ratio is not None for tier in RAISED_TIERS)
        self._check_order(ratios, "" if all_ratios else f" under a limit of {format_size(limit_bytes)}")
        moderate, high, severe, critical = ratios
        return moderate, high, severe, critical

    def setting(self, name: str, tier: Tier) -> PlanValue:
        """The value of a plan setting in a tier. Raises KeyError for a setting the plan does not have."""
        return self.plan[name][tier]

    def _check_order(self, ratios: list[float], under: str) -> None:
        for (low, low_ratio), (high, high_ratio) in itertools.pairwise(zip(RAISED_TIERS, ratios, strict=True)):
            if high_ratio <= low_ratio:
                raise self._out_of_order(low, high, under)
            if high_ratio - low_ratio < self.hysteresis_ratio - 1e-9:
                raise self._too_wide(low, high, high_ratio - low_ratio, under)
        if ratios[0] <= self.hysteresis_ratio:
            raise self._error(
                "tiers.moderate",
                f"got {self.thresholds[Tier.MODERATE]}, not above the hysteresis of"
                f" {format_ratio(self.hysteresis_ratio)}{under}: normal could never be entered again;"
                " raise it or lower the hysteresis",
            )

    def _out_of_order(self, low: Tier, high: Tier, under: str) -> PolicyError:
        """Blames the one that somebody wrote, not the default it collides with."""
        blamed, other, relation = (high, low, "above")
        if self._source(f"tiers.{high.label}") == "default":
            blamed, other, relation = (low, high, "below")
        other_key = f"tiers.{other.label}"
        return self._error(
            f"tiers.{blamed.label}",
            f"got {self.thresholds[blamed]}, which is not {relation} {other_key} = {self.thresholds[other]}"
            f" ({self._source(other_key)}){under}; the order is moderate < high < severe < critical",
        )

    def _too_wide(self, low: Tier, high: Tier, gap: float, under: str) -> PolicyError:
        return self._error(
            "hysteresis",
            f"got {self.hysteresis_ratio * 100:.6g}%, wider than the gap of {gap * 100:.6g}% between"
            f" tiers.{low.label} and tiers.{high.label}{under};"
            f" use at most {gap * 100:.6g}% or move the tiers apart",
        )

    def _error(self, key: str, problem: str) -> PolicyError:
        return PolicyError(self._source(key), key, problem)

    def _source(self, key: str) -> str:
        return self.sources.get(key, "policy")
