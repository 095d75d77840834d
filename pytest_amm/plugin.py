"""The pytest plugin: hooks only. Everything else is imported when an option or a marker asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_amm import settings
from pytest_amm.budget import MARKERS, has_marker

if TYPE_CHECKING:
    from pytest_amm.leakgate import LeakGate
    from pytest_amm.measure import Measurer
    from pytest_amm.toolkit import Toolkit

SETTINGS = pytest.StashKey[settings.Settings]()
STARTED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    settings.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from pytest_amm import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


@pytest.fixture
def amm(request: pytest.FixtureRequest) -> Toolkit:
    """Measure a block, check for a leak, weigh a remedy, stress in bounded chunks (docs/pytest.md)."""
    from pytest_amm.start import toolkit

    return toolkit(request.config)


def pytest_configure(config: pytest.Config) -> None:
    for text in MARKERS.values():
        config.addinivalue_line("markers", text)
    asked = settings.asked(config)
    values = config.stash[SETTINGS] = settings.read(asked)
    config.stash[STARTED] = False
    if values.active:
        _start(config, values)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A marker holds without any option: a limit that is silently ignored would be none."""
    if not config.stash[STARTED] and has_marker(items, MARKERS):
        for plugin in _start(config, config.stash[SETTINGS]):
            plugin.pytest_collection_modifyitems(items)  # registered during this hook, it is not called by it any more


def _start(config: pytest.Config, values: settings.Settings) -> tuple[Measurer, LeakGate]:
    from pytest_amm.start import start

    config.stash[STARTED] = True
    return start(config, values)
