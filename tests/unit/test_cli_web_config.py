"""`--web-config`: whatever is wrong with the file is told in full before anything starts."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from amm_exporter.cli import main

COMMANDS = (
    f"run --port 0 {{}} -- {sys.executable} -c 'raise SystemExit(9)'",
    "run --port 0 {} -- sh -c 'exit 9'",
    "serve --port 0 {} --pid 1",
    "serve --port 0 {} --match x",
    "demo --port 0 {}",
)
KNOWN = "tls_server_config, basic_auth_users, http_server_config"
FILES = [
    ("[]", f"expected keys and values; known are {KNOWN}"),
    ("tls_server_confg: {}", "tls_server_confg: not known here; did you mean 'tls_server_config'?"),
    ("tls_server_config: yes", "tls_server_config: got True; expected keys and values"),
    ("tls_server_config: {cert_fil: x}", "tls_server_config.cert_fil: not known here; did you mean 'cert_file'?"),
    ("tls_server_config: {cert_file: x}", "tls_server_config: cert_file and key_file are both needed"),
    (
        "tls_server_config: {cert_file: x, key_file: y}",
        "tls_server_config: [Errno 2] No such file or directory: '{folder}/x'",
    ),
    ("basic_auth_users: {me: secret}", "basic_auth_users.me: no bcrypt hash; make one by: htpasswd -nBC 10 ''"),
    ("basic_auth_users: [me]", "basic_auth_users: expected a bcrypt hash for each user name"),
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("content", "text"), FILES)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_that_cannot_be_honoured(
    command: str, content: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("web.yml").write_text(content)
    assert main(shlex.split(command.format("--web-config web.yml"))) == 2
    assert capsys.readouterr() == ("", f"amm: web.yml: {text.replace('{folder}', str(Path.cwd()))}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_that_is_not_there(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split(command.format("--web-config none.yml"))) == 2
    reason = f"cannot be read: [Errno 2] No such file or directory: '{Path('none.yml').absolute()}'"
    assert capsys.readouterr() == ("", f"amm: none.yml: {reason}\n")


def test_it_has_the_name_of_prometheus_exporters_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--web.config.file", "none.yml", "--port", "0", "--pid", "1"]) == 2
    assert capsys.readouterr().err.startswith("amm: none.yml: ")


def test_it_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("AMM_WEB_CONFIG", "other.yml")
    assert main(["serve", "--web-config", "none.yml", "--port", "0", "--pid", "1"]) == 2
    assert capsys.readouterr().err.startswith("amm: none.yml: ")


def test_without_a_file_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--pid", "1", "--web-config"]) == 2
    assert capsys.readouterr().err == (
        "amm: serve: argument --web-config/--web.config.file: expected one argument; see amm serve --help\n"
    )
