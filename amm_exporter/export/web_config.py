"""TLS and basic auth, from the web configuration file that Prometheus exporters share.

    tls_server_config:
      cert_file: server.crt        # relative to this file
      key_file: server.key
    basic_auth_users:
      prometheus: $2y$10$...       # htpasswd -nBC 10 "" | tr -d ':\\n'

The format: https://prometheus.io/docs/prometheus/latest/configuration/https/. A key that is unknown or that this server
cannot honour is an error: a security setting that is silently ignored is worse than none. A certificate that changes on
disk is taken up with the next connection.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import os
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amm_exporter.errors import AMMError, did_you_mean
from amm_exporter.export.http import Request, Response

if TYPE_CHECKING:
    import ssl

log = logging.getLogger("amm.export")

TOP_KEYS = ("tls_server_config", "basic_auth_users", "http_server_config")
TLS_KEYS = ("cert_file", "key_file", "client_auth_type", "client_ca_file", "min_version", "max_version",
            "cipher_suites", "prefer_server_cipher_suites")  # fmt: skip
HTTP_KEYS = ("http2", "headers")
HEADERS = ("Content-Security-Policy", "X-Frame-Options", "X-Content-Type-Options", "X-XSS-Protection",
           "Strict-Transport-Security")  # fmt: skip
CLIENT_AUTH = {
    "NoClientCert": "CERT_NONE",
    "VerifyClientCertIfGiven": "CERT_OPTIONAL",
    "RequireAndVerifyClientCert": "CERT_REQUIRED",
}
VERSIONS = {"TLS10": "TLSv1", "TLS11": "TLSv1_1", "TLS12": "TLSv1_2", "TLS13": "TLSv1_3"}

REMEMBERED = 100
"""Passwords whose check is remembered, as the official exporters do: a check takes 50 ms and more by design."""
CHECKS_PER_SECOND = 5.0
"""The most bcrypt checks begun in a second: a client that guesses must not keep the exporter from its scrapes."""
# A user that is not there costs as much time as one that is: the hash of a password nobody knows.
_NOBODY = "$2b$10$B3wwdp2n56RrUL1jBqoy0eXh1BP6Mbi0NqlnM18g0THwWmIRonpYS"


class WebConfigError(AMMError):
    """A web configuration file that cannot be used."""


class WebConfig:
    """What a file says: `tls()` gives the context for the next connection, `authorize(request)` the refusal, if any."""

    def __init__(self, path: str | os.PathLike[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._path = Path(path)
        document = _document(self._path)
        self._tls: Mapping[str, Any] | None = self._section(document, "tls_server_config", TLS_KEYS)
        self.headers = self._headers(self._section(document, "http_server_config", HTTP_KEYS) or {})
        self._context: ssl.SSLContext | None = None
        self._stamp: tuple[int, ...] = ()
        users = document.get("basic_auth_users")
        self._passwords = Passwords(self._users(users), clock) if users else None
        if self._tls is not None:
            self.tls()

    @property
    def encrypts(self) -> bool:
        return self._tls is not None

    def options(self) -> dict[str, Any]:
        """The arguments of a Server that obeys this file."""
        tls = self.tls if self.encrypts else None
        return {"authorize": self.authorize, "tls": tls, "headers": self.headers}

    def tls(self) -> ssl.SSLContext:
        """The context for a connection, made again when its files change; the last good one while they are broken."""
        stamp = tuple(_changed_at(self._file(key)) for key in _FILES if self._given(key))
        if self._context is None:
            self._context = self._make_context()
        elif stamp != self._stamp:
            try:
                self._context = self._make_context()
            except WebConfigError as error:
                log.warning("the certificate read before goes on: %s", error)
        self._stamp = stamp
        return self._context

    def authorize(self, request: Request) -> Response | None:
        """None where the request may go on."""
        return self._passwords.refusal(request.header("authorization")) if self._passwords else None

    def _section(self, document: Mapping[str, Any], name: str, known: tuple[str, ...]) -> Mapping[str, Any] | None:
        section = document.get(name)
        if section is None:
            return None
        if not isinstance(section, dict):
            raise WebConfigError(f"{self._path}: {name}: got {section!r}; expected keys and values")
        for key in section:
            if key not in known:
                raise WebConfigError(f"{self._path}: {name}.{key}: not known here; {did_you_mean(str(key), known)}")
        return section

    def _headers(self, section: Mapping[str, Any]) -> dict[str, str]:
        headers = section.get("headers") or {}
        for name, text in headers.items():
            if name not in HEADERS or not isinstance(text, str) or not text.isprintable():
                raise WebConfigError(f"{self._path}: headers.{name}: cannot be set; {did_you_mean(str(name), HEADERS)}")
        return dict(headers)

    def _users(self, users: object) -> dict[str, bytes]:
        if not isinstance(users, dict) or not all(isinstance(text, str) for text in users.values()):
            raise WebConfigError(f"{self._path}: basic_auth_users: expected a bcrypt hash for each user name")
        for user, text in users.items():
            if not text.startswith(("$2a$", "$2b$", "$2y$")) or len(text) != 60:
                problem = "no bcrypt hash; make one by: htpasswd -nBC 10 ''"
                raise WebConfigError(f"{self._path}: basic_auth_users.{user}: {problem}")
        return {str(user): text.encode() for user, text in users.items()}

    # -- TLS

    def _given(self, key: str) -> Any:
        return self._tls.get(key) if self._tls is not None else None

    def _file(self, key: str) -> Path:
        return self._path.parent / str(self._given(key))

    def _make_context(self) -> ssl.SSLContext:
        import ssl  # not at the top: nobody pays for TLS who does not use it

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            if not self._given("cert_file") or not self._given("key_file"):
                raise WebConfigError(f"{self._path}: tls_server_config: cert_file and key_file are both needed")
            context.minimum_version = self._version("min_version", "TLS12")
            context.maximum_version = self._version("max_version", "TLS13")
            context.load_cert_chain(self._file("cert_file"), self._file("key_file"))
            if suites := self._given("cipher_suites"):
                context.set_ciphers(":".join(_openssl_name(suite) for suite in suites))
            self._ask_clients(context)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise WebConfigError(f"{self._path}: tls_server_config: {error}") from error
        return context

    def _version(self, key: str, default: str) -> Any:
        import ssl

        version = self._given(key) or default
        if version not in VERSIONS:
            problem = f"got {version!r}; {did_you_mean(str(version), VERSIONS)}"
            raise WebConfigError(f"{self._path}: tls_server_config.{key}: {problem}")
        return getattr(ssl.TLSVersion, VERSIONS[version])

    def _ask_clients(self, context: ssl.SSLContext) -> None:
        import ssl

        wish = self._given("client_auth_type") or "NoClientCert"
        if wish not in CLIENT_AUTH:
            raise WebConfigError(
                f"{self._path}: client_auth_type: got {wish!r}; {did_you_mean(str(wish), CLIENT_AUTH)}"
            )
        if wish != "NoClientCert":
            if not self._given("client_ca_file"):
                raise WebConfigError(f"{self._path}: client_auth_type {wish} needs client_ca_file")
            context.load_verify_locations(self._file("client_ca_file"))
        context.verify_mode = getattr(ssl, CLIENT_AUTH[wish])


class Passwords:
    """Users and their bcrypt hashes. Slow checks are remembered, and begun only so often."""

    def __init__(self, users: Mapping[str, bytes], clock: Callable[[], float] = time.monotonic) -> None:
        try:
            import bcrypt
        except ImportError as error:
            raise WebConfigError("basic_auth_users needs bcrypt: pip install 'amm-exporter[auth]'") from error
        self._check = bcrypt.checkpw
        self._users = dict(users)
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, bool] = OrderedDict()
        self._tokens, self._counted_at = CHECKS_PER_SECOND, clock()

    def refusal(self, authorization: str) -> Response | None:
        """None for a user with the right password; else 401, or 429 for who tries too often."""
        credentials = _credentials(authorization)
        if credentials is None:
            return _UNAUTHORIZED
        mark = hmac.new(self._key, credentials[0].encode() + b"\0" + credentials[1], hashlib.sha256).digest()
        if mark not in self._known:
            if not self._may_check():
                return _TOO_MANY
            self._remember(mark, self._is_right(*credentials))
        return None if self._known[mark] else _UNAUTHORIZED

    def _is_right(self, user: str, password: bytes) -> bool:
        known = user in self._users
        matches = self._check(password[:72], self._users.get(user, _NOBODY.encode()))  # bcrypt reads no further
        return known and matches

    def _may_check(self) -> bool:
        now = self._clock()
        self._tokens = min(CHECKS_PER_SECOND, self._tokens + (now - self._counted_at) * CHECKS_PER_SECOND)
        self._counted_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _remember(self, mark: bytes, right: bool) -> None:
        self._known[mark] = right
        if len(self._known) > REMEMBERED:
            # Wrong guesses go first: a flood of them must not push out those that are right.
            oldest = next((one for one, good in self._known.items() if not good), next(iter(self._known)))
            del self._known[oldest]


_FILES = ("cert_file", "key_file", "client_ca_file")
_UNAUTHORIZED = Response(
    status=HTTPStatus.UNAUTHORIZED, body=b"unauthorized\n", headers={"WWW-Authenticate": 'Basic realm="metrics"'}
)
_TOO_MANY = Response(status=HTTPStatus.TOO_MANY_REQUESTS, body=b"too many attempts\n", headers={"Retry-After": "1"})


def _document(path: Path) -> Mapping[str, Any]:
    import yaml  # not at the top: only this file needs it

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise WebConfigError(f"{path}: cannot be read: {error}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise WebConfigError(f"{path}: expected keys and values; known are {', '.join(TOP_KEYS)}")
    for key in document:
        if key not in TOP_KEYS:
            raise WebConfigError(f"{path}: {key}: not known here; {did_you_mean(str(key), TOP_KEYS)}")
    return document


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _credentials(authorization: str) -> tuple[str, bytes] | None:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (user.decode(), password) if colon and b"\0" not in password else None
    except (binascii.Error, ValueError):
        return None


def _openssl_name(suite: str) -> str:
    """`TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`, as Go names it, as OpenSSL does: ECDHE-RSA-AES128-GCM-SHA256."""
    name = suite.removeprefix("TLS_").replace("_WITH_", "_").replace("AES_128", "AES128").replace("AES_256", "AES256")
    if name.endswith("CBC_SHA"):
        name = name.removesuffix("_CBC_SHA") + "_SHA"
    return name.replace("CHACHA20_POLY1305_SHA256", "CHACHA20_POLY1305").replace("_", "-")
