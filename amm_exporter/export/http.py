"""HTTP/1.1 as an exporter needs it: read one request, write one answer. Pure; the sockets are server.py's.

Strict on purpose: GET and HEAD only, no body, CRLF line ends, bounded lines and headers. What a scraper or a browser
sends is accepted, all else is answered with a status that says what is wrong, and the connection is closed.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

MAX_HEAD_BYTES = 8192
"""Request line and headers together. Prometheus sends about 300 bytes, a browser with cookies about 2,000."""
MAX_HEADERS = 64
GZIP_FROM_BYTES = 1024
"""Below this, compressing saves no packet."""

_REQUEST_LINE = re.compile(rb"([A-Za-z]{1,16}) (/[!-~]*) HTTP/1\.([01])")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([ -~\t\x80-\xff]*)")
_ENCODING_REFUSED = re.compile(r";\s*q=0(\.0*)?$")


class RefusedRequestError(Exception):
    """A request that is answered with a status and nothing else."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Method, path without query, headers by lower-case name, and whether the client will reuse the connection."""

    method: str
    path: str
    headers: Mapping[str, str]
    keep_alive: bool

    def header(self, name: str) -> str:
        return self.headers.get(name, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer. `headers` come in addition to type, length and the ones that every answer has."""

    status: HTTPStatus = HTTPStatus.OK
    content_type: str = "text/plain; charset=utf-8"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def parse_request(head: bytes) -> Request:
    """The request from everything before the empty line. Raises RefusedRequestError with the status to answer."""
    first, *lines = head.split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise RefusedRequestError(HTTPStatus.BAD_REQUEST, "expected: GET /metrics HTTP/1.1")
    method, target, minor = match.groups()
    if method not in (b"GET", b"HEAD"):
        raise RefusedRequestError(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are served")
    headers = _headers(lines)
    _refuse_body(headers)
    if minor == b"1" and "host" not in headers:
        raise RefusedRequestError(HTTPStatus.BAD_REQUEST, "HTTP/1.1 needs a Host header")
    path = target.partition(b"?")[0].decode("ascii")
    return Request(method=method.decode(), path=path, headers=headers, keep_alive=_keep_alive(headers, minor))


def _headers(lines: list[bytes]) -> dict[str, str]:
    if len(lines) > MAX_HEADERS:
        raise RefusedRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"more than {MAX_HEADERS} headers")
    headers: dict[str, str] = {}
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise RefusedRequestError(HTTPStatus.BAD_REQUEST, "a header line cannot be read")
        name, value = match[1].decode("ascii").lower(), match[2].decode("latin-1").strip()
        if name in ("host", "authorization", "content-length") and name in headers:
            raise RefusedRequestError(HTTPStatus.BAD_REQUEST, f"more than one {name} header")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _refuse_body(headers: Mapping[str, str]) -> None:
    if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
        raise RefusedRequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "a body is not accepted")


def _keep_alive(headers: Mapping[str, str], minor: bytes) -> bool:
    wishes = {wish.strip().lower() for wish in headers.get("connection", "").split(",")}
    return "close" not in wishes if minor == b"1" else "keep-alive" in wishes


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether gzip is asked for: named, and not with a quality of zero."""
    choices = (choice.strip() for choice in accept_encoding.lower().split(","))
    return any(choice.split(";")[0] == "gzip" and not _ENCODING_REFUSED.search(choice) for choice in choices)


def refusal_response(refused: RefusedRequestError) -> Response:
    headers = {"Allow": "GET, HEAD"} if refused.status == HTTPStatus.METHOD_NOT_ALLOWED else {}
    return Response(status=refused.status, body=f"{refused.reason}\n".encode(), headers=headers)


def write_response(
    response: Response, *, head_only: bool = False, gzip: bool = False, keep_alive: bool = False
) -> bytes:
    """Status line, headers and, unless `head_only`, the body."""
    body, headers = response.body, dict(response.headers)
    if gzip and len(body) >= GZIP_FROM_BYTES:
        body = _gzip(body)
        headers["Content-Encoding"] = "gzip"
    lines = [
        f"HTTP/1.1 {response.status.value} {response.status.phrase}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(body)}",
        "Vary: Accept, Accept-Encoding",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        f"Connection: {'keep-alive' if keep_alive else 'close'}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    return head if head_only else head + body


def _gzip(body: bytes) -> bytes:
    # Level 1: 15 kB of metrics shrink to a sixth in a third of the time that level 9 takes for a seventh.
    compressor = zlib.compressobj(level=1, wbits=16 + zlib.MAX_WBITS)
    return compressor.compress(body) + compressor.flush()
