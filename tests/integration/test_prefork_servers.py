"""Real prefork servers, started as their users start them, under opentelemetry-instrument and nothing else."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import programs
import psutil
import pytest
from programs import eventually, free_port
from prometheus_client.parser import text_string_to_metric_families

from amm_exporter.export.family_directory import family_directory

pytestmark = pytest.mark.e2e

FIXTURES = Path(__file__).parent.parent / "fixtures"
BIN = Path(sys.executable).parent
GUNICORN = ["gunicorn", "-w", "3", "--no-control-socket", "prefork_app:wsgi", "-b", "127.0.0.1:{port}"]
SERVERS = {
    "gunicorn sync": GUNICORN,
    "gunicorn gthread": [*GUNICORN, "-k", "gthread", "--threads", "4"],
    "gunicorn sync preload": [*GUNICORN, "--preload"],
    "gunicorn gthread preload": [*GUNICORN, "-k", "gthread", "--threads", "4", "--preload"],
    "uvicorn": ["uvicorn", "--workers", "2", "--port", "{port}", "prefork_app:asgi"],
}


def get(port: int, path: str = "/") -> str:
    return eventually(lambda: programs.get(f"http://127.0.0.1:{port}{path}"))


def series(text: str, name: str) -> dict[str, float]:
    """The samples of a name, by worker; the one without label is under the empty string."""
    return {
        sample.labels.get("process_pid", ""): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


@contextmanager
def instrumented(command: list[str], port: int, log: Path, **environment: str):
    wanted = {"OTEL_METRICS_EXPORTER": "amm", "OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    address = {"OTEL_EXPORTER_PROMETHEUS_PORT": str(port), "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1"}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [BIN / "opentelemetry-instrument", BIN / command[0], *command[1:]],
            env={**os.environ, **wanted, **address, "PYTHONPATH": str(FIXTURES), **environment},
            cwd=log.parent,
            stdout=stream,
            stderr=stream,
        )
        try:
            yield psutil.Process(process.pid)
        finally:
            tree = [*psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for child in psutil.wait_procs(tree, timeout=3)[1]:
                child.kill()


def wait_until(condition, patience_seconds: float = 20.0):
    deadline = time.monotonic() + patience_seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it has not come about"
        time.sleep(0.1)
    return found


@pytest.mark.parametrize("server", SERVERS)
def test_one_scrape_shows_every_worker_and_counts_every_request(server, tmp_path):
    app, port, log = free_port(), free_port(), tmp_path / "log"
    command = [part.format(port=app) for part in SERVERS[server]]
    workers = 2 if server == "uvicorn" else 3
    with instrumented(command, port, log) as master:
        get(app)
        wait_until(lambda: len(series(get(port, "/metrics"), "process_memory_usage_bytes")) > workers)
        for _ in range(59):
            get(app)
        text = get(port, "/metrics")
        tree = {str(one.pid): one.memory_info().rss for one in [master, *master.children(recursive=True)]}
        shown = series(text, "process_memory_usage_bytes")
        assert set(shown) == set(tree)
        assert {pid: rss for pid, rss in tree.items() if abs(shown[pid] - rss) > 0.05 * rss} == {}
        assert series(text, "amm_group_memory_usage_bytes")[""] == pytest.approx(sum(tree.values()), rel=0.05)
        assert series(text, "app_hits_total") == {"": 60}
        assert set(series(text, "amm_memory_tier")) == set(tree)
        kill_workers(app, port, master, 5)
    assert "Traceback" not in log.read_text()
    assert "Address already in use" not in log.read_text()


def kill_workers(app: int, port: int, master: psutil.Process, kills: int) -> None:
    highest = 60.0
    for number in range(kills):
        text = get(port, "/metrics")
        serving = [pid for pid in series(text, "process_memory_usage_bytes") if int(pid) != master.pid]
        os.kill(int(serving[number % len(serving)]), signal.SIGKILL)
        for _ in range(5):
            get(app)
            now = series(get(port, "/metrics"), "app_hits_total")[""]
            assert now >= highest
            highest = now
    assert highest >= 60 + kills  # five requests for each, of which a worker may have taken some to its grave


def test_gunicorn_ends_without_leaving_anything(tmp_path):
    app, port, log = free_port(), free_port(), tmp_path / "log"
    with instrumented([part.format(port=app) for part in GUNICORN], port, log):
        get(app)
        wait_until(lambda: len(series(get(port, "/metrics"), "process_memory_usage_bytes")) == 4)
        directory = family_directory("127.0.0.1", port)
        assert list(directory.glob("*.sock"))
    assert not directory.exists()


def test_tasks_of_celery_are_all_counted_although_its_workers_are_recycled(tmp_path):
    port, log, tasks = free_port(), tmp_path / "log", 30
    (tmp_path / "queue").mkdir()
    command = ["celery", "-A", "prefork_celery", "worker", "-c", "2", "--max-tasks-per-child", "5", "-l", "info"]
    environment = {"CELERY_FOLDER": str(tmp_path / "queue"), "TASKS": str(tasks)}
    with instrumented(command, port, log, **environment):
        wait_until(lambda: log.read_text().count("succeeded") == tasks, 40)
        wait_until(lambda: series(get(port, "/metrics"), "app_hits_total") == {"": tasks}, 10)
        wait_until(lambda: len(series(get(port, "/metrics"), "process_memory_usage_bytes")) == 3)
    assert not re.search(r"Traceback.*amm_exporter", log.read_text(), re.DOTALL)
