"""Lets go of what fixtures returned before it is read what a test kept: pytest holds it until its reports are made."""

from __future__ import annotations

import pytest

from amm_exporter.units import MIB

TELLS_BYTES = MIB
"""What seems kept is worth a second reading from here on: it takes 0.1 ms where a test has swept the caches."""


def let_go(item: pytest.Item, plugin: object) -> bool:
    """Whether something was: not where others may still look at it.

    pytest itself does it next, once the report of the teardown is made and told; nobody is handed the test in between
    but the wrappers of `pytest_runtest_makereport` around that of `plugin`.
    """
    values: dict[str, object] | None = getattr(item, "funcargs", None)
    if not values or not _is_last(item, plugin):
        return False
    values.clear()
    return True


def _is_last(item: pytest.Item, plugin: object) -> bool:
    """Whether all that are called around `plugin` are of this package."""
    for each in reversed(item.ihook.pytest_runtest_makereport.get_hookimpls()):
        if each.plugin is plugin:
            return True
        if not type(each.plugin).__module__.startswith("pytest_amm."):
            return False
    return False
