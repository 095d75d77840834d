"""AMM's instruments on a MeterProvider of the test's own: which series, under which names, and that stop ends them."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from amm_exporter.analysis.leaks import Verdict
from amm_exporter.control.governor import Governor
from amm_exporter.control.watched import unwatch, watch
from amm_exporter.errors import AMMError
from amm_exporter.export.instrumentor import needs_http
from amm_exporter.export.names import HISTOGRAM, METRICS, UPDOWN
from amm_exporter.export.observers import MAX_SETTINGS, OBSERVERS
from amm_exporter.export.otel import Instruments, instruments_of
from amm_exporter.export.reader import AMMMetricReader
from amm_exporter.export.session import start
from amm_exporter.model import (
    CgroupMemory,
    HostMemory,
    Limit,
    Pressure,
    ProcessMemory,
    Reading,
    Sample,
    Tier,
    TreeMemory,
)
from amm_exporter.policy import load_policy
from amm_exporter.probes.allocator import AllocatorProbe
from amm_exporter.probes.cache_stats import CacheStats, PoolStats
from amm_exporter.probes.objects import Census, TypeCount
from amm_exporter.units import GIB, MIB

MAX_SERIES = 120

GOLDEN = """
amm_action_freed_bytes_total counter
amm_actions_total counter
amm_allocator_fragmentation_ratio gauge
amm_allocator_memory_bytes gauge
amm_anomaly_ceiling_ratio gauge
amm_anomaly_deviations gauge
amm_anomaly_floor_ratio gauge
amm_budget_limit_bytes gauge
amm_budget_usage_ratio gauge
amm_cache_entries gauge
amm_cache_evictions_total counter
amm_cache_hit_ratio gauge
amm_cache_max_entries gauge
amm_cache_requests_total counter
amm_cache_size_bytes gauge
amm_cgroup_events_total counter
amm_emergency_stops_total counter
amm_gc_freed_bytes_total counter
amm_gc_pause_duration_seconds histogram
amm_gc_pause_max_seconds gauge
amm_last_sample_timestamp_seconds gauge
amm_memory_leak_detected gauge
amm_memory_leak_exhaustion_seconds gauge
amm_memory_leak_onset_age_seconds gauge
amm_memory_leak_slope_bytes_per_second gauge
amm_memory_leak_slope_lower_bytes_per_second gauge
amm_memory_leak_slope_threshold_bytes_per_second gauge
amm_memory_leak_slope_upper_bytes_per_second gauge
amm_memory_exhaustion_seconds gauge
amm_memory_headroom_bytes gauge
amm_memory_limit_bytes gauge
amm_memory_peak_bytes gauge
amm_memory_pressure_stall_seconds_total counter
amm_memory_swap_bytes gauge
amm_memory_tier gauge
amm_memory_tier_active gauge
amm_memory_tier_threshold_ratio gauge
amm_memory_tier_time_seconds_total counter
amm_memory_tier_transitions_total counter
amm_memory_tree_processes gauge
amm_memory_usage_bytes gauge
amm_memory_usage_ratio gauge
amm_objects gauge
amm_plan_value gauge
amm_pool_objects gauge
amm_pool_requests_total counter
amm_probe_success gauge
amm_sampler_lateness_seconds gauge
amm_self_cpu_time_seconds_total counter
amm_self_memory_bytes gauge
cpython_gc_collected_objects_total counter
cpython_gc_collections_total counter
cpython_gc_uncollectable_objects_total counter
process_memory_usage_bytes gauge
process_memory_virtual_bytes gauge
process_paging_faults_total counter
process_uptime_seconds gauge
"""


class EverythingSampler:
    """A machine that has all there is: a cgroup with events, pressure, swap, five limits, a tree, a failing probe."""

    def __init__(self) -> None:
        self.probes = dict.fromkeys(("process", "tree", "cgroup", "host", "pressure", "limit"), True)
        self.probes["limit_sources"] = False
        self.now = 100.0
        self.memory = ProcessMemory(pid=7, rss_bytes=600 * MIB, virtual_bytes=2 * GIB)
        self.stands_until = self.around_until = self.rests_until = float("-inf")

    def clock(self) -> float:
        return self.now

    def take(self) -> Sample:
        self.now += 1.0
        used = int(500 * MIB + self.now * MIB)
        scopes = ("cgroup", "tree", "host", "process")
        sources = ("policy", "cgroup", "rlimit_as", "rlimit_data", "ram")
        limits = tuple(Limit(source=source, size_bytes=GIB) for source in sources)
        return Sample(
            t_seconds=self.now,
            unix_seconds=1.7e9,
            process=self.memory,
            readings=tuple(Reading(scope=scope, used_bytes=used, limit_bytes=GIB) for scope in scopes),
            limit=limits[0],
            limits=limits,
            tree=TreeMemory(rss_bytes=used, processes=(self.memory,)),
            cgroup=CgroupMemory(
                path="/x", version=2, usage_bytes=used, working_set_bytes=used, oom_events=1, oom_kills=0, high_events=2
            ),
            host=HostMemory(total_bytes=GIB, available_bytes=MIB),
            pressure=tuple(
                Pressure(scope=scope, some_seconds=2, full_seconds=1, some_avg10_ratio=0, full_avg10_ratio=0)
                for scope in ("host", "cgroup")
            ),
            failed=frozenset({"limit_sources"}),
        )

    def details(self) -> ProcessMemory:
        return ProcessMemory(
            pid=7, rss_bytes=1, virtual_bytes=1, peak_bytes=2, swap_bytes=3, minor_faults=4, major_faults=5
        )

    def start_unix_seconds(self) -> float:
        return 1.7e9 - 60

    def close(self) -> None:
        pass


@pytest.fixture
def reader() -> AMMMetricReader:
    return AMMMetricReader(serve=False)


@pytest.fixture
def provider(reader: AMMMetricReader) -> Iterator[MeterProvider]:
    provider = MeterProvider([reader], shutdown_on_exit=False)
    yield provider
    provider.shutdown()


class LeakingWatch:
    """A leak that was found: every value of a verdict is there."""

    threshold_bytes_per_second = 291.0

    def stood(self, until_seconds: float) -> None:
        pass

    def add(self, sample: Sample) -> None:
        pass

    def verdicts(self) -> dict[str, Verdict]:
        leak = Verdict(
            leaking=True, slope=3.0, lower=2.0, upper=4.0, confidence=0.99, onset_seconds=1.0, kind="steady",
            exhaustion_seconds=60.0, reasons=(), sample_count=100, span_seconds=100.0,
        )  # fmt: skip
        return {"rss": leak}

    shown = verdicts


class Statistics:
    """A cache or a pool that tells what it is given."""

    def __init__(self, stats: CacheStats | PoolStats) -> None:
        self.stats = stats

    def amm_stats(self) -> CacheStats | PoolStats:
        return self.stats


@pytest.fixture
def watched() -> Iterator[None]:
    cache = Statistics(CacheStats(hits=3, misses=1, entries=1, max_entries=9, size_bytes=100, evictions=0))
    pool = Statistics(PoolStats(in_use=1, idle=2, max_objects=3, hits=4, misses=5, waits=6))
    watch("test cache", cache)
    watch("test pool", pool)
    yield
    unwatch("test cache")
    unwatch("test pool")


@pytest.fixture
def everything(watched: None) -> Iterator[Governor]:
    """A governor that went through every tier and back and found a leak, over a sampler that knows all."""
    sampler = EverythingSampler()
    plan = {"on": {"normal": True}, "mode": {"normal": "lazy"}}
    policy = load_policy({"budget": "1GB", "plan": plan, "evidence": {"census": "always"}}, environ={})
    governor = Governor(policy, sampler=sampler, clock=sampler.clock, plugins=lambda: None)  # type: ignore[arg-type]
    governor.last_tick_unix_seconds = 1.7e9
    governor.leaks = LeakingWatch()  # type: ignore[assignment]
    for left in Tier:
        for entered in Tier:
            if abs(left - entered) == 1:
                governor._keeper.track.transitions[left, entered] = 1
    yield governor
    governor.stop()


def page(reader: AMMMetricReader) -> str:
    return reader.render()[1].decode()


def series(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith(("#", "target_info"))]


def types(text: str) -> dict[str, str]:
    return dict(re.findall(r"^# TYPE (?!target)(\S+) (\S+)$", text, re.MULTILINE))


def test_every_observer_has_a_row() -> None:
    assert OBSERVERS.keys() <= METRICS.keys()
    assert not [name for name in OBSERVERS if METRICS[name].kind == HISTOGRAM]


def shown(instruments: Instruments, governor: Governor, reader: AMMMetricReader) -> str:
    """A page after a full collection of each generation was recorded."""
    count = TypeCount(name="app.Order", count=7, size_bytes=700, error_count=0)
    census = Census(types=(count,), growth=(), objects_count=9, sampled_ratio=1.0, seconds=0.05)
    instruments.show(governor, self_bytes=5, desk=SimpleNamespace(census=census))  # type: ignore[arg-type]
    assert instruments.source is not None
    pymalloc = AllocatorProbe().read()[:1]  # all that is known where mimalloc stands in for glibc's
    allocators = SimpleNamespace(read=lambda: pymalloc, preloaded=("mimalloc",))
    instruments.source._allocators = allocators  # type: ignore[assignment]
    assert governor.gc is not None
    governor.gc.start()
    for generation in range(3):
        gc.collect(generation)
    governor.sample()
    governor.sample()
    return page(reader)


def test_names_and_types_are_the_golden_ones(
    provider: MeterProvider, reader: AMMMetricReader, everything: Governor
) -> None:
    """A name or type here is public API: to change one breaks somebody's dashboard, to add one is free."""
    found = types(shown(Instruments(provider), everything, reader))
    golden = dict(line.split() for line in GOLDEN.strip().splitlines())
    assert {name: found.get(name) for name in golden} == golden


