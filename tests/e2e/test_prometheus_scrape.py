"""A real Prometheus scrapes real programs that were given nothing but an environment or a prefix."""

from __future__ import annotations

import json
import shutil
import sys
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from programs import AMM, clean_environ, eventually, free_port, get, line, page_at_rest, running, value

pytestmark = pytest.mark.e2e

PYTHON = sys.executable
BIN = Path(PYTHON).parent
APP = """
import flask
app = flask.Flask(__name__)
kept = [bytearray(1 << 20) for _ in range(64)]

@app.get("/")
def index():
    return "held"

if __name__ == "__main__":
    import sys
    app.run(port=int(sys.argv[1]))
"""
STEADY = "import sys; kept = bytearray(100 << 20); print('ready', flush=True); sys.stdin.read()"
INSTRUMENTED = {"OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
SERIES = (
    "amm_memory_tier",
    "amm_memory_usage_ratio",
    "amm_memory_limit_bytes",
    "process_memory_usage_bytes",
    "cpython_gc_collections_total",
    "cpython_gc_collected_objects_total",
    "cpython_gc_uncollectable_objects_total",
    "amm_gc_pause_duration_seconds_count",
)
CONFIG = """
global: {{scrape_interval: 250ms}}
scrape_configs:
  - job_name: app
    static_configs: [{{targets: ["localhost:{port}"]}}]
"""


class Prometheus:
    """A server that scrapes one port four times a second."""

    def __init__(self, port: int) -> None:
        self._port = port

    def query(self, expression: str) -> list[dict[str, object]]:
        url = f"http://localhost:{self._port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        found: list[dict[str, object]] = json.loads(get(url))["data"]["result"]
        return found

    def wait_for(self, expression: str) -> list[dict[str, object]]:
        return eventually(lambda: self.query(expression), seconds=30)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def prometheus(stack: ExitStack, directory: Path, scraped: int) -> Prometheus:
    command = shutil.which("prometheus")
    assert command, "prometheus is not on PATH; on Debian: apt-get install prometheus"
    (directory / "prometheus.yml").write_text(CONFIG.format(port=scraped))
    port = free_port()
    flags = [f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data"]
    with open(directory / "prometheus.log", "w") as log:
        stack.enter_context(
            running([command, *flags, f"--web.listen-address=localhost:{port}"], stdout=log, stderr=log)
        )
    return Prometheus(port)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def ways(page: int, web: int) -> dict[str, tuple[Sequence[str], dict[str, str]]]:
    """The same application, started in the ways that are promised: the metrics at `page`, itself at `web`."""
    python = [PYTHON, "app.py", str(web)]
    otel = {"OTEL_EXPORTER_PROMETHEUS_PORT": str(page), **INSTRUMENTED}
    instrument = str(BIN / "opentelemetry-instrument")
    flask = [str(BIN / "flask"), "run", "--port", str(web)]
    return {
        "opentelemetry-instrument python, prometheus": (
            [instrument, *python],
            {"OTEL_METRICS_EXPORTER": "prometheus", **otel},
        ),
        "opentelemetry-instrument flask run, amm": ([instrument, *flask], {"OTEL_METRICS_EXPORTER": "amm", **otel}),
        "amm run python": ([AMM, "run", "--port", str(page), "--", *python], {}),
        "amm run flask run": ([AMM, "run", "--port", str(page), "--", *flask], {}),
    }


@pytest.mark.parametrize("way", ways(0, 0))
def test_prometheus_sees_memory_tier_limit_and_gc(way: str, app: Path, stack: ExitStack) -> None:
    page, web = free_port(), free_port()
    command, more = ways(page, web)[way]
    process = stack.enter_context(running(command, environ=clean_environ(**more), cwd=app))
    server = prometheus(stack, app, page)
    assert eventually(lambda: get(f"http://localhost:{web}/")) == "held"
    for name in SERIES:
        assert server.wait_for(name), name
    assert server.query("up == 1")
    (tier,) = server.query("amm_memory_tier")
    assert tier["value"][1] == "0"  # type: ignore[index]
    text, true = page_at_rest(page, process.pid)
    assert value(text, "process_memory_usage_bytes") == pytest.approx(true, rel=0.01)


@pytest.mark.parametrize("prefix", [[AMM, "run", "--port"], None], ids=["amm run", "opentelemetry-instrument"])
def test_the_scraped_rss_is_that_of_proc(prefix: list[str] | None, tmp_path: Path, stack: ExitStack) -> None:
    """Within 1 %, of a program that holds still, beside its page and through Prometheus."""
    port = free_port()
    program = [PYTHON, "-c", STEADY]
    if prefix:
        command, environ = [*prefix, str(port), "--", *program], clean_environ()
    else:
        command = [str(BIN / "opentelemetry-instrument"), *program]
        otel = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}
        environ = clean_environ(**INSTRUMENTED, **otel)
    process = stack.enter_context(running(command, environ=environ, stdin=-1))
    assert line(process.stdout) == "ready"
    server = prometheus(stack, tmp_path, port)
    server.wait_for("count_over_time(process_memory_usage_bytes[1m]) > 8")
    page, true = page_at_rest(port, process.pid)
    (seen,) = server.query("process_memory_usage_bytes")
    assert [float(seen["value"][1]), value(page, "process_memory_usage_bytes")] == pytest.approx([true, true], rel=0.01)  # type: ignore[index]
