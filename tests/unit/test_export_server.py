"""The HTTP server: what it answers, what it refuses, and that nothing of it remains."""

from __future__ import annotations

import gzip
import http.client
import os
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, suppress

import pytest

from amm_exporter.errors import AMMError
from amm_exporter.export.http import MAX_HEAD_BYTES, MAX_HEADERS, Response, accepts_gzip
from amm_exporter.export.server import PortTakenError, Server

BODY = b"metric 1\n" * 1000
GET = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextmanager
def serving(render=lambda _accept: ("text/plain", BODY), **options):
    server = Server(render, port=0, **options)
    server.start()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def server():
    with serving() as server:
        yield server


def request(server: Server, method: str = "GET", path: str = "/metrics", **headers: str):
    connection = http.client.HTTPConnection(*server.address, timeout=5)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def raw(server: Server, data: bytes) -> bytes:
    with socket.create_connection(server.address, timeout=5) as sock:
        sock.sendall(data)
        return read_all(sock)


def read_all(sock: socket.socket) -> bytes:
    received = b""
    while data := sock.recv(65536):
        received += data
    return received


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_metrics_are_what_render_gives(server):
    response, body = request(server)
    assert (response.status, response.headers["Content-Type"], body) == (200, "text/plain", BODY)


def test_render_is_told_what_the_client_accepts():
    with serving(lambda accept: ("text/plain", accept.encode())) as server:
        assert request(server, Accept="application/openmetrics-text")[1] == b"application/openmetrics-text"


def test_gzip_when_asked_for(server):
    response, body = request(server, Accept_Encoding="deflate, gzip;q=0.8")
    assert response.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body) == BODY


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("gzip", True),
        ("br, GZIP", True),
        ("", False),
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
        ("gzip;q=0.1", True),
        ("x-gzip", False),
    ],
)
def test_which_encodings_mean_gzip(header, wanted):
    assert accepts_gzip(header) is wanted


def test_head_has_the_headers_of_get_and_no_body(server):
    response, body = request(server, "HEAD")
    assert (response.status, response.headers["Content-Length"], body) == (200, str(len(BODY)), b"")


def test_health(server):
    assert request(server, path="/healthz")[1] == b"ok\n"


def test_a_query_does_not_change_the_path(server):
    assert request(server, path="/healthz?x=/../etc")[0].status == 200


def test_further_routes_are_served():
    with serving(routes={"/x": lambda request: Response(body=request.method.encode())}) as server:
        assert request(server, path="/x")[1] == b"GET"


def test_an_unknown_path_is_not_found(server):
    assert request(server, path="/etc/passwd")[0].status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get"])
def test_other_methods_are_not_allowed(server, method):
    answer = raw(server, f"{method} /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert status_of(answer) == 405
    assert b"\r\nAllow: GET, HEAD\r\n" in answer


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /metrics\r\n\r\n",
        b"GET metrics HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://localhost/metrics HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /metrics HTTP/2.0\r\nHost: a\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n folded\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
        b"GET /metrics HTTP/1.1\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    ],
)
def test_a_malformed_request_is_refused(server, data):
    assert status_of(raw(server, data)) == 400


