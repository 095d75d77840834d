"""A pytest plugin for pytest_cost.py: of each two tests one runs without pytest_amm, in the same process.

Two runs of one suite differ by 2 to 5 % for reasons of their own; two neighbours in one process by a tenth of that, in
the median. What is taken out are the plugin objects that act while tests run. Before each test they are all taken out,
those that shall act put back, and memory beyond the processor's caches written, so that both kinds begin alike.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

_BEYOND_CACHES_BYTES = 8 << 20


class EveryOtherTest:
    """CPU seconds of each test, by whether pytest_amm was there, into pairs.json at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self._manager = config.pluginmanager
        self._objects: list[tuple[str, Any]] = []
        self._pairs: list[dict[bool, float]] = []
        self._count = 0

    def pytest_collection_finish(self) -> None:
        found = self._manager.list_name_plugin()
        self._objects = [(name, plugin) for name, plugin in found if plugin and name in ("amm-measure", "amm-report")]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        present = self._count % 4 in (0, 3)  # neither kind comes first more often
        self._set(present)
        if self._count % 2 == 0:
            self._pairs.append({})
        self._count += 1
        before = time.process_time()
        result = yield
        self._pairs[-1][present] = time.process_time() - before
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self._set(True)
        pairs = [(pair[True], pair[False]) for pair in self._pairs if len(pair) == 2]
        Path("pairs.json").write_text(json.dumps(pairs))

    def _set(self, present: bool) -> None:
        for name, plugin in self._objects:
            if self._manager.is_registered(plugin):
                self._manager.unregister(plugin)
            if present:
                self._manager.register(plugin, name)
        assert len(b"1" * _BEYOND_CACHES_BYTES)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(EveryOtherTest(config), "every-other-test")
