"""What a MeterProvider holds, as Prometheus text: names, kinds, isolation."""

from __future__ import annotations

import logging
import math
import os
from decimal import Decimal

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ExponentialHistogramDataPoint
from opentelemetry.sdk.metrics.export import InMemoryMetricReader as InMemory
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from amm_exporter.export.exposition import OPENMETRICS, TEXT, Buckets, Family, negotiate, render
from amm_exporter.export.reader import AMMMetricReader
from amm_exporter.export.translate import exponential_buckets, prometheus_unit

INSTRUMENTS = [
    ("http.server.requests", "{request}"),
    ("app.bytes.total", "By"),
    ("2xx.answers", "1"),
    ("disk.io-rate", "By/s"),
    ("queue.wait", "ms"),
    ("odd unit", "furlong/fortnight"),
    ("share", "%"),
    ("already_seconds", "s"),
]


@pytest.fixture
def reader():
    return AMMMetricReader(serve=False)


@pytest.fixture
def meter(reader):
    provider = MeterProvider(metric_readers=[reader], resource=Resource({"service.name": "shop"}))
    yield provider.get_meter("tests")
    provider.shutdown()


def text_of(reader: AMMMetricReader, accept: str = "") -> str:
    return reader.render(accept)[1].decode()


def samples_of(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_names_and_values_are_those_of_the_opentelemetry_prometheus_exporter():
    registry = CollectorRegistry()
    ours, theirs = AMMMetricReader(serve=False), PrometheusMetricReader(registry=registry, scope_info_enabled=False)
    provider = MeterProvider(metric_readers=[ours, theirs])
    meter = provider.get_meter("tests")
    for name, unit in INSTRUMENTS:
        safe = name.replace(" ", "_").replace("2xx", "x2")
        meter.create_counter(f"c.{safe}", unit=unit).add(3, {"http.route": "/a", "ok": True})
        meter.create_up_down_counter(f"u.{safe}", unit=unit).add(-2)
        meter.create_gauge(f"g.{safe}", unit=unit).set(1.5, {"n": 4})
        meter.create_histogram(f"h.{safe}", unit=unit).record(7)
    found, expected = samples_of(text_of(ours)), samples_of(generate_latest(registry).decode())
    provider.shutdown()
    assert found == expected


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        ("By/s", "bytes_per_second"),
        ("{tier}", ""),
        ("1", ""),
        ("By", "bytes"),
        ("/s", "per_second"),
        ("m/s", "meters_per_second"),
    ],
)
def test_units_become_words(unit, words):
    assert prometheus_unit(unit) == words


def test_openmetrics_is_read_by_its_own_parser(meter, reader):
    meter.create_counter("hits", unit="{hit}", description='says "hi"\n').add(1, {"path": 'C:\\x "y"\n'})
    meter.create_histogram("wait", unit="s").record(0.2)
    content_type, body = reader.render("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    families = {family.name: family for family in parse_openmetrics(body.decode())}
    assert content_type == OPENMETRICS
    assert families["hits"].samples[0].labels == {"path": 'C:\\x "y"\n'}
    assert families["wait_seconds"].unit == "seconds"
    assert families["target"].samples[0].labels["service_name"] == "shop"


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain;version=0.0.4", "application/openmetrics-text;q=0"])
def test_classic_text_unless_openmetrics_is_asked_for(accept):
    assert negotiate(accept) == TEXT


def test_series_carry_no_scope_labels(meter, reader):
    meter.create_counter("hits").add(1)
    assert "hits_total 1" in text_of(reader)


def test_the_same_series_from_two_scopes_is_kept_apart(meter, reader):
    provider = meter._measurement_consumer  # both meters must share it: a second provider would need a second reader
    other = type(meter)(meter._instrumentation_scope.__class__("other"), provider)
    meter.create_counter("hits").add(1)
    other.create_counter("hits").add(2)
    text = text_of(reader)
    assert "hits_total 1" in text
    assert 'hits_total{otel_scope_name="other"} 2' in text


def test_a_metric_of_another_kind_under_the_same_name_is_left_out_and_logged_once(meter, reader, caplog):
    meter.create_counter("things.total").add(1)
    meter.create_gauge("things").set(9)
    meter.create_counter("others").add(5)
    with caplog.at_level(logging.WARNING, "amm.export"):
        texts = {text_of(reader) for _ in range(3)}
    assert len([record for record in caplog.records if "things" in record.getMessage()]) == 1
    assert all("others_total 5" in text and "things_total 1" in text for text in texts)


def test_text_that_utf_8_cannot_write_costs_nothing(meter, reader):
    """As os.fsdecode gives it for the name of a file that was made under another encoding."""
    paths = os.fsdecode(b"/a\x80"), os.fsdecode(b"/a\x81")
    for path in paths:
        meter.create_counter("opened", description=path).add(1, {"path": path})
    assert 'opened_total{path="/a\\\\udc80"} 1' in text_of(reader)
    assert len([key for key in samples_of(text_of(reader)) if key[0] == "opened_total"]) == 2


class Half(float):
    """Calls itself something else, as the numbers of numpy do."""

    def __repr__(self):
        return "np.float64(0.5)"


class Many:
    """A number that is neither int nor float."""

    def __index__(self):
        return 1 << 60


@pytest.mark.parametrize(("value", "shown"), [(Half(0.5), 0.5), (Many(), 1 << 60), (True, 1), (Decimal("0.25"), 0.25)])
def test_numbers_of_any_kind_are_written_as_numbers(meter, reader, value, shown):
    meter.create_observable_gauge("g", callbacks=[lambda _options: [Observation(value)]])
    meter.create_histogram("h").record(Half(0.5))
    samples = samples_of(text_of(reader))
    assert samples["g", frozenset()] == shown
    assert samples["h_sum", frozenset()] == 0.5
    assert {type(family.series[()].sum) for family in reader.families() if family.name == "h"} == {
        float
    }  # as JSON takes it, between the processes of a family


def test_a_label_that_a_histogram_needs_costs_only_its_own_metric(meter, reader):
    meter.create_histogram("bounded").record(1, {"le": "mine"})
    meter.create_gauge("whole").set(2, {"le": "mine"})
    text = text_of(reader)
    assert 'whole{le="mine"} 2' in text
    assert not [key for key in samples_of(text) if key[0].startswith("bounded")]


def test_a_callback_that_raises_costs_only_its_own_metric(meter, reader, caplog):
    meter.create_observable_gauge("broken", callbacks=[lambda _options: 1 / 0])
    meter.create_observable_gauge("whole", callbacks=[lambda _options: [Observation(2)]])
    with caplog.at_level(logging.CRITICAL):
        text = text_of(reader)
    assert "whole 2" in text
    assert "broken" not in text


def test_an_exponential_histogram_is_written_with_bounds_at_powers_of_two():
    reader = AMMMetricReader(serve=False)
    view = View(instrument_name="wait", aggregation=ExponentialBucketHistogramAggregation())
    provider = MeterProvider(metric_readers=[reader], views=[view])
    histogram = provider.get_meter("tests").create_histogram("wait")
    values = [0.0, 0.3, 0.5, 0.50001, 1.0, 3.0, 1000.0]
    for value in values:
        histogram.record(value)
    samples = samples_of(text_of(reader))
    provider.shutdown()
    bounds = {dict(labels)["le"]: count for (name, labels), count in samples.items() if name == "wait_bucket"}
    assert bounds.pop("+Inf") == len(values)
    assert bounds == {bound: sum(value <= float(bound) for value in values) for bound in bounds}
    assert set(bounds) == {"0.0", "0.5", "1.0", "4.0", "1024.0"}


def exponential_point(values: list[float], **kwargs: float) -> ExponentialHistogramDataPoint:
    memory = InMemory()
    view = View(instrument_name="x", aggregation=ExponentialBucketHistogramAggregation(**kwargs))
    provider = MeterProvider(metric_readers=[memory], views=[view])
    histogram = provider.get_meter("tests").create_histogram("x")
    for value in values:
        histogram.record(value)
    data = memory.get_metrics_data()
    provider.shutdown()
    return data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0]


