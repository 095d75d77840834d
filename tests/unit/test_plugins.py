"""Hooks of other distributions: called, isolated, disconnected at stop."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from amm_exporter.control.governor import Governor
from amm_exporter.control.plugins import load_plugins, plugin_manager
from amm_exporter.hookspecs import hookimpl
from amm_exporter.model import Sample, TierChange


class Recorder:
    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.changes: list[TierChange] = []

    @hookimpl
    def amm_sample(self, sample: Sample) -> None:
        self.samples.append(sample)

    @hookimpl
    def amm_tier(self, change: TierChange) -> None:
        self.changes.append(change)


class Failing:
    @hookimpl
    def amm_sample(self) -> None:
        raise RuntimeError("not mine")


def governed(*plugins: object, limit: str = "4GB") -> Governor:
    loaders = {f"plugin{number}": (lambda plugin=plugin: plugin) for number, plugin in enumerate(plugins)}
    return Governor({"limit": limit, "signal": "process"}, plugins=lambda: plugin_manager(loaders))


def test_a_plugin_sees_samples_and_tier_changes() -> None:
    recorder = Recorder()
    with governed(recorder, limit="1MB"):
        assert recorder.samples
    assert [change.tier.name for change in recorder.changes] == ["CRITICAL"]


def test_one_that_raises_is_logged_once_and_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    with governed(Failing(), recorder, Failing()) as governor:
        governor.sample()
        governor.sample()
    assert len(recorder.samples) >= 3
    assert sum("failed" in record.message for record in caplog.records) == 2


def test_a_stopped_governor_calls_no_plugin() -> None:
    recorder = Recorder()
    governor = governed(recorder).start()
    governor.stop()
    seen = len(recorder.samples)
    governor.sample()
    governor.stop()
    assert len(recorder.samples) == seen


@pytest.mark.parametrize("broken", [lambda: 1 / 0, lambda: SimpleNamespace(amm_nothing=hookimpl(lambda: None))])
def test_a_plugin_that_cannot_be_loaded_is_left_out(broken: object, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    with caplog.at_level(logging.WARNING):
        manager = plugin_manager({"broken": broken, "good": lambda: recorder})  # type: ignore[dict-item]
    assert manager.get_plugins() == {recorder}
    assert [record.message for record in caplog.records] == ["the plugin 'broken' could not be loaded and is left out"]


def test_without_any_there_is_no_manager() -> None:
    assert load_plugins() is None
