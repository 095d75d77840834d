"""The web configuration file: what it may say, and who may pass."""

from __future__ import annotations

import base64
import ssl
import subprocess

import bcrypt
import pytest

from amm_exporter.export.http import Request
from amm_exporter.export.passwords import CHECKS_PER_SECOND, REMEMBERED, Passwords
from amm_exporter.export.reader import AMMMetricReader
from amm_exporter.export.web_config import WebConfig, WebConfigError, openssl_name

HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()


def config(tmp_path, text: str) -> WebConfig:
    path = tmp_path / "web.yml"
    path.write_text(text)
    return WebConfig(path)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("tls")
    made = str(folder / "server.crt"), str(folder / "server.key")
    subject = ["-subj", "/CN=localhost", "-days", "1", "-newkey", "rsa:2048", "-nodes"]
    command = ["openssl", "req", "-x509", *subject, "-out", made[0], "-keyout", made[1]]
    subprocess.run(command, check=True, capture_output=True)
    return made


def tls(certificate: str, key: str, *lines: str) -> str:
    return "\n  ".join(["tls_server_config:", f"cert_file: {certificate}", f"key_file: {key}", *lines]) + "\n"


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
        ("tls_server_config:\n  cert_file: a\n  key_file: b", "No such file or directory: '"),
        ("tls_server_config:\n  cert_file: [a]\n  key_file: b", "cert_file: got ['a']; expected the path of a file"),
        ("tls_server_config:\n  cert_file: a\n  key_file: b\n  min_version: TLS9", "got 'TLS9'"),
        ("basic_auth_users: x", "bcrypt hash"),
        ("basic_auth_users:\n  me: secret", "no bcrypt hash"),
        ("basic_auth_users:\n  me: 3", "bcrypt hash"),
        ("basic_auth_users: []", "bcrypt hash"),
        (f"basic_auth_users:\n  me: {HASH[:4]}99{HASH[6:]}", "no bcrypt hash"),
        ("http_server_config:\n  headers: [a]", "headers: got ['a']; expected names and values"),
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


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["cipher_suites: TLS_AES_128_GCM_SHA256"], "expected a list"),
        (
            ["cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_129_GCM_SHA256]"],
            "'TLS_ECDHE_",
        ),
        (["cipher_suites: [HIGH]"], "'HIGH' cannot be had here"),
        (["cipher_suites: [TLS_AES_128_GCM_SHA384]"], "'TLS_AES_128_GCM_SHA384' cannot be had here"),
        (["client_auth_type: RequireAnyClientCert"], "did you mean 'RequireAndVerifyClientCert'"),
        (["client_auth_type: RequireAndVerifyClientCert", "client_ca_file: none.crt"], "none.crt"),
    ],
)
def test_a_wish_of_tls_that_cannot_be_honoured_is_an_error(tmp_path, certificate, lines, said):
    with pytest.raises(WebConfigError) as caught:
        config(tmp_path, tls(*certificate, *lines))
    assert said in str(caught.value)


def test_a_key_with_a_passphrase_is_an_error_and_no_question(tmp_path, certificate):
    locked = tmp_path / "locked.key"
    protect = ["openssl", "rsa", "-in", certificate[1], "-aes128", "-passout", "pass:secret", "-out", str(locked)]
    subprocess.run(protect, check=True, capture_output=True)
    with pytest.raises(WebConfigError, match="passphrase"):
        config(tmp_path, tls(certificate[0], str(locked)))


@pytest.mark.parametrize(
    ("go", "openssl"),
    [
        ("TLS_AES_128_GCM_SHA256", ""),
        ("TLS_CHACHA20_POLY1305_SHA256", ""),
        ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
        ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"),
        ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "ECDHE-RSA-AES128-SHA"),
        ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", "ECDHE-RSA-AES128-SHA256"),
        ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"),
        ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"),
        ("TLS_RSA_WITH_AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
    ],
)
def test_cipher_suites_have_other_names_in_openssl(go, openssl):
    assert openssl_name(go) == openssl
    if openssl:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers(openssl)
        assert [suite["name"] for suite in context.get_ciphers() if suite["protocol"] != "TLSv1.3"] == [openssl]


def test_only_the_suites_that_are_listed_are_offered(tmp_path, certificate):
    suites = "cipher_suites: [TLS_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]"
    offered = config(tmp_path, tls(*certificate, suites)).tls().get_ciphers()
    assert [suite["name"] for suite in offered if suite["protocol"] != "TLSv1.3"] == ["ECDHE-RSA-AES128-GCM-SHA256"]


def test_suites_of_tls_1_3_alone_mean_that_version_alone(tmp_path, certificate):
    context = config(tmp_path, tls(*certificate, "cipher_suites: [TLS_AES_128_GCM_SHA256]")).tls()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3


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


def test_a_guess_beside_as_many_users_as_are_remembered_is_refused(clock):
    users = [f"user{number}" for number in range(REMEMBERED)]
    passwords = Passwords(dict.fromkeys(users, HASH.encode()), clock)
    for user in users:
        clock.now += 1
        assert passwords.refusal(basic(user, "secret")) is None
    assert passwords.refusal(basic("somebody", "guess")).status == 401
