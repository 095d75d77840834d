"""What pytest keeps of a test that runs: log records, output, warnings. No leak of a body that is called again.

A test that logs would lose a kilobyte a call, and its report would show the lines of ten thousand calls.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from _pytest.capture import CaptureIO, EncodedFile  # what stdout is while output is captured: in memory, in a file


class Captured:
    """What the first call left stays for its report; `forget` drops what came since. `caplog` is emptied."""

    def __init__(self, config: pytest.Config, told: list[warnings.WarningMessage]) -> None:
        plugin: Any = config.pluginmanager.getplugin("logging-plugin")
        self._logs = []
        if plugin is not None:
            kept = plugin.report_handler
            self._logs = [(plugin.caplog_handler, 0, 0), (kept, len(kept.records), kept.stream.tell())]
        outputs: list[Any] = [
            output.buffer for output in (sys.stdout, sys.stderr) if isinstance(output, (CaptureIO, EncodedFile))
        ]
        self._outputs = [(output, output.tell()) for output in outputs]
        self._told = told
        self.forget()

    def forget(self) -> None:
        for handler, count, at in self._logs:
            if len(handler.records) > count:
                del handler.records[count:]
                handler.stream.seek(at)
                handler.stream.truncate()
        for output, at in self._outputs:
            if output.tell() > at:
                output.seek(at)
                output.truncate()
        self._told.clear()


@contextmanager
def again(config: pytest.Config) -> Iterator[Captured]:
    """Around the calls after the first. The warnings of that one have been told."""
    with warnings.catch_warnings(record=True) as told:
        yield Captured(config, told)
