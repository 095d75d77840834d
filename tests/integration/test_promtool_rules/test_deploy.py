"""The example configuration of Prometheus, with the rules beside it, by promtool."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from amm_exporter.export.rules import rule_files
from amm_exporter.policy import load_policy

EXAMPLE = Path(__file__).parents[3] / "examples" / "deploy" / "prometheus.yml"


def test_prometheus_accepts_the_example(tmp_path):
    shutil.copy(EXAMPLE, tmp_path)
    (tmp_path / "rules").mkdir()
    for name, text in rule_files(load_policy({}, environ={})).items():
        (tmp_path / "rules" / name).write_text(text)
    command = ["promtool", "check", "config", str(tmp_path / EXAMPLE.name)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "rules found" in run.stdout