def test_every_observer_shows_something_where_there_is_everything(
    provider: MeterProvider, reader: AMMMetricReader, everything: Governor
) -> None:
    text = shown(Instruments(provider), everything, reader)
    for name in OBSERVERS:
        assert re.search(rf"^{METRICS[name].prometheus}(\{{.*\}})? [-0-9.e]+$", text, re.MULTILINE), name


def test_labels_are_those_of_the_table(provider: MeterProvider, reader: AMMMetricReader, everything: Governor) -> None:
    families = {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(shown(Instruments(provider), everything, reader))
        for sample in family.samples
    }
    for name in OBSERVERS:
        assert families[METRICS[name].prometheus] == set(METRICS[name].labels)


def test_a_plan_value_that_is_true_is_1_and_a_text_is_none(
    provider: MeterProvider, reader: AMMMetricReader, everything: Governor
) -> None:
    text = shown(Instruments(provider), everything, reader)
    assert [line for line in series(text) if "plan" in line] == ['amm_plan_value{setting="on"} 1.0']


def test_a_process_stays_below_the_most_series_it_may_have(
    provider: MeterProvider, reader: AMMMetricReader, everything: Governor
) -> None:
    """Counting a histogram once for each generation; the caches that a program asks to watch and the time that a leak
    leaves come on top."""
    text = shown(Instruments(provider), everything, reader)
    counted = [line for line in series(text) if not re.search(r'_bucket\{|_sum\{|name="test |leak_exhaustion', line)]
    assert 80 < len(counted) <= MAX_SERIES


