"""What may import what, and what loading a part costs those who use that part only."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.api import read_configuration

import amm_exporter

ROOT = Path(__file__).parents[2]
HEAVY = ("opentelemetry", "prometheus_client", "psutil", "yaml")


def test_imports_point_down_the_layers() -> None:
    """In a process of its own: import-linter sets up logging for the whole interpreter."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_contracts_cover_every_package() -> None:
    contracts = read_configuration(str(ROOT / "pyproject.toml"))["contracts_options"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    named = {part.strip() for layer in layers for part in layer.split("|")}
    package = Path(amm_exporter.__file__).parent
    parts = {path.parent.name if path.name == "__init__.py" else path.stem for path in package.glob("*/__init__.py")}
    parts |= {path.stem for path in package.glob("*.py")} - {"__init__"}
    assert {f"amm_exporter.{part}" for part in parts} <= named


def loaded_by(code: str) -> set[str]:
    """The top-level packages in sys.modules of a fresh interpreter after this code, and its threads and callbacks."""
    report = (
        "; import sys, threading, gc, json;"
        " print(json.dumps([sorted({name.partition('.')[0] for name in sys.modules}),"
        " threading.active_count(), len(gc.callbacks)]))"
    )
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
    modules, threads, callbacks = json.loads(done.stdout)
    assert (threads, callbacks, done.stderr) == (1, 0, "")
    return set(modules)


@pytest.mark.parametrize(
    "code",
    [
        "import amm_exporter",
        "import pytest_amm.plugin",
        "import amm_exporter; amm_exporter.Tier, amm_exporter.AMMError, amm_exporter.load_policy({}, environ={})",
        "import amm_exporter.hookspecs",
        "import amm_exporter.export.names",
    ],
)
def test_a_light_import_loads_no_metrics_library(code: str) -> None:
    assert not loaded_by(code) & set(HEAVY)


@pytest.mark.parametrize("module", ["control.governor", "kit", "analysis.tiers", "probes.process"])
def test_below_export_no_metrics_library_is_loaded(module: str) -> None:
    assert not loaded_by(f"import amm_exporter.{module}") & {"opentelemetry", "prometheus_client"}


def test_a_governor_runs_without_psutil_where_there_is_proc() -> None:
    code = "import amm_exporter as amm; amm.Governor({}).start().stop()"
    assert not loaded_by(code) & {"opentelemetry", "prometheus_client", "psutil"}


def test_public_names_are_those_announced() -> None:
    assert set(dir(amm_exporter)) == set(amm_exporter.__all__)
    for name in amm_exporter.__all__:
        assert getattr(amm_exporter, name) is not None
    with pytest.raises(AttributeError, match="module 'amm_exporter' has no attribute 'nonsense'"):
        amm_exporter.nonsense  # noqa: B018 - the access is the test
