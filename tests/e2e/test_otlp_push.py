"""Push over OTLP/HTTP through a real collector (rotel) into a real store (VictoriaMetrics)."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from amm_exporter.export.names import METRICS

pytestmark = pytest.mark.e2e

FIXTURES = Path(__file__).parent.parent / "fixtures"
BIN = Path(sys.executable).parent


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, FIXTURES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


@contextmanager
def running(command: list, port: int, log: Path, **environment: str):
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env={**os.environ, **environment})
        try:
            wait_until(lambda: listens(port), log)
            yield process
        finally:
            process.terminate()
            process.wait(20)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def wait_until(condition, log: Path | None = None, patience_seconds: float = 20.0):
    deadline = time.monotonic() + patience_seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, log.read_text() if log else "it has not come about"
        time.sleep(0.1)
    return found


class Store:
    """VictoriaMetrics, by its Prometheus API."""

    def __init__(self, port: int) -> None:
        self.port = port

    def latest(self, service: str, name: str = ".+") -> list[tuple[dict[str, str], float]]:
        """The last value of every series that a service has pushed."""
        match = f'{{service_name="{service}",__name__=~"{name}"}}'
        url = f"http://127.0.0.1:{self.port}/api/v1/export?{urllib.parse.urlencode({'match[]': match})}"
        with urllib.request.urlopen(url, timeout=5) as response:
            found = [json.loads(line) for line in response]
        return [(one["metric"], float(one["values"][-1])) for one in found]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("store"), free_port()
    program = load("debian_trixie").program("victoria-metrics", "victoria-metrics")
    command = [program, f"-storageDataPath={folder / 'data'}", f"-httpListenAddr=127.0.0.1:{port}",
               "-opentelemetry.usePrometheusNaming", "-retentionPeriod=1d"]  # fmt: skip
    with running(command, port, folder / "log"):
        yield Store(port)


@contextmanager
def collector(store: Store, port: int, folder: Path):
    agent = Path(importlib.util.find_spec("rotel").origin).with_name("rotel-agent")
    target = f"http://127.0.0.1:{store.port}/opentelemetry/v1/metrics"
    command = [
        *(agent, "start", "--batch-timeout", "100ms", "--exporter", "otlp", "--otlp-exporter-protocol", "http"),
        *("--otlp-grpc-endpoint", f"127.0.0.1:{free_port()}", "--otlp-http-endpoint", f"127.0.0.1:{port}"),
        *("--otlp-exporter-endpoint", target, "--otlp-exporter-metrics-endpoint", target),
    ]
    with running(command, port, folder / "rotel.log") as process:
        yield process


def environment(port: int, service: str, interval_ms: int) -> dict[str, str]:
    return {
        **os.environ,
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_METRIC_EXPORT_INTERVAL": str(interval_ms),
        "OTEL_SERVICE_NAME": service,
        "PYTHONPATH": str(FIXTURES),
    }


def run_program(seconds: float, **environ: str) -> subprocess.Popen:
    command = [BIN / "opentelemetry-instrument", sys.executable, FIXTURES / "otlp_program.py", str(seconds)]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_last_counts_are_flushed_when_the_program_ends(store, tmp_path):
    port = free_port()
    with collector(store, port, tmp_path):
        errors = run_program(0.0, **environment(port, "flushed", 60_000)).communicate(timeout=30)[1]
        found = wait_until(lambda: store.latest("flushed", "app_hits_total"))
    assert [value for _, value in found] == [5]
    assert errors == ""


def test_a_collector_that_comes_late_still_gets_the_counts(store, tmp_path):
    port = free_port()
    program = run_program(6.0, **environment(port, "late", 500))
    time.sleep(2.5)
    with collector(store, port, tmp_path):
        program.communicate(timeout=40)
        wait_until(lambda: [value for _, value in store.latest("late", "app_hits_total")] == [5])


def test_names_in_the_store_are_those_of_a_scrape(store, tmp_path):
    port = free_port()
    with collector(store, port, tmp_path):
        run_program(2.0, **environment(port, "names", 500)).communicate(timeout=30)
        found = wait_until(lambda: store.latest("names"))
    known = {metric.prometheus for metric in METRICS.values()}
    parts = ("", "_bucket", "_count", "_sum")
    pushed = {labels["__name__"] for labels, _ in found}
    ours = {name for name in pushed if name.startswith(("amm_", "process_", "cpython_"))}
    assert ours - {name + part for name in known for part in parts} == set()
    assert {"process_memory_usage_bytes", "amm_memory_usage_ratio", "amm_memory_tier"} <= ours
    assert "cpython_gc_collections_total" in ours


def test_each_worker_of_gunicorn_is_an_instance_with_its_own_memory(store, tmp_path):
    port, app = free_port(), free_port()
    command = [BIN / "opentelemetry-instrument", BIN / "gunicorn", "-w", "2", "--no-control-socket", "prefork_app:wsgi",
               "-b", f"127.0.0.1:{app}"]  # fmt: skip
    with (
        collector(store, port, tmp_path),
        running(command, app, tmp_path / "log", **environment(port, "workers", 500)) as master,
    ):
        for _ in range(40):
            with urllib.request.urlopen(f"http://127.0.0.1:{app}/", timeout=5) as response:
                response.read()
        time.sleep(2)
        found = wait_until(lambda: len(pushed := store.latest("workers", "process_memory_usage_bytes")) == 3 and pushed)
        tree = [psutil.Process(master.pid), *psutil.Process(master.pid).children()]
        real = sorted(one.memory_info().rss for one in tree)
    assert len({labels["service_instance_id"] for labels, _ in found}) == 3
    assert sorted(value for _, value in found) == pytest.approx(real, rel=0.05)
