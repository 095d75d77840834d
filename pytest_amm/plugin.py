"""The pytest plugin: hooks only. Everything else is imported when an option or a marker asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_amm import settings
from pytest_amm.budget import MARKERS, has_marker

if TYPE_CHECKING:
    from pytest_amm.measure import Measurer

SETTINGS = pytest.StashKey[settings.Settings]()
STARTED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    settings.add_options(parser)


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
        measurer = _start(config, config.stash[SETTINGS])
        measurer.pytest_collection_modifyitems(items)  # registered during this hook, it is not called by it any more


def _start(config: pytest.Config, values: settings.Settings) -> Measurer:
    from pytest_amm.start import start

    config.stash[STARTED] = True
    return start(config, values)
