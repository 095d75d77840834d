"""Sends the results of a pytest run to Prometheus: by OTLP, or as a file for node_exporter's textfile collector.

What it reads is the JSON report of the pytest plugin (schema in docs/pytest.md), as a mapping: this module does not
know pytest. Every run of a suite replaces the results of the run before.

    pytest --amm-json report.json
    python -m amm_exporter.export.test_results report.json results.prom --suite unit
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from opentelemetry.metrics import CallbackOptions, Observation

from amm_exporter.errors import AMMError
from amm_exporter.export.names import METRICS

TOP_TESTS = 20
"""Tests shown by name: those with the highest peaks. Every name is two series that live as long as they are scraped."""
NAME_CHARACTERS = 160
_SUFFIX = ".prom"
_TIMEOUT_SECONDS = 10
DESTINATIONS = f"a file ending in {_SUFFIX}, 'otlp', or the http(s) address of an OTLP receiver"

Result = tuple[str, float, Mapping[str, str]]
"""The OpenTelemetry name of a metric, its value and attributes."""


def export_results(report: Mapping[str, Any], destination: str, *, suite: str) -> None:
    """Send a report where `destination` says.

    Args:
        report: what `--amm-json` writes.
        destination: a path that ends in `.prom`; `otlp` (address by OTEL_EXPORTER_OTLP_*); or `http://host:4318/v1/metrics`.
        suite: the name the results are kept under, such as the project's. Few and fixed: each is a set of series.

    Raises:
        AMMError: for another destination, a file that cannot be written, a receiver that does not take it.
    """
    results = list(results_of(report, suite=suite))
    if destination == "otlp" or destination.startswith(("http://", "https://")):
        push_otlp(results, suite=suite, endpoint=None if destination == "otlp" else destination)
    elif destination.endswith(_SUFFIX):
        write_textfile(Path(destination), results)
    else:
        raise AMMError(f"export of test results: got {destination!r}; expected {DESTINATIONS}")


def results_of(report: Mapping[str, Any], *, suite: str, now: float | None = None) -> Iterator[Result]:
    """The values of one run; a group that the report knows nothing about is left out."""
    tests: Sequence[Mapping[str, Any]] = report.get("tests") or ()
    session: Mapping[str, Any] = report.get("session") or {}
    now = time.time() if now is None else now
    of_suite = {"suite": suite}
    for test in sorted(tests, key=lambda test: -int(test["peak_bytes"]))[:TOP_TESTS]:
        named = {**of_suite, "test": _short(str(test["nodeid"]))}
        yield "amm.test.peak", test["peak_bytes"], named
        yield "amm.test.growth", test["growth_bytes"], named
    if tests:
        yield "amm.test.run.peak", max(int(test["peak_bytes"]) for test in tests), of_suite
        yield "amm.test.freed", sum(_freed(test) for test in tests), of_suite
    for kind, key in (("session", "budget_bytes"), ("test", "test_budget_bytes")):
        if session.get(key):
            yield "amm.test.budget", session[key], {**of_suite, "kind": kind}
    yield from _counts("amm.test.results", Counter(map(_outcome, tests)), suite, "outcome", OUTCOMES)
    yield from _counts("amm.test.breaches", Counter(_breaches(tests)), suite, "kind", KINDS)
    verdicts = Counter(str(test["leak"]) for test in tests if test.get("leak"))
    if verdicts:
        yield from _counts("amm.test.leaks", verdicts, suite, "verdict", VERDICTS)
    if "started_unix_seconds" in session:
        yield "amm.test.duration", max(0.0, now - session["started_unix_seconds"]), of_suite
    yield "amm.test.run.timestamp", now, of_suite


OUTCOMES = ("passed", "failed", "skipped", "stopped")
KINDS = ("session", "test", "emergency")
VERDICTS = ("leak", "clean", "undecided", "not repeatable")


def write_textfile(path: Path, results: Sequence[Result]) -> None:
    """Prometheus text, put in place in one step, so that a collector never reads half of it."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text(prometheus_text(results), encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise AMMError(f"export of test results: cannot write {path}: {error.strerror}") from error


def prometheus_text(results: Sequence[Result]) -> str:
    lines = []
    for name, row in METRICS.items():
        values = [(value, attributes) for metric, value, attributes in results if metric == name]
        if values:
            lines += [f"# HELP {row.prometheus} {row.help}", f"# TYPE {row.prometheus} gauge"]
            lines += [f"{row.prometheus}{{{_labels(attributes)}}} {value:.17g}" for value, attributes in values]
    return "\n".join(lines) + "\n"


def push_otlp(results: Sequence[Result], *, suite: str, endpoint: str | None = None) -> None:
    """One OTLP/HTTP request. Needs `pip install amm-exporter[otlp]`."""
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    except ImportError as error:
        raise AMMError("export of test results: OTLP needs: pip install 'amm-exporter[otlp]'") from error
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult
    from opentelemetry.sdk.resources import Resource

    reader = InMemoryMetricReader()
    resource = Resource.create({"service.name": "pytest", "service.instance.id": suite})
    provider = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
    meter = provider.get_meter("amm_exporter")
    for name in dict.fromkeys(metric for metric, _, _ in results):
        seen = [Observation(value, dict(attributes)) for metric, value, attributes in results if metric == name]
        row = METRICS[name]
        meter.create_observable_gauge(name, callbacks=[_always(seen)], unit=row.unit, description=row.help)
    exporter = OTLPMetricExporter(endpoint=endpoint, timeout=_TIMEOUT_SECONDS)
    try:
        data = reader.get_metrics_data()
        if data is None or exporter.export(data) is not MetricExportResult.SUCCESS:
            raise AMMError(f"export of test results: {endpoint or 'the OTLP receiver'} did not take them; see the log")
    finally:
        exporter.shutdown()
        provider.shutdown()


def _always(seen: Sequence[Observation]) -> Callable[[CallbackOptions], Sequence[Observation]]:
    return lambda _: seen


def _counts(metric: str, counts: Counter[str], suite: str, key: str, known: Sequence[str]) -> Iterator[Result]:
    """Every known word, zeros too: a series that ends would keep its last value on a graph."""
    for word in known:
        yield metric, counts[word], {"suite": suite, key: word}


def _outcome(test: Mapping[str, Any]) -> str:
    breach = test.get("breach")
    return "stopped" if breach and breach.get("stopped") else str(test["outcome"])


def _breaches(tests: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    return (str(test["breach"]["scope"]) for test in tests if test.get("breach"))


def _freed(test: Mapping[str, Any]) -> int:
    return max(0, int(test["growth_bytes"]) - max(0, int(test.get("kept_bytes", 0))))


def _short(nodeid: str) -> str:
    """The end of a name tells more than its start."""
    return nodeid if len(nodeid) <= NAME_CHARACTERS else "…" + nodeid[1 - NAME_CHARACTERS :]


def _labels(attributes: Mapping[str, str]) -> str:
    escapes = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
    return ",".join(f'{key}="{value.translate(escapes)}"' for key, value in attributes.items())


def main() -> None:
    """Send a report that lies in a file."""
    parser = argparse.ArgumentParser(description="Send the JSON report of a pytest run to Prometheus.")
    parser.add_argument("report", type=Path, help="what pytest --amm-json wrote")
    parser.add_argument("destination", help=DESTINATIONS)
    parser.add_argument("--suite", default="tests", help="the name the results are kept under (default: tests)")
    arguments = parser.parse_args()
    try:
        report = json.loads(arguments.report.read_text(encoding="utf-8"))
        export_results(report, arguments.destination, suite=arguments.suite)
    except (OSError, ValueError, AMMError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
