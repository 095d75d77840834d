"""What people install: the wheel and the sdist, resolved from the package index into environments of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from programs import clean_environ, run

from amm_exporter import __version__

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
OLDEST_CONTRIB = (0, 60)
"""Contrib packages of 2024 (0.48) pair with a current SDK when a resolver finds no floor for them."""


def pip(python: Path | str, *arguments: str) -> str:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]
    done = run(command, environ=clean_environ(PYTHONNOUSERSITE="1"), timeout=400)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the sdist, and the wheel that was built from it."""
    directory = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(directory), str(ROOT)]
    done = run(command, environ=clean_environ(), timeout=400)
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin directory of a fresh environment with the wheel, its extras, and nothing else."""
    directory = tmp_path_factory.mktemp("env")
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    pip(directory / "bin/python", "install", "--quiet", f"{wheel}[pytest,otlp]")
    return directory / "bin"


def test_the_names_are_those_announced(built: Path) -> None:
    names = {path.name for path in built.iterdir()}
    assert names == {f"amm_exporter-{__version__}-py3-none-any.whl", f"amm_exporter-{__version__}.tar.gz"}


def test_the_wheel_holds_packages_licence_types_and_data(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    info = f"amm_exporter-{__version__}.dist-info"
    assert {f"{info}/licenses/LICENSE", "amm_exporter/py.typed", "pytest_amm/py.typed"} <= names
    assert {name.split("/")[0] for name in names} == {"amm_exporter", "pytest_amm", info}
    tracked = run(["git", "ls-files", "amm_exporter", "pytest_amm"], cwd=ROOT).stdout.split()
    assert set(tracked) <= names


def test_the_sdist_can_be_built_and_tested_from(built: Path) -> None:
    (found,) = built.glob("*.tar.gz")
    with tarfile.open(found) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "amm_exporter/__init__.py", "tests/unit/test_units.py"} <= names


def resolved(*wanted: str) -> dict[str, tuple[int, ...]]:
    """What pip would install into an empty environment, by name."""
    arguments = ["install", "--dry-run", "--quiet", "--ignore-installed", "--report", "-", *wanted]
    packages = json.loads(pip(sys.executable, *arguments))["install"]
    return {
        package["metadata"]["name"]: tuple(
            int(part) for part in package["metadata"]["version"].replace("b", ".").split(".") if part.isdigit()
        )
        for package in packages
    }


@pytest.mark.parametrize(
    "more", [(), ("opentelemetry-distro",), ("opentelemetry-distro[otlp]", "opentelemetry-instrumentation-flask")]
)
def test_the_newest_sdk_is_paired_with_contrib_of_its_time(wheel: Path, more: tuple[str, ...]) -> None:
    found = resolved(f"{wheel}[pytest,otlp]", *more)
    assert {"pytest", "opentelemetry-exporter-otlp-proto-http"} <= found.keys()
    contrib = {name: version for name, version in found.items() if name.startswith("opentelemetry-")}
    assert all(version[0] >= 1 or version[:2] >= OLDEST_CONTRIB for version in contrib.values()), contrib
    sdk, exporter = contrib["opentelemetry-sdk"], contrib["opentelemetry-exporter-prometheus"]
    # 1.39 came with 0.60, 1.45 with 0.66: the minor of contrib is 21 ahead
    assert (sdk[0], sdk[1] + 21) == (1, exporter[1])


def test_the_base_install_has_no_pytest_and_no_otlp(wheel: Path) -> None:
    assert not {"pytest", "opentelemetry-exporter-otlp-proto-http"} & resolved(str(wheel)).keys()


def test_commands_and_packages_work_in_an_empty_directory(installed: Path, tmp_path: Path) -> None:
    version = run([str(installed / "amm"), "--version"], cwd=tmp_path)
    assert (version.stdout, version.stderr) == (f"amm {__version__}\n", "")
    imported = run([str(installed / "python"), "-c", "import amm_exporter, pytest_amm"], cwd=tmp_path)
    assert (imported.returncode, imported.stdout, imported.stderr) == (0, "", "")
    checked = run([str(installed / "amm"), "check"], cwd=tmp_path)
    assert checked.stdout.startswith("The policy is valid.\n")
    inside = "import threading; print('amm-governor' in {thread.name for thread in threading.enumerate()})"
    ran = run(
        [str(installed / "amm"), "run", "--port", "0", "--", str(installed / "python"), "-c", inside], cwd=tmp_path
    )
    assert (ran.stdout, ran.stderr) == ("True\n", "")


def test_the_pytest_plugin_is_found(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text("def test_one():\n    pass\n")
    done = run([str(installed / "python"), "-m", "pytest", "-q", "--amm-budget=1536MB"], cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_every_entry_point_of_the_wheel_loads(installed: Path, tmp_path: Path) -> None:
    code = (
        "from importlib.metadata import distribution\n"
        "for entry in distribution('amm-exporter').entry_points: entry.load(); print(entry.group)"
    )
    done = run([str(installed / "python"), "-c", code], cwd=tmp_path)
    assert done.stderr == ""
    assert {
        "console_scripts",
        "pytest11",
        "opentelemetry_instrumentor",
        "opentelemetry_environment_variables",
        "opentelemetry_metrics_exporter",
    } <= set(done.stdout.split())
