"""What the runs of pytest inside tests have in common."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def only_this_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inner runs load pytest_amm and xdist, nothing else that is installed, and no variable of AMM is set."""
    for name in list(os.environ):
        if name.startswith("AMM_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_amm.plugin,xdist.plugin")
