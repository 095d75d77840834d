"""The web configuration file: what it may say, and who may pass."""

from __future__ import annotations

import base64
import socket
import ssl
import struct
import subprocess

import bcrypt
import pytest

from amm_exporter.export.http import Request
from amm_exporter.export.passwords import MOST_AT_ONCE_SECONDS, REMEMBERED, SHARE_FOR_CHECKS, Passwords
from amm_exporter.export.reader import AMMMetricReader
from amm_exporter.export.server import Server
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


def at_once(password: bytes, _hashed: bytes) -> bool:
    """In place of bcrypt where a test is about how many checks there are."""
    return password == b"secret"


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


@pytest.mark.parametrize("check_seconds", [0.05, 0.2, 0.8])
def test_who_guesses_gets_a_share_of_the_time_whatever_a_check_takes_and_who_is_known_all(
    passwords, clock, check_seconds
):
    def check(password: bytes, hashed: bytes) -> bool:
        clock.now += check_seconds
        return at_once(password, hashed)

    passwords._check = check
    passwords.refusal(basic("prometheus", "secret"))
    begin, spent_seconds = clock.now, 0.0
    for number in range(1000):
        clock.now += 0.05
        if passwords.refusal(basic("prometheus", f"guess{number}")).status == 401:
            spent_seconds += check_seconds
        assert passwords.refusal(basic("prometheus", "secret")) is None
    most = (clock.now - begin) * SHARE_FOR_CHECKS + MOST_AT_ONCE_SECONDS + check_seconds
    assert most * 0.8 < spent_seconds <= most


def test_users_that_come_and_go_are_followed(tmp_path):
    web = config(tmp_path, f"basic_auth_users:\n  old: {HASH}\n")
    assert refusal(web, "old") is None
    config(tmp_path, f"basic_auth_users:\n  renewed: {HASH}\n")
    assert (refusal(web, "old").status, refusal(web, "renewed")) == (401, None)


@pytest.mark.parametrize("text", ["", "basic_auth_users: {}", "basic_auth_users: [", "nonsense: 1", None])
def test_a_file_that_breaks_or_is_half_written_opens_nothing(tmp_path, text, caplog):
    web = config(tmp_path, f"basic_auth_users:\n  old: {HASH}\n")
    (tmp_path / "web.yml").unlink() if text is None else config_text(tmp_path, text)
    for _ in range(3):
        assert (refusal(web, "nobody").status, refusal(web, "old")) == (401, None)
    assert len(caplog.records) == 1


def test_tls_takes_a_restart_to_come_or_go(tmp_path, certificate, caplog):
    web = config(tmp_path, tls(*certificate))
    before = web.tls()
    config_text(tmp_path, f"basic_auth_users:\n  old: {HASH}\n")
    assert web.tls() is before
    assert web.authorize(asking("nobody")) is None
    assert "by a restart only" in caplog.text


def test_a_relative_path_outlives_a_change_of_directory(tmp_path, monkeypatch):
    config_text(tmp_path, f"basic_auth_users:\n  old: {HASH}\n")
    monkeypatch.chdir(tmp_path)
    web = WebConfig("web.yml")
    monkeypatch.chdir("/")
    config_text(tmp_path, f"basic_auth_users:\n  renewed: {HASH}\n")
    assert refusal(web, "renewed") is None


def config_text(tmp_path, text: str) -> None:
    (tmp_path / "web.yml").write_text(text)


def asking(user: str) -> Request:
    return Request(method="GET", path="/", headers={"authorization": basic(user, "secret")}, keep_alive=False)


def refusal(web: WebConfig, user: str):
    return web.authorize(asking(user))


def test_guesses_are_forgotten_before_the_right_password(passwords, clock):
    passwords._check = at_once
    passwords.refusal(basic("prometheus", "secret"))
    for number in range(2 * REMEMBERED):
        clock.now += 1
        passwords.refusal(basic("prometheus", str(number)))
    passwords._check = lambda *_: False  # the right one is known, not checked again
    assert passwords.refusal(basic("prometheus", "secret")) is None
    assert len(passwords._known) <= REMEMBERED


def test_a_guess_beside_as_many_users_as_are_remembered_is_refused(clock):
    users = [f"user{number}" for number in range(REMEMBERED)]
    passwords = Passwords(dict.fromkeys(users, HASH.encode()), clock)
    passwords._check = at_once
    for user in users:
        clock.now += 1
        assert passwords.refusal(basic(user, "secret")) is None
    assert passwords.refusal(basic("somebody", "guess")).status == 401


def test_who_has_gone_before_the_handshake_is_no_error(tmp_path, certificate, caplog):
    web = config(tmp_path, tls(*certificate))
    server = Server(lambda _accept: ("text/plain", b""), "127.0.0.1", 0, **web.options())
    server.start()
    try:
        for _ in range(20):
            with socket.create_connection(server.address, timeout=5) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with a reset
        context = ssl.create_default_context(cafile=certificate[0])
        context.check_hostname = False
        with socket.create_connection(server.address, timeout=5) as sock:
            context.wrap_socket(sock).close()
    finally:
        server.close()
    assert caplog.text == ""
