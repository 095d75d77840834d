"""AMMInstrumentor: by its own methods, and as `opentelemetry-instrument` finds it (with a distro: test_install)."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from programs import clean_environ, eventually, free_port, get, line, page_at_rest, run, running, scrape, value

from amm_exporter.errors import AMMError
from amm_exporter.export.instrumentor import AMMInstrumentor
from amm_exporter.export.reader import AMMMetricReader
from amm_exporter.export.session import start

PYTHON = sys.executable
INSTRUMENT = str(Path(PYTHON).with_name("opentelemetry-instrument"))
WAITING = "import sys, time; print('ready', flush=True); time.sleep(60)"


def environment(**more: str) -> dict[str, str]:
    """With traces and logs off: this is about neither."""
    return clean_environ(OTEL_TRACES_EXPORTER="none", OTEL_LOGS_EXPORTER="none", **more)


# -- by its methods


@pytest.fixture
def provider() -> Iterator[MeterProvider]:
    provider = MeterProvider([AMMMetricReader(serve=False)], shutdown_on_exit=False)
    yield provider
    provider.shutdown()


def traces() -> tuple[list[str], list[str], int, tuple[int, int, int]]:
    files = [f"{fd.name} {os.readlink(fd)}" for fd in Path("/proc/self/fd").iterdir() if fd.exists()]
    return sorted(thread.name for thread in threading.enumerate()), sorted(files), len(gc.callbacks), gc.get_threshold()


def test_uninstrument_leaves_nothing_behind(provider: MeterProvider) -> None:
    instrumentor = AMMInstrumentor()
    before = traces()
    for _ in range(3):
        instrumentor.instrument(meter_provider=provider, policy={})
        assert instrumentor.session is not None
        assert traces() != before
        instrumentor.uninstrument()
        assert instrumentor.session is None
        assert traces() == before


def test_a_program_that_starts_amm_itself_takes_its_place() -> None:
    reader, instrumentor = AMMMetricReader(serve=False), AMMInstrumentor()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    instrumentor.instrument(meter_provider=provider, policy={})
    threads, files, *rest = traces()
    with start({"limit": "1GB"}, meter_provider=provider) as session:
        instrumentor.uninstrument()
        assert session.governor.running
        now_threads, now_files, *now_rest = traces()
        assert (now_threads, len(now_files), now_rest) == (threads, len(files), rest)  # one of each, not two
        assert b'amm_memory_limit_bytes{source="policy"} 1073741824' in reader.render()[1]
        with pytest.raises(AMMError, match="already started"):
            start({}, meter_provider=provider)
    provider.shutdown()


def test_a_wrong_policy_is_one_line_and_no_exception(provider: MeterProvider, caplog: pytest.LogCaptureFixture) -> None:
    instrumentor = AMMInstrumentor()
    instrumentor.instrument(meter_provider=provider, policy={"limt": "1GB"})
    instrumentor.uninstrument()
    assert caplog.messages == ["AMM is off: policy: limt: unknown key; did you mean 'limit'?"]
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_whatever_else_goes_wrong_stays_here_too(caplog: pytest.LogCaptureFixture) -> None:
    """OpenTelemetry gives up all that it instruments where one instrumentor raises."""
    instrumentor = AMMInstrumentor()
    instrumentor.instrument(meter_provider="no provider", policy={})
    assert instrumentor.session is None
    instrumentor.uninstrument()
    (message,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert message.startswith("AMM is off, since it could not start: AttributeError: 'str' object has no attribute")


# -- as opentelemetry-instrument finds it


@pytest.mark.parametrize("exporter", ["amm", "prometheus"])
def test_a_program_is_instrumented_with_nothing_but_environment_variables(exporter: str) -> None:
    port = free_port()
    environ = environment(OTEL_METRICS_EXPORTER=exporter, OTEL_EXPORTER_PROMETHEUS_PORT=str(port))
    with running([INSTRUMENT, PYTHON, "-c", WAITING], environ=environ) as process:
        assert line(process.stdout) == "ready"
        page, true = page_at_rest(port, process.pid)
        assert value(page, "process_memory_usage_bytes") == pytest.approx(true, rel=0.01)
        for name in ("amm_memory_usage_ratio{", "amm_memory_limit_bytes{", "cpython_gc_collections_total{"):
            assert f"\n{name}" in page
        process.terminate()
        out, err = process.communicate(timeout=20)
    assert (out, err, process.returncode) == ("", "", -15)


def test_the_exporter_is_amms_own_where_none_is_named() -> None:
    port = free_port()
    environ = environment(OTEL_EXPORTER_PROMETHEUS_PORT=str(port))
    with running([INSTRUMENT, PYTHON, "-c", WAITING], environ=environ) as process:
        page = scrape(port)
        assert "otel_scope_name" not in page
        assert "python_info" not in page
        process.terminate()
        assert process.communicate(timeout=20) == ("ready\n", "")


def test_a_policy_key_is_a_flag_of_opentelemetry_instrument() -> None:
    port = free_port()
    environ = environment(OTEL_METRICS_EXPORTER="amm", OTEL_EXPORTER_PROMETHEUS_PORT=str(port))
    flags = ["--amm_budget", "1536MB", "--amm_tiers_high", "75%"]
    with running([INSTRUMENT, *flags, PYTHON, "-c", WAITING], environ=environ):
        page = scrape(port)
        assert f"amm_budget_limit_bytes {1536 << 20}\n" in page
        assert 'amm_memory_tier_threshold_ratio{tier="high"} 0.75\n' in page


def test_a_wrong_policy_is_one_line_and_the_program_goes_on() -> None:
    environ = environment(OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port()), AMM_LIMIT="4GBananas")
    done = run([INSTRUMENT, PYTHON, "-c", "print('fine')"], environ=environ)
    assert (done.returncode, done.stdout) == (0, "fine\n")
    assert done.stderr.startswith("AMM is off: environment variable AMM_LIMIT: limit: got '4GBananas'; expected ")
    assert done.stderr.count("\n") == 1


def test_a_disabled_sdk_is_left_disabled() -> None:
    code = "import threading; print([thread.name for thread in threading.enumerate()])"
    done = run([INSTRUMENT, PYTHON, "-c", code], environ=environment(OTEL_SDK_DISABLED="true"))
    assert (done.stdout, done.stderr) == ("['MainThread']\n", "")


def test_amm_can_be_left_out_of_the_instrumentations() -> None:
    environ = environment(OTEL_METRICS_EXPORTER="none", OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="amm")
    code = "import sys, threading; print('amm-governor' in {thread.name for thread in threading.enumerate()})"
    assert run([INSTRUMENT, PYTHON, "-c", code], environ=environ).stdout == "False\n"


def test_a_port_that_is_taken_does_not_keep_the_program_from_running() -> None:
    port = free_port()
    environ = environment(OTEL_EXPORTER_PROMETHEUS_PORT=str(port))
    with subprocess.Popen(
        [PYTHON, "-m", "http.server", str(port), "--bind", "localhost"], stderr=subprocess.PIPE
    ) as other:
        try:
            eventually(lambda: get(f"http://localhost:{port}/"))
            done = run([INSTRUMENT, PYTHON, "-c", "print('fine')"], environ=environ)
        finally:
            other.kill()
    assert (done.returncode, done.stdout) == (0, "fine\n")
    assert done.stderr.startswith(f"metrics are not served: port {port} of localhost is in use by another program;")
    assert "Traceback" not in done.stderr
