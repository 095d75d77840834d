"""The web configuration file: what it may say, and who may pass."""

from __future__ import annotations

import base64

import bcrypt
import pytest

from amm_exporter.export.http import Request
from amm_exporter.export.reader import AMMMetricReader
from amm_exporter.export.web_config import CHECKS_PER_SECOND, REMEMBERED, Passwords, WebConfig, WebConfigError

HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()


def config(tmp_path, text: str) -> WebConfig:
    path = tmp_path / "web.yml"
    path.write_text(text)
    return WebConfig(path)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def passwords(clock):
    return Passwords({"prometheus": HASH.encode()}, clock)


@pytest.mark.parametrize("text", ["", "basic_auth_users:\n", "http_server_config:\n  http2: false\n"])
def test_a_file_that_asks_for_nothing_lets_everybody_in(tmp_path, text):
    made = config(tmp_path, text)
    assert not made.encrypts
    assert made.authorize(Request(method="GET", path="/", headers={}, keep_alive=False)) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a", "expected keys and values"),
        ("tls_server: 1", "did you mean 'tls_server_config'"),
        ("tls_server_config: 3", "expected keys and values"),
        ("tls_server_config:\n  cert_fil: a", "did you mean 'cert_file'"),
        ("tls_server_config:\n  cert_file: a", "cert_file and key_file are both needed"),
        ("tls_server_config:\n  cert_file: a\n  key_file: b", "No such file"),
        ("tls_server_config:\n  cert_file: a\n  key_file: b\n  min_version: TLS9", "got 'TLS9'"),
        ("basic_auth_users: x", "bcrypt hash"),
        ("basic_auth_users:\n  me: secret", "no bcrypt hash"),
        ("basic_auth_users:\n  me: 3", "bcrypt hash"),
        ("rate_limit: {}", "rate_limit: not known here"),
        ("http_server_config:\n  headers:\n    Server: x", "headers.Server: cannot be set"),
        ("a: [", "cannot be read"),
    ],
)
def test_what_cannot_be_honoured_is_an_error_that_names_the_file(tmp_path, text, said):
    with pytest.raises(WebConfigError) as caught:
        config(tmp_path, text)
    assert said in str(caught.value)
    assert "web.yml" in str(caught.value)


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(WebConfigError, match="cannot be read"):
        WebConfig(tmp_path / "none.yml")


def test_a_reader_with_a_bad_file_serves_nothing_rather_than_in_the_clear(tmp_path, caplog):
    path = tmp_path / "web.yml"
    path.write_text("basic_auth_users:\n  me: secret")
    reader = AMMMetricReader("127.0.0.1", 0, environ={"AMM_WEB_CONFIG": str(path)})
    assert reader.address is None
    assert "no bcrypt hash" in caplog.text


def test_the_right_password_passes(passwords):
    assert passwords.refusal(basic("prometheus", "secret")) is None


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic !!!",
        "Bearer x",
        basic("prometheus", "wrong"),
        basic("nobody", "secret"),
        basic("prometheus", ""),
        basic("prometheus", "secret" + "x" * 100),
        basic("prometheus", "secret\0"),
        "Basic " + base64.b64encode(b"prometheus").decode(),
        "Basic " + base64.b64encode(b"\xff:x").decode(),
    ],
)
def test_anything_else_is_refused(passwords, authorization):
    assert passwords.refusal(authorization).status == 401


def test_a_password_is_checked_once_and_then_remembered(passwords, clock):
    for _ in range(100):
        assert passwords.refusal(basic("prometheus", "secret")) is None


def test_who_guesses_is_slowed_down_and_who_is_known_is_not(passwords, clock):
    passwords.refusal(basic("prometheus", "secret"))
    answers = [passwords.refusal(basic("prometheus", f"guess{number}")).status for number in range(20)]
    assert answers.count(401) == int(CHECKS_PER_SECOND) - 1
    assert answers.count(429) == 20 - answers.count(401)
    assert passwords.refusal(basic("prometheus", "secret")) is None
    clock.now += 1
    assert passwords.refusal(basic("prometheus", "another")).status == 401


def test_guesses_are_forgotten_before_the_right_password(passwords, clock):
    passwords.refusal(basic("prometheus", "secret"))
    for number in range(2 * REMEMBERED):
        clock.now += 1
        passwords.refusal(basic("prometheus", str(number)))
    assert passwords.refusal(basic("prometheus", "secret")) is None
    assert len(passwords._known) <= REMEMBERED
