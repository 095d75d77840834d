"""A pytest plugin for pytest_cost.py: of each two blocks of tests one runs without pytest_amm, in the same process.

Two runs of one suite differ by 2 to 5 % for reasons of their own; two neighbouring blocks in one process by a tenth of
that, in the median. What is taken out are the plugin objects that act while tests run. The first test of a block, which
bears the traces of that, is not counted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

_BLOCK_TESTS = 5


class EveryOtherBlock:
    """CPU seconds a test of each block, by whether pytest_amm was there, in pairs into pairs.json at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self._manager = config.pluginmanager
        self._objects: list[tuple[str, Any]] = []
        self._blocks: list[tuple[bool, list[float]]] = []
        self._count = 0

    def pytest_collection_finish(self) -> None:
        found = self._manager.list_name_plugin()
        self._objects = [(name, plugin) for name, plugin in found if plugin and name in ("amm-measure", "amm-report")]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        block, at = divmod(self._count, _BLOCK_TESTS)
        self._count += 1
        if at == 0:
            present = block % 4 in (0, 3)  # neither kind comes first more often
            self._set(present)
            self._blocks.append((present, []))
            return (yield)
        before = time.process_time()
        result = yield
        self._blocks[-1][1].append(time.process_time() - before)
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self._set(True)
        means = [(present, sum(seconds) / len(seconds)) for present, seconds in self._blocks]
        pairs = [dict(pair) for pair in zip(means[::2], means[1::2], strict=True)]
        Path("pairs.json").write_text(json.dumps([(pair[True], pair[False]) for pair in pairs]))

    def _set(self, present: bool) -> None:
        for name, plugin in self._objects:
            if self._manager.is_registered(plugin):
                self._manager.unregister(plugin)
            if present:
                self._manager.register(plugin, name)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(EveryOtherBlock(config), "every-other-block")
