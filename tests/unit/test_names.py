"""The metric table: consistent in itself, and with the semantic conventions and the standard translation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.semconv._incubating.metrics import cpython_metrics, process_metrics

from amm_exporter.export.names import (
    COUNTER,
    GAUGE,
    GROUP_METRICS,
    HISTOGRAM,
    METRICS,
    SUMMED_METRICS,
    UPDOWN,
    Metric,
)
from amm_exporter.export.reader import AMMMetricReader

ALL = {**METRICS, **GROUP_METRICS}
SEMCONV = [row for row in ALL.values() if row.semconv]


@pytest.mark.parametrize("row", ALL.values(), ids=ALL)
def test_a_row_is_well_formed(row: Metric) -> None:
    assert re.fullmatch(r"(amm|process|cpython)(\.[a-z][a-z0-9_]*)+", row.name)
    assert row.kind in (COUNTER, GAUGE, UPDOWN, HISTOGRAM)
    assert row.help.endswith(".")
    assert row.help == row.help.strip()
    assert len(set(row.attributes)) == len(row.attributes)


@pytest.mark.parametrize("row", [row for row in ALL.values() if not row.semconv], ids=lambda row: row.name)
def test_a_help_text_says_what_it_is_and_then_what_to_do_with_it(row: Metric) -> None:
    assert len(re.findall(r"[.?](?= |$)", row.help)) >= 2


@pytest.mark.parametrize("row", ALL.values(), ids=ALL)
def test_a_ratio_has_unit_1_and_nothing_else_has(row: Metric) -> None:
    """A gauge with unit 1 is `x` by scrape and `x_ratio` by OTLP, unless it is called so already."""
    assert (row.unit == "1") is row.name.endswith("_ratio")
    assert row.unit in ("1", "By", "s", "By/s") or re.fullmatch(r"\{[a-z]+\}", row.unit)


def test_no_two_rows_share_a_name() -> None:
    """The table is built as a dict: a second row would hide the first."""
    from amm_exporter.export import names

    assert len(names._ROWS) == len(METRICS)
    assert len({row.prometheus for row in ALL.values()}) == len(ALL)


def test_no_name_is_taken_by_the_exporters_of_containers_or_of_prometheus_client() -> None:
    """prometheus_client's own process_* and python_* collectors share the page of OTEL_METRICS_EXPORTER=prometheus."""
    taken = {
        "process_virtual_memory_bytes", "process_resident_memory_bytes", "process_start_time_seconds",
        "process_cpu_seconds_total", "process_open_fds", "process_max_fds", "python_info",
        "python_gc_objects_collected_total", "python_gc_collections_total", "container_memory_usage_bytes",
    }  # fmt: skip
    assert not taken & {row.prometheus for row in ALL.values()}


def test_what_a_group_sums_are_counts() -> None:
    assert all(METRICS[name].kind in (COUNTER, HISTOGRAM) for name in SUMMED_METRICS)


class Recorder:
    """A meter that remembers how a semantic convention creates its instrument."""

    def __getattr__(self, create: str) -> Callable[..., dict[str, Any]]:
        return lambda **facts: {"create": create, **facts}


def convention(name: str) -> dict[str, Any]:
    module: Any = cpython_metrics if name.startswith("cpython.") else process_metrics
    create = getattr(module, "create_" + name.replace(".", "_"))
    return create(Recorder(), *([None] if "callbacks" in create.__annotations__ else []))


def test_there_are_rows_of_the_semantic_conventions() -> None:
    assert {row.name.partition(".")[0] for row in SEMCONV} == {"process", "cpython"}
    assert all(row.semconv for row in ALL.values() if not row.name.startswith("amm."))


@pytest.mark.parametrize("row", SEMCONV, ids=lambda row: row.name)
def test_a_semantic_convention_is_followed_word_for_word(row: Metric) -> None:
    agreed = convention(row.name)
    assert (row.name, row.unit, row.help) == (agreed["name"], agreed["unit"], agreed["description"])
    kinds = {"counter": COUNTER, "up_down_counter": UPDOWN, "observable_gauge": GAUGE}
    assert row.kind == kinds[agreed["create"].removeprefix("create_")]


def test_the_examples_of_the_design() -> None:
    names = {name: row.prometheus for name, row in METRICS.items()}
    assert names["process.memory.usage"] == "process_memory_usage_bytes"
    assert names["cpython.gc.collections"] == "cpython_gc_collections_total"
    assert names["amm.memory.usage_ratio"] == "amm_memory_usage_ratio"
    assert names["amm.memory.tier"] == "amm_memory_tier"
    assert names["amm.memory.tier.time"] == "amm_memory_tier_time_seconds_total"
    assert names["amm.memory.leak.slope"] == "amm_memory_leak_slope_bytes_per_second"
    assert names["amm.gc.pause.duration"] == "amm_gc_pause_duration_seconds"


@pytest.fixture
def page() -> Iterator[str]:
    """Every row as an instrument with one value, as a scrape shows it."""
    reader = AMMMetricReader(serve=False)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    meter = provider.get_meter("test")
    for row in METRICS.values():
        attributes = dict.fromkeys(row.attributes, "x")
        if row.kind == HISTOGRAM:
            meter.create_histogram(row.name, row.unit, row.help).record(1, attributes)
            continue
        create: Any = {
            COUNTER: meter.create_observable_counter,
            UPDOWN: meter.create_observable_up_down_counter,
            GAUGE: meter.create_observable_gauge,
        }[row.kind]
        create(row.name, [lambda _, attributes=attributes: [Observation(1, attributes)]], row.unit, row.help)
    yield reader.render()[1].decode()
    provider.shutdown()


def test_every_row_is_scraped_under_the_name_and_labels_it_promises(page: str) -> None:
    for row in METRICS.values():
        suffix = "_count" if row.kind == HISTOGRAM else ""
        labels = ",".join(f'{label}="x"' for label in sorted(row.labels))
        assert f"\n{row.prometheus}{suffix}{{{labels}}} 1\n".replace("{}", "") in page
