"""Test results by the two roads: a textfile that promtool accepts, and a real OTLP request."""

from __future__ import annotations

import gzip
import http.server
import subprocess
import sys

import pytest
from monitoring import serve
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from amm_exporter.errors import AMMError
from amm_exporter.export.names import METRICS
from amm_exporter.export.test_results import export_results

TEST = {"nodeid": 'tests/a.py::test_b["ä"]', "outcome": "failed", "peak_bytes": 9000, "growth_bytes": 5,
        "kept_bytes": 1, "breach": {"scope": "session", "stopped": True}, "leak": "leak"}  # fmt: skip
REPORT = {"session": {"started_unix_seconds": 1.0, "budget_bytes": 8000, "test_budget_bytes": 10}, "tests": [TEST]}


@pytest.fixture
def receiver():
    class Handler(http.server.BaseHTTPRequestHandler):
        status = 200
        bodies: list[bytes] = []  # noqa: RUF012 # of this class, made anew for each test

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.bodies.append(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            self.send_response(self.status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = serve(Handler)
    Handler.url = f"http://127.0.0.1:{server.server_port}/v1/metrics"
    yield Handler
    server.shutdown()
    server.server_close()


def test_the_textfile_is_valid_prometheus_text(tmp_path):
    path = tmp_path / "amm.prom"
    export_results(REPORT, str(path), suite="unit")
    run = subprocess.run(["promtool", "check", "metrics"], input=path.read_bytes(), capture_output=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert path.read_text().count("# TYPE") == sum(name.startswith("amm.test.") for name in METRICS)


def run(*arguments):
    command = [sys.executable, "-m", "amm_exporter.export.test_results", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_real_report_is_sent_from_its_file(tmp_path):
    (tmp_path / "test_it.py").write_text("def test_a(): pass\n\ndef test_b(): assert 0\n")
    report, path = tmp_path / "report.json", tmp_path / "amm.prom"
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--amm-json={report}", "--amm-budget=4GB"]
    subprocess.run(tests, cwd=tmp_path, check=False, capture_output=True)
    assert run(report, path, "--suite", "mine").returncode == 0
    text = path.read_text()
    for outcome in ("passed", "failed"):
        assert f'amm_test_results{{suite="mine",outcome="{outcome}"}} 1\n' in text
    assert f'amm_test_budget_bytes{{suite="mine",kind="session"}} {4 << 30}\n' in text


def test_what_is_no_report_is_told_in_one_line(tmp_path):
    (tmp_path / "report.json").write_text("no report")
    done = run(tmp_path / "report.json", tmp_path / "amm.prom")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_one_otlp_request_carries_every_result(receiver):
    export_results(REPORT, receiver.url, suite="unit")
    (body,) = receiver.bodies
    (resource,) = ExportMetricsServiceRequest.FromString(body).resource_metrics
    names = {metric.name for scope in resource.scope_metrics for metric in scope.metrics}
    assert names == {name for name in METRICS if name.startswith("amm.test.")}
    described = {attribute.key: attribute.value.string_value for attribute in resource.resource.attributes}
    assert (described["service.name"], described["service.instance.id"]) == ("pytest", "unit")


def test_an_address_is_no_file_however_it_ends(receiver):
    export_results(REPORT, receiver.url + ".prom", suite="unit")
    assert len(receiver.bodies) == 1


def test_a_receiver_that_refuses_is_an_error(receiver):
    receiver.status = 400
    with pytest.raises(AMMError, match="did not take them"):
        export_results(REPORT, receiver.url, suite="unit")
