"""The markers of the plugin, and which of them a suite uses. Loaded by every run; what they mean is known elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

MARKERS = {
    "amm_budget": "amm_budget(size): how far this test may grow above where it started; overrides --amm-test-budget",
    "amm_leak": "amm_leak(max_per_call='1KB', warmup=20, confidence='99%', time_limit='8s'): "
    "run the test until it is decided whether each call leaves more than this behind",
    "amm_isolate": "amm_isolate: run this test in a forked child, so that a stop costs this test only",
}
"""Every marker, with the line that `pytest --markers` shows."""


def markers_in_use(items: Iterable[pytest.Item]) -> frozenset[str]:
    """Those that any test, class or module carries. Looks at each parent once: 0.3 us a test."""
    found: set[str] = set()
    seen: set[pytest.Collector] = set()
    for item in items:
        if item.own_markers:
            found.update([mark.name for mark in item.own_markers])
        parent = item.parent
        while parent is not None and parent not in seen:
            seen.add(parent)
            found.update([mark.name for mark in parent.own_markers])
            parent = parent.parent
    if any(name.startswith("amm_") and name not in MARKERS for name in found):
        _check(found)
    return frozenset(found & MARKERS.keys())


def _check(found: set[str]) -> None:
    """A misspelt one would hold nothing; pytest warns of it only. One that is near to none of ours is of others."""
    import difflib

    for name in sorted(name for name in found - MARKERS.keys() if name.startswith("amm_")):
        near = difflib.get_close_matches(name, MARKERS, 1, 0.85)
        if near:
            raise pytest.UsageError(f"@pytest.mark.{name}: unknown marker; did you mean {near[0]!r}?")


def nearest(item: pytest.Item, name: str) -> pytest.Mark | None:
    """The marker of this name that is nearest to the test: of its parameters, its function, its class, its module.

    pytest's own `get_closest_marker` has those of the function before those of `pytest.param(..., marks=...)`.
    """
    callspec = getattr(item, "callspec", None)
    of_parameters = (mark for mark in getattr(callspec, "marks", ()) if mark.name == name)
    return next(of_parameters, None) or item.get_closest_marker(name)
