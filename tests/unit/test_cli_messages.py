"""Every message that a wrong command line brings about, with its full text: one line, no traceback."""

# ruff: noqa: E501 - a message is easier to compare on one line

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from amm_exporter.cli import COMMANDS, main

SIZES = "a size such as '512MB', '1.5 GiB' or a whole number of bytes (units: B KB MB GB TB, KiB MiB GiB TiB)"
DURATIONS = "a duration such as '500ms', '1s', '5m' or '2h' (units: ms s m h d)"
PORTS = "a port from 0 (any that is free) to 65535"
ALL = ", ".join(COMMANDS)
GONE = 3999999
"""A process that is not there: above the default pid_max, within what the kernel allows."""

MESSAGES = [
    ("rnu -- x", "unknown command 'rnu'; did you mean 'run'? (amm --help shows all)"),
    ("xyz", f"unknown command 'xyz'; accepted: {ALL} (amm --help shows all)"),
    ("run", "run: no command; write it after two dashes, as: amm run -- python app.py"),
    ("run --", "run: no command; write it after two dashes, as: amm run -- python app.py"),
    ("run --prot 1 -- x", "run: unrecognized arguments: --prot; see amm run --help"),
    ("run --port x -- x", f"run: argument --port: got 'x'; expected {PORTS}; see amm run --help"),
    ("run --port 65536 -- x", f"run: argument --port: got '65536'; expected {PORTS}; see amm run --help"),
    ("run --port=-1 -- x", f"run: argument --port: got '-1'; expected {PORTS}; see amm run --help"),
    ("run --listen 203.0.113.7 -- true", "cannot listen on port 9464 of 203.0.113.7: Cannot assign requested address"),
    ("run --set x -- x", "--set: got 'x'; expected KEY=VALUE, as tiers.high=75%"),
    ("run --set =x -- x", "--set: got '=x'; expected KEY=VALUE, as tiers.high=75%"),
    (
        "run --limit 4GBananas -- x",
        f"flag --limit: limit: got '4GBananas'; expected 'auto' or {SIZES}; unknown unit 'GBananas'",
    ),
    ("run --config none.yaml -- x", "none.yaml: no such file; name an existing one, or leave it out for the defaults"),
    ("run -- no-such-program", "run: cannot start 'no-such-program': no such program on PATH"),
    ("run -- ./data", "run: cannot start './data': it is not executable"),
    ("run -- ./no-interpreter", "run: {here}/no-interpreter cannot be executed: No such file or directory"),
    ("serve", "serve: one of the arguments --pid --match is required; see amm serve --help"),
    ("serve --pid x", "serve: argument --pid: got 'x'; expected the number of a process; see amm serve --help"),
    ("serve --pid 0", "serve: argument --pid: got '0'; expected the number of a process; see amm serve --help"),
    (
        "serve --pid 4194305",
        "serve: argument --pid: got '4194305'; expected the number of a process; see amm serve --help",
    ),
    (f"serve --port 0 --pid {GONE}", f"process {GONE} has ended, or was never there: no /proc/{GONE}/stat"),
    (
        "serve --match [",
        "serve: argument --match: got '['; expected a regular expression: unterminated character set at position 0; see amm serve --help",
    ),
    ("serve --pid 1 --match x", "serve: argument --match: not allowed with argument --pid; see amm serve --help"),
    ("serve --pid 1 more", "serve: unrecognized arguments: more; see amm serve --help"),
    ("check more", "check: unrecognized arguments: more; see amm check --help"),
    ("check --limt 4GB", "check: unrecognized arguments: --limt 4GB; see amm check --help"),
    ("check --limit", "check: argument --limit: expected one argument; see amm check --help"),
    ("check --set tiers.hihg=1", "flag --set tiers.hihg: tiers.hihg: unknown key; did you mean 'tiers.high'?"),
    ("check --config ''", ".: cannot be read: Is a directory"),
    (
        "check --limit 100MB --set tiers.moderate=600MB",
        "flag --set tiers.moderate: tiers.moderate: got 600 MiB, which is not below tiers.high = 70% (default) under a limit of 100 MiB; the order is moderate < high < severe < critical",
    ),
    ("dashboards --output data", "dashboards: cannot write to data: File exists"),
    ("dashboards --output /proc/here", "dashboards: cannot write to /proc/here: No such file or directory"),
    ("policy --explian", "policy: unrecognized arguments: --explian; see amm policy --help"),
    (
        "demo --seconds 0",
        f"demo: argument --seconds: got '0'; expected {DURATIONS}, more than zero and at most 100 years; see amm demo --help",
    ),
    ("demo --seconds soon", f"demo: argument --seconds: got 'soon'; expected {DURATIONS}; see amm demo --help"),
]
STATUS = {"no such program on PATH": 127, "it is not executable": 126}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the machine's own policy; a file that is no program, and a script whose interpreter is missing."""
    for name in [name for name in os.environ if name.startswith(("AMM_", "OTEL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "data").touch(mode=0o644)
    (tmp_path / "no-interpreter").write_text("#!/nowhere/perl\n")
    (tmp_path / "no-interpreter").chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(("line", "text"), MESSAGES)
def test_a_wrong_command_line(here: Path, line: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(shlex.split(line))
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"amm: {text.replace('{here}/', './')}\n")
    assert status == next((code for end, code in STATUS.items() if text.endswith(end)), 2)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of localhost that a program which is not AMM listens on."""
    with socket.create_server(("localhost", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    "line",
    ["run --port {} -- true", f"run --port {{}} -- {sys.executable} -c 1", "serve --port {} --pid 1", "demo --port {}"],
)
def test_a_port_that_another_program_has(taken: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Told before anything starts: the command does not run."""
    assert main(line.format(taken).split()) == 2
    assert capsys.readouterr() == (
        "",
        f"amm: port {taken} of localhost is in use by another program; choose another one"
        " (--port, or OTEL_EXPORTER_PROMETHEUS_PORT), or 0 for any that is free\n",
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"verdicts": [1], "types": []}', "AttributeError: 'list' object has no attribute 'items'"),
        ('{"verdicts": {"rss": {}}, "types": {}}', "KeyError: 'leaking'"),
        ('{"verdicts": {}, "types": {"grown": [["dict"]]}}', "IndexError: list index out of range"),
        ('{"verdicts": {}, "types": {}, "sites": [3]}', "TypeError: 'int' object is not subscriptable"),
        (
            '{"verdicts": {}, "types": {}, "growth": {"seconds": 1, "origin": "", "types": [{"gained": 1e999}]}}',
            "OverflowError: cannot convert float infinity to integer",
        ),
    ],
)
def test_evidence_that_was_edited(here: Path, text: str, problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "evidence.json").write_text(text)
    assert main(["analyze", "evidence.json"]) == 2
    assert capsys.readouterr() == ("", f"amm: analyze: evidence.json is damaged, or no evidence: {problem}\n")


def test_a_file_that_nests_without_end(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "evidence.json").write_text("[" * 200_000)
    assert main(["analyze", "evidence.json"]) == 2
    assert capsys.readouterr().err.startswith("amm: analyze: evidence.json is not JSON: maximum recursion depth")


def test_what_controls_a_terminal_is_shown_and_not_done(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = ["\x1b[2Jµ\n  LEAKS", 1, 2]
    (here / "evidence.json").write_text(json.dumps({"verdicts": {}, "types": {"most": [row]}}))
    assert main(["analyze", "evidence.json"]) == 0
    assert capsys.readouterr().out.endswith("2 B  \\x1b[2Jµ\\n  LEAKS\n")


def test_a_search_for_chains_that_failed_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "evidence.json").write_text('{"verdicts": {}, "types": {}, "chains": {"unavailable": "too deep"}}')
    assert main(["analyze", "evidence.json"]) == 0
    assert capsys.readouterr().out.endswith("what keeps it alive\n                not available: too deep\n")


def amm(line: str) -> tuple[int, str, str]:
    """As a shell runs it, with redirections."""
    code = "import sys; from amm_exporter.cli import main; sys.exit(main())"
    command = line.replace("amm ", f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} ")
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
@pytest.mark.parametrize("line", ["amm policy --explain >/dev/full", "amm --version >/dev/full"])
def test_a_full_disk_under_standard_output(line: str) -> None:
    assert amm(line) == (2, "", "amm: cannot go on: [Errno 28] No space left on device\n")


@pytest.mark.parametrize("line", ["amm policy >&-", "amm --help >&- 2>&-"])
def test_a_closed_standard_output_is_no_error(line: str) -> None:
    assert amm(line) == (0, "", "")


def test_a_character_that_the_output_lacks_is_escaped() -> None:
    wanted = 'x: {"normal": "\\u00b5"}'
    assert wanted in amm("PYTHONIOENCODING=ascii amm policy --set 'plan={x: {normal: µ}}'")[1]


def test_a_port_in_the_environment_that_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "http")
    assert main(["run", "--", "true"]) == 2
    assert (
        capsys.readouterr().err == "amm: OTEL_EXPORTER_PROMETHEUS_PORT: got 'http'; expected a port from 0 to 65535\n"
    )


def test_a_program_that_cannot_be_executed_leaves_the_signals_as_they_were(here: Path) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert main(["run", "--port", "0", "--", "./no-interpreter"]) == 2
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
