"""Five public packages' own test suites, with and without a budget.

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
    """A package, what its tests need, and where they lie: in its sdist, or with `installed` in its wheel."""

    package: str
    needs: tuple[str, ...] = ()
    tests: tuple[str, ...] = ("tests",)
    installed: bool = False
    options: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()


SUITES = (
    # pympler is left out: attrs then skips the one test that needs it
    Suite(package="attrs", needs=("hypothesis", "cloudpickle")),
    Suite(package="Jinja2", needs=("trio",)),
    Suite(package="more-itertools"),
    # its tests that look for hosts of the internet may fail, the same with the plugin as without it
    Suite(package="requests", needs=("PySocks", "httpbin~=0.10", "pytest-httpbin==2.1.0", "pytest-mock", "trustme")),
    Suite(
        package="numpy",
        needs=("hypothesis",),
        installed=True,
        tests=tuple(
            f"numpy/{part}"
            for part in ("_core/tests/test_numeric.py", "lib/tests", "linalg/tests", "fft/tests", "polynomial/tests")
        ),
        # as numpy.test() does; without tests whose peak is a matter of how many of 16 threads run at one time
        options=("-m", "not slow", "-k", "not ThreadSafe"),
        # else it asks the machine, and another number of tests is skipped
        variables=(("NPY_AVAILABLE_MEM", "1GB"), ("OPENBLAS_NUM_THREADS", "1")),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A suite that is ready to run: its interpreter, the directory to start it in, where results may go."""

    suite: Suite
    python: Path
    directory: Path
    results: Path


@pytest.fixture(scope="module", params=SUITES, ids=lambda suite: suite.package)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A new environment with this project, one package, and what its tests need: they bring plugins of their own."""
    suite: Suite = request.param
    results = tmp_path_factory.mktemp(suite.package)
    environment = results / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    pip(python, "install", "-e", f"{ROOT}[pytest]", "pytest-xdist", *suite.needs)
    if suite.installed:
        pip(python, "install", suite.package)
        (directory,) = environment.glob("lib/python*/site-packages")
    else:
        directory = unpacked_sdist(python, suite.package, results / "sdist")
        pip(python, "install", str(directory))
    return Place(suite=suite, python=python, directory=directory, results=results)


def unpacked_sdist(python: Path, package: str, target: Path) -> Path:
    pip(python, "download", "--no-binary", ":all:", "--no-deps", "-d", str(target), package)
    (archive,) = target.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(target, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (unpacked,) = (path for path in target.iterdir() if path.is_dir())
    return unpacked


def test_same_outcomes_and_a_tight_budget_fails_exactly_what_exceeds_it(place: Place) -> None:
    plain = outcomes(run(place, "-p", "no:amm"))
    assert len(plain) > 500
    report = place.results / "wide.json"
    assert outcomes(run(place, "--amm-budget=1536MB", f"--amm-json={report}")) == plain
    assert outcomes(run(place, "--amm-budget=1536MB", "-n2")) == plain

    peaks = sorted((test["peak_bytes"] for test in json.loads(report.read_text())["tests"]), reverse=True)
    budget = round(0.9 * peaks[0])  # below the heaviest by more than two runs differ: threads make it 3 %
    tight = place.results / "tight.json"
    result = run(place, f"--amm-budget={budget}", f"--amm-json={tight}", "--amm-on-breach=fail")
    tests = json.loads(tight.read_text())["tests"]
    over = {test["nodeid"] for test in tests if test["peak_bytes"] > budget}
    assert over
    failed_plain = {name for name, outcome in plain.items() if outcome in ("failed", "error")}
    failed = {name for name, outcome in outcomes(result).items() if outcome in ("failed", "error")}
    assert failed - failed_plain == {junit_name(nodeid) for nodeid in over} - failed_plain


def run(place: Place, *arguments: str) -> Path:
    """The JUnit file of one run."""
    target = place.results / "junit.xml"
    target.unlink(missing_ok=True)
    command = [str(place.python), "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={target}", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "AMM_"))}
    result = subprocess.run(
        [*command, *place.suite.options, *place.suite.tests],
        cwd=place.directory,
        env=environment | dict(place.suite.variables),
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
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