def test_a_process_at_rest_has_no_more_series_where_there_is_all_there_can_be(
    provider: MeterProvider, reader: AMMMetricReader, everything: Governor
) -> None:
    """In a container with a limit, a limit of its own and a budget: each line of a scrape counts, each bucket too."""
    everything._keeper.track.transitions.clear()
    text = shown(Instruments(provider), everything, reader)
    leaks = {"amm_memory_leak_exhaustion", "amm_memory_leak_onset", "amm_objects{", 'name="test '}
    assert 100 < sum(not any(word in line for word in leaks) for line in series(text)) <= MAX_SERIES


def test_a_real_process_shows_what_is_promised_of_it(provider: MeterProvider, reader: AMMMetricReader) -> None:
    with start({"budget": "8GB"}, meter_provider=provider):
        names = types(page(reader)).keys()
        assert {
            "amm_memory_tier", "amm_memory_usage_ratio", "process_memory_usage_bytes", "amm_memory_limit_bytes",
            "cpython_gc_collections_total", "amm_memory_peak_bytes", "amm_budget_usage_ratio", "process_uptime_seconds",
        } <= names  # fmt: skip
        assert len(series(page(reader))) <= MAX_SERIES


def test_stop_makes_every_series_vanish_and_start_brings_them_back(
    provider: MeterProvider, reader: AMMMetricReader
) -> None:
    pages = []
    for _ in range(3):
        session = start({}, meter_provider=provider)
        gc.collect()
        session.governor.sample()
        pages.append(types(page(reader)))
        assert "amm_gc_pause_duration_seconds" in pages[-1]
        session.stop()
        session.stop()
        assert page(reader) == ""
    assert pages[0] == pages[1] == pages[2]


class Huge:
    def stats(self) -> dict[str, int]:
        return {"entries": 10**30}


