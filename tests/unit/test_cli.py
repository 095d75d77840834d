"""The `amm` command: what its subcommands print, and which programs it takes for Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from amm_exporter import __version__
from amm_exporter.cli import COMMANDS, main
from amm_exporter.cli.outside import resource_of
from amm_exporter.cli.run import has_amm, python_of
from amm_exporter.policy import KEYS, load_policy


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the machine's own policy."""
    for name in [name for name in os.environ if name.startswith(("AMM_", "OTEL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  amm {name}" in out for name in COMMANDS)


def test_without_a_command_help_is_shown_as_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "amm COMMAND --help" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"amm {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: amm {name}")


def test_check_shows_limits_tiers_and_use(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "amm.yaml").write_text("limit: 2GB\ntiers: {moderate: 1GB}\n")
    assert main(["check"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("The policy is valid.\n  limit by policy            2 GiB  policy: limit  <- binds\n")
    assert "\n  MODERATE from    50% = 1 GiB\n  HIGH     from    70% = 1.4 GiB\n" in out
    assert "\n  now: host uses " in out


def test_check_takes_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--limit", "1GB", "--set", "tiers.high=65%", "--set", "limit = 3GB"]) == 0
    out = capsys.readouterr().out
    assert "  limit by policy            3 GiB" in out
    assert "  HIGH     from    65%" in out


def test_policy_prints_a_file_with_the_same_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--limit", "2GB", "--set", "plan={x: {normal: 1, high: yes}}", "--set", "actions.high=trim, collect"]
    assert main(["policy", *flags]) == 0
    out = capsys.readouterr().out
    printed = load_policy(yaml.safe_load(out), environ={})
    given = load_policy({}, environ={}, flags=dict(flag.split("=", 1) for flag in ["limit=2GB", *flags[3::2]]))
    for part in ("limit_bytes", "thresholds", "plan", "actions", "leak", "anomaly", "hysteresis_ratio", "signal"):
        assert getattr(printed, part) == getattr(given, part)


def test_policy_tells_where_each_value_came_from(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "amm.yaml").write_text("interval: 2s\n")
    monkeypatch.setenv("AMM_BUDGET", "1GB")
    assert main(["policy", "--limit", "3GB"]) == 0
    lines = {
        line.split(":")[0].strip(): line.split("  # ")[1]
        for line in capsys.readouterr().out.splitlines()
        if "#" in line
    }
    assert lines["interval"] == str(here / "amm.yaml")
    assert lines["budget"] == "environment variable AMM_BUDGET"
    assert lines["limit"] == "flag --limit"
    assert lines["signal"] == "default"


def test_policy_explains_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "--explain", "--limit", "3GB"]) == 0
    paragraphs = capsys.readouterr().out.rstrip("\n").split("\n\n")
    assert [paragraph.split("\n")[0] for paragraph in paragraphs] == list(KEYS)
    assert "    environment: AMM_TIERS_HIGH\n" in paragraphs[list(KEYS).index("tiers.high")]
    assert paragraphs[0].endswith("    default: auto\n    environment: AMM_LIMIT\n    in force: 3GB (flag --limit)")


def test_a_reader_that_closes_early_is_no_error() -> None:
    """`amm policy --explain | head -1`"""
    read, write = os.pipe()
    os.close(read)
    code = "import sys; from amm_exporter.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "policy", "--explain"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


# -- which programs are Python


@pytest.mark.parametrize(
    "name", ["python", "python3", "python3.13", "python3.13t", "python2.7", "pypy", "pypy3", "pypy3.10"]
)
def test_an_interpreter_is_known_by_its_name(here: Path, name: str) -> None:
    assert python_of(str(here / name), [name, "app.py"]) == str(here / name)


@pytest.mark.parametrize("name", ["python-config", "pythonw.sh", "bpython", "ipython", "python3-dbg-x", "sh"])
def test_other_names_are_not(here: Path, name: str) -> None:
    (here / name).write_text("\x7fELF")
    assert python_of(str(here / name), [name]) is None


@pytest.mark.parametrize(
    ("arguments", "inside"),
    [
        ("app.py", True),
        ("", True),
        ("-", True),
        ("-u app.py", True),
        ("-uB -O app.py", True),
        ("app.py -I", True),
        ("-m Isolated -E", True),
        ("-mISE", True),
        ("-c IES", True),
        ("-cIES", True),
        ("-X dev app.py -S", True),
        ("-Ximporttime app.py", True),
        ("-W Error::ImportWarning app.py", True),
        ("-WE app.py", True),
        ("-- -I", True),
        ("--check-hash-based-pycs always app.py", True),
        ("-I app.py", False),
        ("-E app.py", False),
        ("-S app.py", False),
        ("-uE app.py", False),
        ("-X dev -I app.py", False),
        ("-W error -S app.py", False),
        ("-uX dev -E app.py", False),
        ("--check-hash-based-pycs always -I app.py", False),
    ],
)
def test_an_interpreter_that_would_not_load_amm_is_watched_from_outside(arguments: str, inside: bool) -> None:
    found = python_of("/usr/bin/python3", ["python3", *arguments.split()])
    assert found == ("/usr/bin/python3" if inside else None)


def script(path: Path, first: bytes) -> str:
    path.write_bytes(first)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("first", "interpreter"),
    [
        (b"#!/opt/venv/bin/python3\nimport sys\n", "/opt/venv/bin/python3"),
        (b"#!/opt/venv/bin/python3\n# -*- coding: utf-8 -*-\n", "/opt/venv/bin/python3"),
        (b"#! /opt/venv/bin/python3.12", "/opt/venv/bin/python3.12"),
        (b"#!/opt/venv/bin/python3\t\r\n", "/opt/venv/bin/python3"),
        (b"#!/opt/venv/bin/python3 -u\nimport sys\n", None),
        (b"#!/bin/sh\npython app.py\n", None),
        (b"#!/usr/bin/env sh\n", None),
        (b"#!/usr/bin/env no-such-python\n", None),
        (b"#!/usr/bin/env -S python3 -u\n", None),
        (b"#!", None),
        (b"#!\n/opt/venv/bin/python3\n", None),
        (b"\x7fELF\x02\x01\x01", None),
        (b"", None),
    ],
)
def test_a_script_is_known_by_its_first_line(here: Path, first: bytes, interpreter: str | None) -> None:
    assert python_of(script(here / "app", first), ["app"]) == interpreter


def test_env_finds_the_interpreter_on_path(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(here))
    python = script(here / "python3", b"")
    assert python_of(script(here / "app", b"#!/usr/bin/env python3\n"), ["app"]) == python


def test_a_program_that_may_be_executed_but_not_read_is_no_script(here: Path) -> None:
    assert python_of(str(here / "vanished"), ["vanished"]) is None


def test_whether_amm_can_be_loaded_there(here: Path) -> None:
    assert has_amm(sys.executable)
    assert not has_amm(script(here / "python3", b"#!/bin/sh\nexit 1\n"))


def test_what_is_watched_from_outside_is_named_after_its_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    assert resource_of("server").attributes["service.name"] == "unknown_service:server"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    assert resource_of("server").attributes["service.name"] == "shop"