def test_an_exponential_histogram_over_all_floats_has_few_buckets_and_loses_nothing():
    values = [5e-324, 1e-300, 1.0, 1e300, 1.7e308]
    buckets = exponential_buckets(exponential_point(values))
    assert sum(buckets.counts) == len(values)
    assert len(buckets.bounds) <= 40
    assert all(math.isfinite(bound) for bound in buckets.bounds)


def test_what_a_resource_says_of_arguments_and_owner_is_not_shown():
    reader = AMMMetricReader(serve=False)
    resource = Resource({"process.command_line": "app --password=x", "process.owner": "me", "service.name": "shop"})
    provider = MeterProvider(metric_readers=[reader], resource=resource)
    text = text_of(reader)
    provider.get_meter("tests").create_counter("hits").add(1)
    text = text_of(reader)
    provider.shutdown()
    assert 'service_name="shop"' in text
    assert "password" not in text
    assert "owner" not in text


def test_a_family_without_series_is_not_written():
    assert render([Family("empty", "gauge")]) == b""


def test_numbers_that_json_does_not_know_are_written_as_prometheus_reads_them():
    family = Family(
        "x", "gauge", series={(("i", str(i)),): value for i, value in enumerate((math.nan, math.inf, -math.inf))}
    )
    values = [line.split()[-1] for line in render([family]).decode().splitlines() if not line.startswith("#")]
    assert values == ["NaN", "+Inf", "-Inf"]


def test_a_histogram_is_cumulative_and_counts_itself():
    family = Family("h", "histogram", series={(): Buckets((1.0, 2.0), (1, 0, 2), 9.5)})
    assert [line for line in render([family]).decode().splitlines() if not line.startswith("#")] == [
        'h_bucket{le="1.0"} 1',
        'h_bucket{le="2.0"} 1',
        'h_bucket{le="+Inf"} 3',
        "h_count 3",
        "h_sum 9.5",
    ]


def test_a_reader_takes_its_address_from_the_environment():
    reader = AMMMetricReader(
        environ={"OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1", "OTEL_EXPORTER_PROMETHEUS_PORT": "0"}
    )
    host, port = reader.address
    assert host == "127.0.0.1"
    assert port != 0
    reader.shutdown()
    assert reader.address is None


@pytest.mark.parametrize("port", ["65536", "-1", "http", "\uff19\uff14"])
def test_a_port_that_is_none_is_logged_and_the_program_goes_on(port, caplog):
    reader = AMMMetricReader(host="127.0.0.1", environ={"OTEL_EXPORTER_PROMETHEUS_PORT": port})
    assert reader.address is None
    assert f"got {port!r}; expected a port from 0 to 65535" in caplog.text
