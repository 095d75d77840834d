"""The Alertmanager example, by amtool: valid, and CRITICAL goes straight to the pager."""

from __future__ import annotations

import subprocess

import pytest

from amm_exporter.export.rules import alertmanager_example


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "alertmanager.yml"
    path.write_text(alertmanager_example(), encoding="utf-8")
    return path


def amtool(*arguments):
    return subprocess.run(["amtool", *arguments], capture_output=True, text=True, check=False)


def test_it_is_valid(config):
    run = amtool("check-config", str(config))
    assert run.returncode == 0, run.stderr
    assert "3 inhibit rules" in run.stdout


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (("alertname=AmmMemoryCritical", "severity=critical"), "pager"),
        (("alertname=AmmMemoryHigh", "severity=warning"), "default"),
        (("alertname=Other", "severity=critical"), "default"),
    ],
)
def test_critical_alerts_go_to_the_pager(config, labels, receiver):
    run = amtool("config", "routes", "test", f"--config.file={config}", f"--verify.receivers={receiver}", *labels)
    assert run.returncode == 0, run.stdout + run.stderr
