"""The documentation says what is: every option and marker is in it, and the examples run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pytest_amm.markers import MARKERS
from pytest_amm.options import OPTIONS

ROOT = Path(__file__).parents[2]


def test_every_option_and_marker_is_documented() -> None:
    text = (ROOT / "docs" / "pytest.md").read_text()
    for option in OPTIONS:
        assert f"`{option.flag}" in text, option.flag
    for marker in MARKERS:
        assert marker in text


def test_every_documented_flag_exists() -> None:
    import re

    known = {option.flag for option in OPTIONS}
    for page in ("pytest.md", "what-the-numbers-mean.md"):
        assert set(re.findall(r"--amm-[a-z-]+", (ROOT / "docs" / page).read_text())) <= known


def test_the_example_passes_under_its_budgets() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AMM_", "PYTEST_"))}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "pytest_amm.plugin"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--amm-budget=512MB", "-c", os.devnull]
    result = subprocess.run(
        [*command, "--rootdir", str(ROOT / "examples"), str(ROOT / "examples" / "pytest_stress")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3000:]
    assert "5 passed" in result.stdout