def test_a_number_beyond_the_integers_of_otlp_costs_no_other(provider: MeterProvider, reader: AMMMetricReader) -> None:
    """A resource limit may be one, too: they have one bit more."""
    huge = Huge()
    watch("huge", huge)
    with start(meter_provider=provider):
        found = [series for family in reader.families() for series in family.series.items()]
    unwatch("huge")
    assert [value for labels, value in found if ("name", "huge") in labels] == [1e30]
    assert not [value for _, value in found if isinstance(value, int) and value >= 1 << 63]


def test_a_provider_shows_one_session_at_a_time(provider: MeterProvider) -> None:
    with start({}, meter_provider=provider), pytest.raises(AMMError) as caught:
        start({}, meter_provider=provider)
    assert str(caught.value) == (
        "AMM is already started on this MeterProvider; stop() that session before starting another"
    )


def test_without_a_provider_a_line_says_that_the_metrics_go_nowhere_and_what_to_type(
    provider: MeterProvider, caplog: pytest.LogCaptureFixture
) -> None:
    with start({}, meter_provider=provider):
        assert caplog.messages == []
    with start({}, meter_provider=NoOpMeterProvider()):
        pass
    assert [message.split(";")[0] for message in caplog.messages] == [
        "no MeterProvider is set, so the metrics go nowhere"
    ]
    assert "amm run -- python program.py" in caplog.text


def test_a_plan_with_too_many_settings_for_metrics_is_told_once(
    provider: MeterProvider, reader: AMMMetricReader, caplog: pytest.LogCaptureFixture
) -> None:
    plan = {f"s{n}": {"normal": n} for n in range(200)}
    with start({"plan": plan}, meter_provider=provider):
        assert len([line for line in series(page(reader)) if "amm_plan_value" in line]) == MAX_SETTINGS
    assert caplog.messages == [
        "the plan has too many settings for metrics of each: the first 20 have one, 180 have none, from 's20' on"
    ]


def test_two_providers_show_two_sessions(provider: MeterProvider, reader: AMMMetricReader) -> None:
    other_reader = AMMMetricReader(serve=False)
    other = MeterProvider([other_reader], shutdown_on_exit=False)
    with start({"limit": "1GB"}, meter_provider=provider), start({"limit": "2GB"}, meter_provider=other):
        assert f'amm_memory_limit_bytes{{source="policy"}} {GIB}' in page(reader)
        assert f'amm_memory_limit_bytes{{source="policy"}} {2 * GIB}' in page(other_reader)
    other.shutdown()


def test_a_provider_that_nobody_holds_is_not_kept_alive() -> None:
    provider = MeterProvider([AMMMetricReader(serve=False)], shutdown_on_exit=False)
    start({}, meter_provider=provider).stop()
    assert instruments_of(provider).shown is None
    seen = weakref.ref(provider)
    provider.shutdown()
    del provider
    gc.collect()
    assert seen() is None


def test_names_labels_and_kinds_are_the_same_through_opentelemetrys_own_exporter(everything: Governor) -> None:
    """But for scope labels, which AMM's reader leaves off."""
    reader, theirs = AMMMetricReader(serve=False), PrometheusMetricReader()
    provider = MeterProvider([reader, theirs], shutdown_on_exit=False)
    try:
        ours = families(shown(Instruments(provider), everything, reader))
        by_client = families(generate_latest(REGISTRY).decode())
    finally:
        provider.shutdown()
    assert len(ours) > len(OBSERVERS)
    assert {name: by_client.get(name) for name in ours} == ours


def families(text: str) -> dict[str, tuple[str, str, frozenset[str]]]:
    return {
        family.name: (
            family.type,
            family.documentation,
            frozenset(
                label for sample in family.samples for label in sample.labels if not label.startswith("otel_scope_")
            ),
        )
        for family in text_string_to_metric_families(text)
        if family.name != "target_info"
    }


def test_memory_is_an_up_down_counter_as_its_convention_says() -> None:
    assert METRICS["process.memory.usage"].kind == UPDOWN


HTTP, GRPC = "otlp_proto_http", "otlp_proto_grpc"


@pytest.mark.parametrize(
    ("environ", "exporters", "needs"),
    [
        ({}, {HTTP}, True),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": ""}, {HTTP}, True),
        ({}, {HTTP, GRPC}, False),
        ({}, {GRPC}, False),
        ({}, set(), False),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, {HTTP}, False),
        ({"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc"}, {HTTP}, False),
    ],
)
def test_otlp_goes_by_http_where_only_that_is_installed(environ, exporters, needs):
    assert needs_http(environ, exporters) is needs
