"""A small HTTP server for metrics that a hostile client can neither stop nor fill: bounded in every direction.

At most `max_connections` at once (the one that has idled longest goes first), 8 KiB of request, `deadline_seconds` for
a whole request however slowly it trickles in or out, GET and HEAD only. It binds localhost unless told otherwise, and
then answers only to a local name, so that a web page cannot read it through a name of its own (DNS rebinding).
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from amm_exporter.errors import AMMError
from amm_exporter.export.connection import Connection
from amm_exporter.export.descriptors import let_go
from amm_exporter.export.http import RefusedRequestError, Request, Response, refusal_response
from amm_exporter.export.loop import READ, Loop

if TYPE_CHECKING:
    import ssl

log = logging.getLogger("amm.export")

DEFAULT_HOST = "localhost"
DEFAULT_PORT = 9464
"""OpenTelemetry's default for a Prometheus exporter."""
BACKLOG = 128
ACCEPTS_PER_TURN = 16
PAUSE_WITHOUT_DESCRIPTORS_SECONDS = 1.0
SWEEP_SECONDS = 0.5

Render = Callable[[str], tuple[str, bytes]]
Handler = Callable[[Request], Response]
Address = tuple[socket.AddressFamily, str]
Authorize = Callable[[Request], Response | None]


class PortTakenError(AMMError, OSError):
    """The address is in use.

    Attributes:
        host, port: the address.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        super().__init__(
            f"port {port} of {host} is in use by another program; choose another one "
            "(--port, or OTEL_EXPORTER_PROMETHEUS_PORT), or 0 for any that is free"
        )


class Server:
    """Serves `/metrics` from `render(accept)`, `/healthz`, and any further `routes` by exact path.

    With a `loop` it runs on that; without, on a thread of its own. `authorize` returns the refusal, or None to go on;
    `tls` gives the context for a connection; `headers` go with every answer. A WebConfig has all three.
    """

    def __init__(
        self,
        render: Render,
        host: str = DEFAULT_HOST,
        port: int = DEFAULT_PORT,
        *,
        routes: Mapping[str, Handler] | None = None,
        authorize: Authorize | None = None,
        tls: Callable[[], ssl.SSLContext] | None = None,
        headers: Mapping[str, str] | None = None,
        max_connections: int = 64,
        deadline_seconds: float = 10.0,
        idle_seconds: float = 120.0,
        loop: Loop | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._render = render
        self._host, self._port = host, port
        self.routes: dict[str, Handler] = {"/metrics": self._metrics, "/healthz": _healthz, **(routes or {})}
        self._authorize = authorize
        self._tls = tls
        self._headers = dict(headers or {})
        self._max_connections = max_connections
        self.deadline_seconds, self.idle_seconds = deadline_seconds, idle_seconds
        self._addresses: list[Address] = []
        self._given_loop = loop
        self._own_loop: Loop | None = None
        self.clock = clock
        self._listeners: list[socket.socket] = []
        self._connections: dict[Connection, None] = {}
        self._sweeping = False

    def start(self) -> None:
        """Bind and serve. Raises AMMError (PortTakenError) when the address cannot be had."""
        self._addresses = self._addresses or addresses_of(self._host, self._port)
        self._listeners = listen(self._host, self._port, self._addresses)
        if self._given_loop is not None:
            self._given_loop.call(self._watch)
            return
        self._own_loop = Loop()
        self._watch()
        self._own_loop.start()

    @property
    def _loop(self) -> Loop:
        loop = self._given_loop or self._own_loop
        if loop is None:
            raise AMMError("the server has not been started")
        return loop

    @property
    def address(self) -> tuple[str, int]:
        """The host as given and the port in fact bound (other than the one asked for when that was 0)."""
        return self._host, self._listeners[0].getsockname()[1] if self._listeners else self._port

    @property
    def listening(self) -> bool:
        return bool(self._listeners)

    def close(self) -> None:
        """Stop serving: no socket and, if the loop is its own, no thread is left."""
        if self._own_loop is not None:
            self._own_loop.close()
        elif self._given_loop is not None:
            for sock in self._sockets():
                self._given_loop.unwatch(sock)
        self.abandon()

    def abandon(self) -> None:
        """Close the sockets alone: in a forked child they are copies, and the parent goes on with the originals."""
        loop = self._given_loop or self._own_loop
        for sock in self._sockets():
            let_go(sock, loop is None or loop.intact)
        self._listeners.clear()
        self._connections.clear()
        if self._own_loop is not None:
            self._own_loop.abandon()

    def _sockets(self) -> list[socket.socket]:
        return [*self._listeners, *(connection.sock for connection in self._connections)]

    def answer(self, request: Request) -> Response:
        """The response to one request; an error in a handler becomes a 500 that tells the client nothing."""
        response = self._answer(request)
        return replace(response, headers={**response.headers, **self._headers}) if self._headers else response

    def _answer(self, request: Request) -> Response:
        try:
            self._check_host(request)
            refusal = self._authorize(request) if self._authorize else None
            if refusal is not None:
                return refusal
            handler = self.routes.get(request.path)
            if handler is None:
                raise RefusedRequestError(HTTPStatus.NOT_FOUND, "served here: " + " ".join(sorted(self.routes)))
            return handler(request)
        except RefusedRequestError as refused:
            return refusal_response(refused)
        except Exception:  # the client gets a status, the log the reason
            log.exception("%s could not be served", request.path)
            return Response(status=HTTPStatus.INTERNAL_SERVER_ERROR, body=b"failed; the program's log says why\n")

    def _metrics(self, request: Request) -> Response:
        content_type, body = self._render(request.header("accept"))
        return Response(content_type=content_type, body=body)

    def _check_host(self, request: Request) -> None:
        named = _host_name(request.header("host"))
        if named and _is_local(self._host) and not _is_local(named):
            raise RefusedRequestError(HTTPStatus.MISDIRECTED_REQUEST, "this is served to local names only")

    def _watch(self) -> None:
        for listener in self._listeners:
            self._loop.watch(listener, READ, partial(self._accept, listener))

    def _accept(self, listener: socket.socket, _events: int) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, _peer = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._rest()  # else the listener stays ready and the thread spins
                return
            self._admit(sock)

    def _rest(self) -> None:
        log.warning("no file descriptor is left for a connection; accepting again in a second")
        for listener in self._listeners:
            self._loop.unwatch(listener)
        self._loop.later(PAUSE_WITHOUT_DESCRIPTORS_SECONDS, self._watch)

    def _admit(self, sock: socket.socket) -> None:
        if len(self._connections) >= self._max_connections:
            min(self._connections, key=lambda one: (one.answering, one.active_at)).close()
        sock.setblocking(False)
        if self._tls is not None:
            try:
                sock = self._tls().wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            except OSError:  # it has gone already
                sock.close()
                return
        connection = Connection(sock, self._loop, self.answer, self._forget, self.clock)
        self._connections[connection] = None
        connection.expect(self.deadline_seconds, self.idle_seconds)
        if not self._sweeping:
            self._sweeping = True
            self._loop.later(SWEEP_SECONDS, self._sweep)

    def _forget(self, connection: Connection) -> None:
        self._connections.pop(connection, None)

    def _sweep(self) -> None:
        now = self.clock()
        for connection in [one for one in self._connections if one.expires_at <= now]:
            connection.expire()
        self._sweeping = bool(self._connections)
        if self._sweeping:
            self._loop.later(SWEEP_SECONDS, self._sweep)


def listen(host: str, port: int, addresses: Iterable[Address]) -> list[socket.socket]:
    """Listening sockets on every address of a host (localhost is two), all on one port. The first one must succeed."""
    listeners: list[socket.socket] = []
    for family, address in addresses:
        try:
            listeners.append(_listener(family, (address, listeners[0].getsockname()[1] if listeners else port)))
        except OSError as error:
            if listeners:
                continue  # no IPv6 here, or that half of the port is taken: the other half serves
            if error.errno == errno.EADDRINUSE:
                raise PortTakenError(host, port) from error
            raise AMMError(f"cannot listen on port {port} of {host}: {error.strerror or error}") from error
    return listeners


def addresses_of(host: str, port: int) -> list[Address]:
    """The addresses of a host name, IPv4 first."""
    if not 0 <= port <= 65535:
        raise AMMError(f"cannot listen on port {port}; expected 0 to 65535")
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError, OverflowError) as error:
        raise AMMError(f"cannot listen on port {port} of {host!r}: {error}") from error
    pairs = {(family, str(sockaddr[0])) for family, _, _, _, sockaddr in found}
    return sorted(pairs, key=lambda pair: (pair[0] != socket.AF_INET, pair[1]))


def _listener(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _healthz(_request: Request) -> Response:
    return Response(body=b"ok\n")


def _host_name(host: str) -> str:
    return host[1:].partition("]")[0] if host.startswith("[") else host.rpartition(":")[0] or host


def _is_local(name: str) -> bool:
    name = name.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
