"""The pytest plugin: hooks only. Everything else is imported when an option or a marker asks for it."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from pytest_amm import options
from pytest_amm.markers import MARKERS, markers_in_use

if TYPE_CHECKING:
    from pytest_amm.start import Parts
    from pytest_amm.toolkit import Toolkit

PARTS: pytest.StashKey[Parts | None] = pytest.StashKey()
FOREIGN: pytest.StashKey[list[int]] = pytest.StashKey()
"""The processes that whoever called pytest.main() had started before: they are not the run's to stop."""
USAGE_ERROR = "amm_usage_error"
"""Where a worker of xdist leaves what is wrong with a marker."""


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from pytest_amm import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Before conftest files can start anything."""
    early_config.stash[FOREIGN] = _children()
    if options.asked(early_config, flags=early_config.known_args_namespace):
        from pytest_amm.launch import supported

        if supported():
            from pytest_amm.mark import mark_early

            mark_early(early_config)


@pytest.fixture
def amm(request: pytest.FixtureRequest) -> Toolkit:
    """Measure a block, check for a leak, weigh a remedy, stress in bounded chunks (docs/pytest.md)."""
    from pytest_amm.start import toolkit

    return toolkit(request.config)


def pytest_configure(config: pytest.Config) -> None:
    for text in MARKERS.values():
        config.addinivalue_line("markers", text)
    config.stash[PARTS] = None
    options.check_variables()
    options.check_ini(config)
    asked = options.asked(config)
    if asked:
        from pytest_amm.settings import read

        settings = read(asked)
        if settings.hard and not settings.has_budget:
            from pytest_amm.settings import HardAlone

            config.pluginmanager.register(HardAlone(), "amm-hard-alone")
        if settings.active:
            from pytest_amm.start import start

            config.stash[PARTS] = start(config, settings)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A marker holds without any option: a limit that is silently ignored would be none."""
    used = markers_in_use(items)
    parts = config.stash[PARTS]
    if used and parts is None:
        from pytest_amm.settings import read
        from pytest_amm.start import start

        parts = config.stash[PARTS] = start(config, read(options.asked(config)))
    if parts is not None:
        parts.collected(items, used)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """A worker of xdist has no way to tell of a wrong marker: its controller says so, who would fail itself else."""
    try:
        return (yield)
    except pytest.UsageError as error:
        told: dict[str, str] = getattr(session.config, "workeroutput", {})
        if "@pytest.mark.amm_" in str(error):
            told[USAGE_ERROR] = str(error)
        raise


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    told = getattr(node, "workeroutput", {}).get(USAGE_ERROR)
    if told:
        raise pytest.UsageError(told)


def _children() -> list[int]:
    """Of this process, by all its threads; none where the system does not tell."""
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
    return found
