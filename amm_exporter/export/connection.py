"""One client's connection: it reads a request, writes the answer, and waits for the next one or goes.

The states are named by what is awaited: a request, room to write, or (after a refusal) the client's own end, so that it
can read why before the connection is reset under unread bytes.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from http import HTTPStatus

from amm_exporter.export.http import (
    MAX_HEAD_BYTES,
    RefusedRequestError,
    Request,
    Response,
    accepts_gzip,
    parse_request,
    refusal_response,
    write_response,
)
from amm_exporter.export.loop import READ, WRITE, Loop

_END = b"\r\n\r\n"
_CHUNK_BYTES = 4096
DRAIN_SECONDS = 1.0
DRAIN_BYTES = 256 * 1024


class Connection:
    """Belongs to the loop's thread. `closed(self)` is called once, when it is gone."""

    def __init__(
        self,
        sock: socket.socket,
        loop: Loop,
        answer: Callable[[Request], Response],
        closed: Callable[[Connection], object],
        clock: Callable[[], float],
    ) -> None:
        self.sock = sock
        self._loop = loop
        self._answer = answer
        self._closed = closed
        self._clock = clock
        self._received = b""
        self._to_send = memoryview(b"")
        self._keep = self._queued = False
        self._drained: int | None = None
        self._deadline_seconds = self._idle_seconds = 0.0
        self.active_at = self.expires_at = clock()

    @property
    def answering(self) -> bool:
        """Whether an answer is on its way: such a connection is the last to be given up."""
        return bool(self._to_send)

    def expect(self, deadline_seconds: float, idle_seconds: float) -> None:
        """Wait for the first request: the deadline counts from now, whatever trickles in."""
        self._deadline_seconds, self._idle_seconds = deadline_seconds, idle_seconds
        self.expires_at = self._clock() + deadline_seconds
        self._loop.watch(self.sock, READ, self._ready)

    def expire(self) -> None:
        """The deadline has passed: say so to a client that is still sending its request, then close."""
        if self._received and not self.answering and self._drained is None:
            self._refuse(RefusedRequestError(HTTPStatus.REQUEST_TIMEOUT, "the request took too long"))
        else:
            self.close()

    def close(self) -> None:
        if self.sock.fileno() < 0:
            return
        self._loop.unwatch(self.sock)
        self.sock.close()
        self._closed(self)

    def _ready(self, _events: int) -> None:
        try:
            if self._to_send:
                self._send()
            else:
                self._receive()
        except OSError:  # reset by the client, or no TLS spoken: it has gone, which is its right
            self.close()
        self._go_on()

    def _receive(self) -> None:
        """Take one request or one piece, then it is the others' turn: a client may send for ever."""
        if self._has_next:
            self._serve()
            return
        data = self._recv()
        if data is None:
            return
        if not data:
            self.close()
        elif self._drained is not None:
            self._drain(len(data))
        else:
            if not self._received:  # the first bytes after an idle time: from here the deadline counts
                self.expires_at = min(self.expires_at, self._clock() + self._deadline_seconds)
            self._received += data
            self._serve()

    @property
    def _has_next(self) -> bool:
        """Whether a request came along with the one before."""
        return self._drained is None and _END in self._received

    def _go_on(self) -> None:
        """Come back for what no selector tells of: a request that was read already, bytes that TLS has decrypted."""
        if self._queued or self.answering or self.sock.fileno() < 0:
            return
        if self._has_next or getattr(self.sock, "pending", int)():
            self._queued = True
            self._loop.later(0.0, self._again)

    def _again(self) -> None:
        self._queued = False
        if self.sock.fileno() >= 0 and not self.answering:
            self._ready(READ)

    def _recv(self) -> bytes | None:
        """Bytes, b"" at the end, None when there is nothing to read now."""
        try:
            return self.sock.recv(_CHUNK_BYTES)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            self._tls_wants(error)
            return None

    def _tls_wants(self, error: OSError) -> None:
        """Wait for what a TLS socket asks for in the middle of reading or writing; raise any other error again."""
        # By name: the ssl module is not imported unless TLS is configured.
        wanted = {"SSLWantReadError": READ, "SSLWantWriteError": WRITE}.get(type(error).__name__)
        if wanted is None:
            raise error
        self._loop.watch(self.sock, wanted, self._ready)

    def _serve(self) -> None:
        head, end, rest = self._received.partition(_END)
        try:
            if len(head) > MAX_HEAD_BYTES:
                status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
                raise RefusedRequestError(status, f"a request has at most {MAX_HEAD_BYTES} bytes")
            if not end:
                return
            self._received = rest
            self._respond(parse_request(head))
        except RefusedRequestError as refused:
            self._refuse(refused)

    def _respond(self, request: Request) -> None:
        response = self._answer(request)
        self._keep = request.keep_alive and response.status < HTTPStatus.INTERNAL_SERVER_ERROR
        self._write(
            write_response(
                response,
                head_only=request.method == "HEAD",
                gzip=accepts_gzip(request.header("accept-encoding")),
                keep_alive=self._keep,
            )
        )

    def _refuse(self, refused: RefusedRequestError) -> None:
        self._keep = False
        self._write(write_response(refusal_response(refused)))

    def _write(self, data: bytes) -> None:
        self._to_send = memoryview(data)
        self.expires_at = self._clock() + self._deadline_seconds
        try:
            self._send()
        except OSError:
            self.close()

    def _send(self) -> None:
        try:
            while self._to_send:
                self._to_send = self._to_send[self.sock.send(self._to_send) :]
        except (BlockingIOError, InterruptedError):
            self._loop.watch(self.sock, WRITE, self._ready)
        except OSError as error:
            self._tls_wants(error)
        else:
            self._sent()

    def _sent(self) -> None:
        self._to_send = memoryview(b"")
        self.active_at = self._clock()
        if self._keep:
            self.expires_at = self.active_at + (self._deadline_seconds if self._received else self._idle_seconds)
            self._loop.watch(self.sock, READ, self._ready)
        else:
            self._finish()

    def _finish(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)
        self._drained = 0
        self.expires_at = self._clock() + DRAIN_SECONDS
        self._loop.watch(self.sock, READ, self._ready)

    def _drain(self, size_bytes: int) -> None:
        self._drained = (self._drained or 0) + size_bytes
        if self._drained > DRAIN_BYTES:
            self.close()
