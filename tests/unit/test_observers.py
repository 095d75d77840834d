"""What an observer shows of a governor's plain numbers."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from amm_exporter.export.observers import MAX_SETTINGS, OBSERVERS
from amm_exporter.model import Tier
from amm_exporter.policy import load_policy
from amm_exporter.probes.cache_stats import CacheStats
from amm_exporter.probes.objects import Census, TypeCount


def test_tier_changes_that_may_come_next_are_counted_from_zero() -> None:
    """So that a rate sees the first change, whichever it is."""
    governor = SimpleNamespace(tier=Tier.HIGH, transitions={(Tier.NORMAL, Tier.HIGH): 2, (Tier.HIGH, Tier.NORMAL): 1})
    shown = OBSERVERS["amm.memory.tier.transitions"](SimpleNamespace(governor=governor))  # type: ignore[arg-type] # no more is read
    counts = {(labels["from"], labels["to"]): count for count, labels in shown}
    assert counts == {
        ("normal", "high"): 2,
        ("high", "normal"): 1,
        ("high", "moderate"): 0,
        ("high", "severe"): 0,
        ("high", "critical"): 0,
    }


def actions_shown(transitions: dict, counts: dict) -> list[float]:
    governor = SimpleNamespace(transitions=transitions, actions=counts, action_freed_bytes={"trim": 0})
    view = SimpleNamespace(governor=governor)
    return [value for name in ("amm.actions", "amm.action.freed") for value, _ in OBSERVERS[name](view)]  # type: ignore[arg-type] # no more is read


def test_actions_are_counted_from_zero_when_the_first_one_may_come() -> None:
    """Not before: a process at rest has few series to spare."""
    none_yet = {("trim", "freed"): 0, ("trim", "nothing"): 0}
    assert actions_shown({}, none_yet) == []
    assert actions_shown({(Tier.NORMAL, Tier.MODERATE): 1}, none_yet) == [0, 0, 0]
    assert actions_shown({}, {("trim", "freed"): 1}) == [1, 0]


@pytest.mark.parametrize(("process", "shown"), [(object(), [(5.0, {})]), (None, [])])
def test_a_process_that_ended_is_not_shown_running(process: object, shown: list[object]) -> None:
    view = SimpleNamespace(sample=SimpleNamespace(unix_seconds=15.0, process=process), started_unix_seconds=10.0)
    assert list(OBSERVERS["process.uptime"](view)) == shown  # type: ignore[arg-type] # no more is read


def test_a_cache_without_a_bound_shows_none() -> None:
    caches = {str(most): CacheStats(entries=1, max_entries=most) for most in (9, 0, None, math.inf)}  # type: ignore[arg-type] # as cachetools has it
    shown = OBSERVERS["amm.cache.max_entries"](SimpleNamespace(caches=caches))  # type: ignore[arg-type] # no more is read
    assert [value for value, _ in shown] == [9, 0]


def test_the_settings_of_a_plan_that_have_series_are_bounded() -> None:
    numbers = {f"s{n}": {"normal": n, "high": 0} for n in range(MAX_SETTINGS + 5)}
    policy = load_policy({"plan": {"word": {"normal": "a"}} | numbers}, environ={})
    view = SimpleNamespace(governor=SimpleNamespace(policy=policy, tier=Tier.NORMAL))
    shown = [labels["setting"] for _, labels in OBSERVERS["amm.plan.value"](view)]  # type: ignore[arg-type] # no more is read
    assert shown == [f"s{n}" for n in range(MAX_SETTINGS)]


def test_objects_are_shown_while_a_census_is_taken_and_not_of_an_earlier_time() -> None:
    census = Census(types=(TypeCount(name="dict", count=7, size_bytes=1, error_count=0),), growth=(), objects_count=9,
                    sampled_ratio=1.0, seconds=0.1)  # fmt: skip

    def shown(tier: Tier, when: str) -> list[float]:
        governor = SimpleNamespace(tier=tier, policy=SimpleNamespace(census=when))
        view = SimpleNamespace(governor=governor, census=census)
        return [value for value, _ in OBSERVERS["amm.objects"](view)]  # type: ignore[arg-type] # no more is read

    assert shown(Tier.HIGH, "high") == shown(Tier.NORMAL, "always") == [7, 2]
    assert shown(Tier.MODERATE, "high") == []
