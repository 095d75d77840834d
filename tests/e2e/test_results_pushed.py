"""The results of a test run, pushed once by OTLP into a real store, stay on the Tests dashboard."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.parse

import pytest
from debian_trixie import program
from monitoring import end, filled, free_port, get, start, wait_until

from amm_exporter.export.dashboards import dashboard_files

pytestmark = pytest.mark.e2e

HOUR = 3600
AS_PROMETHEUS_DOES = """
- {source_labels: [service_name], target_label: job}
- {source_labels: [service_instance_id], target_label: instance}
"""
SUITE = """
import pytest

def test_small():
    pass

@pytest.mark.amm_leak(max_per_call="1KB")
def test_keeps_nothing():
    bytes(1000)
"""
ELSEWHERE = {"Effect of actions"}
"""Panels about processes, not about test runs."""
COUNTS = {"Suites": 1, "Tests": 2}
TARGETS = [
    pytest.param(panel["title"], target, id=f"{panel['title']}-{target['refId']}".replace(" ", "_"))
    for panel in json.loads(dashboard_files()["amm-tests.json"])["panels"]
    if panel["type"] != "row" and panel["title"] not in ELSEWHERE
    for target in panel["targets"]
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The port of a store that holds one push of one run."""
    folder, port = tmp_path_factory.mktemp("store"), free_port()
    (folder / "relabel.yml").write_text(AS_PROMETHEUS_DOES)
    server = start(
        folder,
        str(program("victoria-metrics", "victoria-metrics")),
        f"-storageDataPath={folder / 'data'}",
        f"-httpListenAddr=127.0.0.1:{port}",
        f"-relabelConfig={folder / 'relabel.yml'}",
        "-opentelemetry.usePrometheusNaming",
        "-search.latencyOffset=0s",
    )
    try:
        wait_until(lambda: get(port, "/health"))
        (folder / "test_it.py").write_text(SUITE)
        where = f"--amm-export=http://127.0.0.1:{port}/opentelemetry/v1/metrics"
        tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--amm-budget=4GB", where]
        run = subprocess.run(tests, cwd=folder, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr
        wait_until(lambda: found(port, "query", query="amm_test_run_timestamp_seconds"))
        yield port
    finally:
        end(server)


def found(port, how, **parameters):
    return json.loads(get(port, f"/api/v1/{how}?{urllib.parse.urlencode(parameters)}"))["data"]["result"]


@pytest.mark.parametrize(("title", "target"), TARGETS)
def test_a_panel_shows_the_run(store, title, target):
    """One that tells the last run still does an hour later, when an instant query has long forgotten the samples."""
    expr = filled(target["expr"], rate="1m", whole="7d")
    now = time.time()
    if target.get("instant"):
        result = found(store, "query", query=expr, time=now + HOUR)
        assert not found(store, "query", query="amm_test_run_timestamp_seconds", time=now + HOUR)
    else:
        result = found(store, "query_range", query=expr, start=now - 60, end=now + 60, step=15)
    assert result, expr
    if title in COUNTS:
        assert [float(sample["value"][1]) for sample in result] == [COUNTS[title]]
