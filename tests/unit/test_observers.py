"""What an observer shows of a governor's plain numbers."""

from __future__ import annotations

from types import SimpleNamespace

from amm_exporter.export.observers import OBSERVERS
from amm_exporter.model import Tier


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
