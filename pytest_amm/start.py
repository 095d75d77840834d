"""Puts the plugin's working parts together once something is asked for."""

from __future__ import annotations

import time

import pytest

from pytest_amm.measure import Measurer
from pytest_amm.meter import Meter
from pytest_amm.report import Reporter
from pytest_amm.settings import Settings


def start(config: pytest.Config, settings: Settings) -> Measurer:
    """Register what this process needs: a worker of xdist measures, a plain run measures and reports."""
    worker = getattr(config, "workerinput", {}).get("workerid", "")
    manager = config.pluginmanager
    measurer = Measurer(settings, Meter(), worker=worker, session_started=time.time())
    manager.register(measurer, "amm-measure")
    if not worker:
        manager.register(Reporter(settings), "amm-report")
    return measurer
