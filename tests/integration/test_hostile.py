"""Clients that mean harm, against a real program: it goes on, the scrape in between is answered, memory stays."""

from __future__ import annotations

import base64
import os
import random
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import bcrypt
import psutil
import pytest
from programs import AMM, eventually, free_port, line, running

FIXTURES = Path(__file__).parent.parent / "fixtures"
SCRAPE_SECONDS = 1.0


@pytest.fixture
def program():
    process = subprocess.Popen(
        [sys.executable, str(FIXTURES / "hostile_host.py")], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    try:
        yield Program(process)
    finally:
        process.kill()
        process.communicate()


class Program:
    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process
        self.port = int(process.stdout.readline())

    def scrape_seconds(self) -> float:
        begin = time.monotonic()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as response:
            assert b"app_hits_total" in response.read()
        return time.monotonic() - begin

    def work_done(self) -> int:
        """How many steps of its own work the program has made by now."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def rss(self) -> int:
        return psutil.Process(self.process.pid).memory_info().rss

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)


def malformed(dice: random.Random) -> bytes:
    start = [
        b"GET /metrics HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\n",
        b"GET / HTTP/9.9\r\n",
        b"",
        b"\x16\x03\x01",
        b"GET " + b"/" * 9000,
    ]
    header = [
        b"Host: x\r\n",
        b"Content-Length: -1\r\n",
        b"X" * 5000 + b": 1\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b": \r\n",
    ]
    parts = [dice.choice(start), *dice.choices(header, k=dice.randrange(5)), dice.randbytes(dice.randrange(300))]
    return b"".join(parts) + dice.choice([b"\r\n\r\n", b"\r\n", b""])


def test_ten_thousand_malformed_requests(program):
    dice, slowest = random.Random(1), 0.0
    for number in range(10_000):
        if number == 2_000:
            before, work = program.rss(), program.work_done()
        with program.connect() as sock:
            sock.sendall(malformed(dice))
        if number % 500 == 0:
            slowest = max(slowest, program.scrape_seconds())
    assert slowest < SCRAPE_SECONDS
    assert program.rss() - before < 8 * 1024 * 1024
    assert program.work_done() > work


def test_five_hundred_idle_connections(program):
    with ExitStack() as stack:
        before = program.rss()
        for _ in range(500):
            stack.enter_context(program.connect())
        assert program.scrape_seconds() < SCRAPE_SECONDS
        descriptors = psutil.Process(program.process.pid).num_fds()
        threads = psutil.Process(program.process.pid).num_threads()
        assert descriptors < 120
        assert threads <= 3
        assert program.rss() - before < 8 * 1024 * 1024


def test_a_client_that_reads_one_byte_a_second_and_one_that_sends_so(program):
    with program.connect() as reading, program.connect() as sending:
        reading.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        reading.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for byte in b"GET /m":
            sending.send(bytes([byte]))
            reading.recv(1)
            assert program.scrape_seconds() < SCRAPE_SECONDS
            time.sleep(0.5)


def test_nothing_of_environment_arguments_or_files_is_shown(program):
    for path in ("/metrics", "/", "/api/v1/status.json", "/../../etc/passwd", "/%2e%2e/etc/passwd", "/static/page.css"):
        with program.connect() as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while data := sock.recv(65536):
                answer += data
        assert b"hunter2" not in answer
        assert b"root:" not in answer
        assert b"hostile_host.py" not in answer


# -- TLS and passwords


@pytest.fixture
def secured(tmp_path):
    closed_by(tmp_path)
    environment = {**os.environ, "AMM_WEB_CONFIG": str(tmp_path / "web.yml")}
    process = subprocess.Popen(
        [sys.executable, str(FIXTURES / "hostile_host.py")],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        yield Program(process)
    finally:
        process.kill()
        process.communicate()


def closed_by(folder: Path) -> None:
    """A web.yml there: TLS, and one user."""
    certificate(folder)
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(8)).decode()
    tls = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
    (folder / "web.yml").write_text(f"{tls}basic_auth_users:\n  prometheus: {hashed}\n")


def certificate(folder: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-out", folder / "server.crt",
         "-keyout", folder / "server.key"],
        check=True, capture_output=True,
    )  # fmt: skip


def fetch(port: int, folder: Path, password: str | None = "secret", path: str = "/metrics") -> int:
    request = urllib.request.Request(f"https://127.0.0.1:{port}{path}")
    if password is not None:
        request.add_header("Authorization", "Basic " + base64.b64encode(f"prometheus:{password}".encode()).decode())
    context = ssl.create_default_context(cafile=folder / "server.crt")
    try:
        with urllib.request.urlopen(request, timeout=5, context=context) as response:
            response.read()
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def test_tls_and_password_let_in_who_has_them_and_nobody_else(secured, tmp_path):
    assert fetch(secured.port, tmp_path) == 200
    assert fetch(secured.port, tmp_path, "wrong") == 401
    for path in ("/metrics", "/", "/healthz", "/api/v1/status.json"):
        assert fetch(secured.port, tmp_path, None, path) == 401
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        urllib.request.urlopen(f"http://127.0.0.1:{secured.port}/metrics", timeout=5)


WAITING = "import os, time; os.chdir('/'); print('ready', flush=True); time.sleep(60)"


@pytest.mark.parametrize(
    "command",
    [
        ["run", "--web-config", "web.yml", "--", sys.executable, "-c", WAITING],
        ["run", "--web-config", "web.yml", "--outside", "--", sys.executable, "-c", WAITING],
        ["serve", "--web.config.file", "web.yml", "--pid", str(os.getpid())],
        ["serve", "--web.config.file", "web.yml", "--match", "."],
    ],
    ids=["run inside", "run outside", "serve --pid", "serve --match"],
)
def test_the_flag_of_the_command_line_closes_it_as_well(command, tmp_path):
    closed_by(tmp_path)
    port = free_port()
    with running(
        [AMM, command[0], "--port", str(port), "--listen", "127.0.0.1", *command[1:]], cwd=tmp_path
    ) as process:
        if command[0] == "serve":
            assert line(process.stderr).endswith(f"https://127.0.0.1:{port}/metrics")
        assert eventually(lambda: fetch(port, tmp_path)) == 200
        assert fetch(port, tmp_path, None) == 401


def test_who_stalls_in_the_handshake_or_guesses_keeps_nobody_out(secured, tmp_path):
    assert fetch(secured.port, tmp_path) == 200
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(secured.connect()).sendall(b"\x16\x03\x01\x00")
        statuses = {fetch(secured.port, tmp_path, f"guess{number}") for number in range(30)}
        begin = time.monotonic()
        assert fetch(secured.port, tmp_path) == 200
        assert time.monotonic() - begin < SCRAPE_SECONDS
    assert statuses <= {401, 429}


def test_a_renewed_certificate_is_taken_up(secured, tmp_path):
    assert fetch(secured.port, tmp_path) == 200
    certificate(tmp_path)
    assert fetch(secured.port, tmp_path) == 200
