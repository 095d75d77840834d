"""Hooks for others. Implement them in a conftest.py or a plugin; each costs nothing while nobody does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from pytest_amm.breach import Breach
    from pytest_amm.records import Phase


def pytest_amm_sample(item: pytest.Item, phase: Phase) -> None:
    """Called after each phase of each test, in the process that ran it.

    Example, a log of what every setup costs::

        def pytest_amm_sample(item, phase):
            if phase.name == "setup":
                print(item.nodeid, phase.peak_bytes - phase.start_bytes)
    """


def pytest_amm_breach(item: pytest.Item, breach: Breach) -> None:
    """Called when a test broke a budget, before its report is made.

    Example, a heap dump at the moment it is known::

        def pytest_amm_breach(item, breach):
            if breach.over_bytes > 100 * 1024**2:
                dump_heap(item.name)
    """


def pytest_amm_report(document: dict[str, Any]) -> None:
    """Called with the whole report before it is written; what is added to it stands in the JSON file.

    Example, the commit beside the figures::

        def pytest_amm_report(document):
            document["session"]["commit"] = os.environ.get("GIT_COMMIT")
    """
