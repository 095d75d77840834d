"""TLS and basic auth, from the web configuration file that Prometheus exporters share.

    tls_server_config:
      cert_file: server.crt        # relative to this file
      key_file: server.key
    basic_auth_users:
      prometheus: $2y$10$...       # htpasswd -nBC 10 "" | tr -d ':\\n'

The format: https://prometheus.io/docs/prometheus/latest/configuration/https/. A key that is unknown or that this server
cannot honour is an error: a security setting that is silently ignored is worse than none. What changes on disk, users
or certificates, is taken up with the next request or connection; only whether TLS is spoken and whether a password is
asked for takes a restart, so that a file half written does not open what is closed.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amm_exporter.errors import AMMError, did_you_mean
from amm_exporter.export.http import Request, Response
from amm_exporter.export.passwords import Passwords

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


class WebConfigError(AMMError):
    """A web configuration file that cannot be used."""


class WebConfig:
    """What a file says: `tls()` gives the context for the next connection, `authorize(request)` the refusal, if any."""

    def __init__(self, path: str | os.PathLike[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._path = Path(path)
        self._place = self._path.absolute()  # a daemon changes its directory
        self._clock = clock
        self._read_at = _changed_at(self._place)
        document = _document(self._path, self._place)
        self._tls: Mapping[str, Any] | None = self._section(document, "tls_server_config", TLS_KEYS)
        self.headers = self._headers(self._section(document, "http_server_config", HTTP_KEYS) or {})
        users = self._users(document.get("basic_auth_users"))
        self._passwords = Passwords(users, clock) if users else None
        self._stamp = self._files_changed_at()
        self._context = self._make_context() if self.encrypts else None

    @property
    def encrypts(self) -> bool:
        return self._tls is not None

    def options(self) -> dict[str, Any]:
        """The arguments of a Server that obeys this file."""
        tls = self.tls if self.encrypts else None
        return {"authorize": self.authorize, "tls": tls, "headers": self.headers}

    def tls(self) -> ssl.SSLContext:
        """The context for a connection, made again when its files change; the last good one while they are broken."""
        self._follow()
        stamp = self._files_changed_at()
        if self._context is None:
            raise WebConfigError(f"{self._path}: no tls_server_config")
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._context = self._make_context()
            except WebConfigError as error:
                log.warning("the certificate read before goes on: %s", error)
        return self._context

    def authorize(self, request: Request) -> Response | None:
        """None where the request may go on."""
        self._follow()
        return self._passwords.refusal(request.header("authorization")) if self._passwords else None

    def _follow(self) -> None:
        """Take up what the file says by now; one that cannot be honoured changes nothing."""
        changed_at = _changed_at(self._place)
        if changed_at == self._read_at:
            return
        self._read_at = changed_at
        try:
            fresh = WebConfig(self._place, self._clock)
            if fresh.encrypts != self.encrypts or (self._passwords and not fresh._passwords):
                raise WebConfigError(f"{self._path}: TLS comes and goes, and passwords go, by a restart only")
        except AMMError as error:
            log.warning("what was read before goes on: %s", error)
            return
        self._tls, self._context, self._stamp = fresh._tls, fresh._context, fresh._stamp
        self._passwords = fresh._passwords

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
        if not isinstance(headers, dict):
            raise WebConfigError(
                f"{self._path}: http_server_config.headers: got {headers!r}; expected names and values"
            )
        for name, text in headers.items():
            if name not in HEADERS or not isinstance(text, str) or not text.isprintable():
                raise WebConfigError(f"{self._path}: headers.{name}: cannot be set; {did_you_mean(str(name), HEADERS)}")
        return dict(headers)

    def _users(self, users: object) -> dict[str, bytes]:
        if users is None:
            return {}
        if not isinstance(users, dict) or not all(isinstance(text, str) for text in users.values()):
            raise WebConfigError(f"{self._path}: basic_auth_users: expected a bcrypt hash for each user name")
        for user, text in users.items():
            if not _BCRYPT_HASH.fullmatch(text):
                problem = "no bcrypt hash; make one by: htpasswd -nBC 10 ''"
                raise WebConfigError(f"{self._path}: basic_auth_users.{user}: {problem}")
        return {str(user): text.encode() for user, text in users.items()}

    # -- TLS

    def _given(self, key: str) -> Any:
        return self._tls.get(key) if self._tls is not None else None

    def _file(self, key: str) -> Path:
        name = self._given(key)
        if not isinstance(name, str):
            raise WebConfigError(f"{self._path}: tls_server_config.{key}: got {name!r}; expected the path of a file")
        return self._place.parent / name

    def _files_changed_at(self) -> tuple[object, ...]:
        return tuple(_changed_at(self._file(key)) for key in _FILES if self._given(key))

    def _make_context(self) -> ssl.SSLContext:
        import ssl  # not at the top: nobody pays for TLS who does not use it

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            if not self._given("cert_file") or not self._given("key_file"):
                raise WebConfigError(f"{self._path}: tls_server_config: cert_file and key_file are both needed")
            context.minimum_version = self._version("min_version", "TLS12")
            context.maximum_version = self._version("max_version", "TLS13")
            for key in _FILES:
                if self._given(key):
                    self._file(key).read_bytes()  # OpenSSL does not say which file it could not read
            context.load_cert_chain(self._file("cert_file"), self._file("key_file"), self._no_passphrase)
            self._choose_suites(context)
            self._ask_clients(context)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise WebConfigError(f"{self._path}: tls_server_config: {error}") from error
        return context

    def _no_passphrase(self) -> str:
        # OpenSSL would ask for it on the terminal, and nobody may be there.
        raise WebConfigError(
            f"{self._path}: tls_server_config.key_file: wants a passphrase; expected a key without one"
        )

    def _choose_suites(self, context: ssl.SSLContext) -> None:
        """Allow the cipher suites that are listed. Those of TLS 1.3 cannot be chosen among, in Go as here."""
        import ssl

        suites = self._given("cipher_suites") or []
        if not isinstance(suites, list):
            raise WebConfigError(f"{self._path}: tls_server_config.cipher_suites: got {suites!r}; expected a list")
        names = [self._suite(str(suite), context) for suite in suites]
        if any(names):
            context.set_ciphers(":".join(filter(None, names)))
        elif suites:
            context.minimum_version = ssl.TLSVersion.TLSv1_3

    def _suite(self, suite: str, context: ssl.SSLContext) -> str:
        try:
            name = openssl_name(suite)
            context.set_ciphers(name or "DEFAULT")  # each by itself: OpenSSL passes over what it does not know
        except (OSError, ValueError) as error:
            problem = f"cipher_suites: {suite!r} cannot be had here"
            raise WebConfigError(f"{self._path}: tls_server_config.{problem}") from error
        return name

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


_BCRYPT_HASH = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_SUITE = re.compile(r"TLS_(?P<exchange>[A-Z]+(_[A-Z]+)?)_WITH_(?P<cipher>(AES|CHACHA20)_[A-Z0-9_]+)")
_SUITES_OF_TLS_1_3 = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
_FILES = ("cert_file", "key_file", "client_ca_file")


def _document(path: Path, place: Path) -> Mapping[str, Any]:
    import yaml  # not at the top: only this file needs it

    try:
        document = yaml.safe_load(place.read_text(encoding="utf-8"))
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


def _changed_at(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_ino, status.st_size


def openssl_name(suite: str) -> str:
    """`TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`, as Go names it, as OpenSSL does: ECDHE-RSA-AES128-GCM-SHA256.

    Empty for a suite of TLS 1.3, which is not chosen by name; ValueError for what is no suite's name.
    """
    if suite in _SUITES_OF_TLS_1_3:
        return ""
    match = _SUITE.fullmatch(suite)
    if match is None:
        raise ValueError(suite)
    exchange = "" if match["exchange"] == "RSA" else match["exchange"] + "_"
    cipher = re.sub(r"AES_(\d+)", r"AES\1", match["cipher"]).replace("_CBC", "").replace("POLY1305_SHA256", "POLY1305")
    return f"{exchange}{cipher}".replace("_", "-")
