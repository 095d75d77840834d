"""Three public packages' own test suites, from their sdists, with and without a budget.

Needs the package index. Every outcome must be the same with the plugin as without it, and a budget below the heaviest
test must fail the tests that exceed it and no other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A package, what its tests need, and where they lie."""

    package: str
    needs: tuple[str, ...] = ()
    tests: str = "tests"


SUITES = (
    # pympler is left out: attrs then skips the one test that needs it
    Suite(package="attrs", needs=("hypothesis", "cloudpickle")),
    Suite(package="Jinja2", needs=("trio",)),
    Suite(package="more-itertools"),
)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment with this project in it."""
    directory = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
    python = directory / "bin" / "python"
    pip(python, "install", "-e", f"{ROOT}[pytest]", "pytest-xdist")
    return python


@pytest.fixture(scope="module", params=SUITES, ids=lambda suite: suite.package)
def suite(request: pytest.FixtureRequest, python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked sdist of one package, installed with what its tests need."""
    directory = tmp_path_factory.mktemp(request.param.package)
    pip(python, "download", "--no-binary", ":all:", "--no-deps", "-d", str(directory), request.param.package)
    (archive,) = directory.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(directory, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (unpacked,) = (path for path in directory.iterdir() if path.is_dir())
    pip(python, "install", str(unpacked), *request.param.needs)
    return unpacked


def test_same_outcomes_and_a_tight_budget_fails_exactly_what_exceeds_it(python: Path, suite: Path) -> None:
    plain = outcomes(run(python, suite, "-p", "no:amm"))
    report = suite.parent / "wide.json"
    assert outcomes(run(python, suite, "--amm-budget=1536MB", f"--amm-json={report}")) == plain
    assert outcomes(run(python, suite, "--amm-budget=1536MB", "-n2")) == plain

    peaks = sorted((test["peak_bytes"] for test in json.loads(report.read_text())["tests"]), reverse=True)
    budget = round(0.97 * peaks[0])  # below the heaviest by more than two runs differ
    tight = suite.parent / "tight.json"
    result = run(python, suite, f"--amm-budget={budget}", f"--amm-json={tight}", "--amm-on-breach=fail")
    tests = json.loads(tight.read_text())["tests"]
    over = {test["nodeid"] for test in tests if test["peak_bytes"] > budget}
    assert over
    failed_plain = {name for name, outcome in plain.items() if outcome in ("failed", "error")}
    failed = {name for name, outcome in outcomes(result).items() if outcome in ("failed", "error")}
    assert failed - failed_plain == {junit_name(nodeid) for nodeid in over} - failed_plain


def run(python: Path, suite: Path, *arguments: str) -> Path:
    """The JUnit file of one run."""
    target = suite.parent / "junit.xml"
    target.unlink(missing_ok=True)
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={target}", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "AMM_"))}
    result = subprocess.run(
        [*command, "tests"], cwd=suite, env=environment, capture_output=True, text=True, timeout=540, check=False
    )
    assert result.returncode in (0, 1), result.stdout[-3000:] + result.stderr[-3000:]
    return target


def outcomes(junit: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for case in ET.parse(junit).iter("testcase"):
        kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
        outcome = next((kind for kind in ("failure", "error", "skipped") if kind in kinds), "passed")
        name = f"{case.get('classname')}::{case.get('name')}"
        found[name] = "failed" if outcome == "failure" or found.get(name) == "failed" else outcome
    return found


def junit_name(nodeid: str) -> str:
    """How JUnit names a test: the dotted module and classes, then the function with its parameters."""
    path, _, rest = nodeid.partition("::")
    *classes, name = rest.split("[", 1)[0].split("::")
    bracket = "[" + rest.split("[", 1)[1] if "[" in rest else ""
    return ".".join([path.removesuffix(".py").replace("/", "."), *classes]) + "::" + name + bracket


def pip(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