@pytest.mark.parametrize("header", [b"Content-Length: 3", b"Content-Length: x", b"Transfer-Encoding: chunked"])
def test_a_body_is_not_accepted(server, header):
    assert status_of(raw(server, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n" + header + b"\r\n\r\nabc")) == 413


def head_of(size_bytes: int) -> bytes:
    start = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: "
    return start + b"a" * (size_bytes - len(start)) + b"\r\n\r\n"


@pytest.mark.parametrize(("size_bytes", "status"), [(MAX_HEAD_BYTES, 200), (MAX_HEAD_BYTES + 1, 431), (300_000, 431)])
def test_the_size_of_a_request_is_bounded(server, size_bytes, status):
    assert status_of(raw(server, head_of(size_bytes))) == status


@pytest.mark.parametrize(("count", "status"), [(MAX_HEADERS, 200), (MAX_HEADERS + 1, 431)])
def test_the_number_of_headers_is_bounded(server, count, status):
    headers = b"Host: localhost\r\nConnection: close\r\n" + b"X: 1\r\n" * (count - 2)
    assert status_of(raw(server, b"GET /metrics HTTP/1.1\r\n" + headers + b"\r\n")) == status


def test_a_connection_serves_one_request_after_another(server):
    with socket.create_connection(server.address, timeout=5) as sock:
        sock.sendall(GET + GET.replace(b"Host", b"Connection: close\r\nHost"))
        assert read_all(sock).count(b"HTTP/1.1 200 OK") == 2


def test_requests_sent_all_at_once_are_all_answered(server):
    get, last = (
        b"GET /healthz HTTP/1.1\r\nHost: a.localhost\r\n\r\n",
        GET.replace(b"Host", b"Connection: close\r\nHost"),
    )
    assert raw(server, get * 400 + last).count(b"HTTP/1.1 200 OK") == 401


def test_a_client_that_sends_requests_without_end_leaves_the_others_their_turn(server):
    """It sent faster than one answer after another took: all that came was read, and nobody else was served."""
    flood = GET.replace(b"/metrics", b"/healthz") * 500
    with socket.create_connection(server.address, timeout=30) as sock:
        enough = threading.Event()
        ends = [
            threading.Thread(target=send_until, args=(enough, sock, flood)),
            threading.Thread(target=discard_all, args=(sock,)),
        ]
        for end in ends:
            end.start()
        try:
            assert [request(server)[1] for _ in range(3)] == [BODY] * 3
        finally:
            enough.set()
            ends[0].join()
            sock.shutdown(socket.SHUT_RDWR)  # what is on its way by now, tens of thousands of requests, proves no more
            ends[1].join()


def send_until(enough: threading.Event, sock: socket.socket, data: bytes) -> None:
    while not enough.is_set():
        sock.sendall(data)


def discard_all(sock: socket.socket) -> None:
    with suppress(ConnectionResetError):
        while sock.recv(65536):
            pass


def test_http_1_0_is_answered_and_closed(server):
    assert status_of(raw(server, b"GET /metrics HTTP/1.0\r\n\r\n")) == 200


def test_whoever_is_slow_is_dropped_at_the_deadline():
    """One that sends slowly, one that sends nothing, one that does not read; together, so that it is awaited once."""
    with ExitStack() as stack:
        server = stack.enter_context(serving(lambda _: ("text/plain", b"x" * 50_000_000), deadline_seconds=0.3))
        slow, silent, deaf = (
            stack.enter_context(socket.create_connection(server.address, timeout=5)) for _ in range(3)
        )
        slow.sendall(GET[:10])
        deaf.sendall(GET)
        assert status_of(read_all(slow)) == 408
        assert read_all(silent) == b""
        time.sleep(0.4)
        assert len(read_all(deaf)) < 50_000_000
        assert request(server, path="/healthz")[1] == b"ok\n"


def test_the_connection_that_idled_longest_makes_room():
    with serving(max_connections=3) as server:
        idle = [socket.create_connection(server.address, timeout=5) for _ in range(10)]
        try:
            assert request(server)[0].status == 200
            assert idle[0].recv(1) == b""
        finally:
            for sock in idle:
                sock.close()


def test_an_error_in_render_is_a_500_without_its_text(caplog):
    def render(_accept: str) -> tuple[str, bytes]:
        raise ValueError("secret")

    with serving(render) as server:
        response, body = request(server)
        assert request(server, path="/healthz")[0].status == 200
    assert response.status == 500
    assert b"secret" not in body
    assert "secret" in caplog.text


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:80", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:9464", 200),
        ("[::1]", 200),
        ("app.localhost", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("10.0.0.1:80", 421),
    ],
)
def test_a_local_server_answers_to_local_names_only(server, host, status):
    assert request(server, Host=host)[0].status == status


def test_a_server_open_to_others_answers_to_any_name():
    with serving(host="0.0.0.0") as server:
        assert request(server, Host="node7.example")[0].status == 200


def test_a_port_that_is_taken_is_told_with_the_port_and_what_to_do(server):
    _, port = server.address
    with pytest.raises(PortTakenError, match=rf"port {port} .*in use.*OTEL_EXPORTER_PROMETHEUS_PORT") as caught:
        Server(lambda _accept: ("", b""), port=port).start()
    assert isinstance(caught.value, AMMError)
    assert caught.value.port == port


@pytest.mark.parametrize(("host", "port"), [("no such host", 0), ("localhost", 70_000), ("203.0.113.1", 0)])
def test_an_address_that_cannot_be_had_is_an_error_in_words(host, port):
    with pytest.raises(AMMError, match="cannot listen"):
        Server(lambda _accept: ("", b""), host=host, port=port).start()


def test_closing_leaves_no_thread_and_no_descriptor():
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with serving() as server:
            sock = socket.create_connection(server.address)
            request(server)
        sock.close()
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (threads, descriptors)


def test_a_closed_port_is_free_at_once(server):
    with serving() as first:
        request(first)
        port = first.address[1]
    again = Server(lambda _accept: ("", b""), port=port)
    again.start()
    again.close()
