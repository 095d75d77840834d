"""How many series a real process has, as Prometheus counts them: one for each line of a scrape, buckets too."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import cachetools
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from amm_exporter.control.watched import MAX_SHOWN, unwatch, watch
from amm_exporter.export.reader import AMMMetricReader
from amm_exporter.export.session import start
from amm_exporter.kit.pool import Pool

MAX_SERIES = 120
WATCHED = 3 * MAX_SHOWN
SERIES_OF_A_NAME = 7
REQUESTS = "amm_cache_requests_total"


@pytest.fixture
def reader() -> Iterator[AMMMetricReader]:
    reader = AMMMetricReader(serve=False)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    with start({}, meter_provider=provider):
        for generation in range(3):
            gc.collect(generation)
        yield reader
    provider.shutdown()


@pytest.fixture
def many() -> Iterator[None]:
    """More caches and pools than have series of their own; each cache has been asked twice, with one hit."""
    caches = [cachetools.LRUCache(10) for _ in range(WATCHED)]
    pools = [Pool(object) for _ in range(WATCHED)]
    for number, (cache, pool) in enumerate(zip(caches, pools, strict=True)):
        watch(f"cache{number}", cache)
        watch(f"pool{number}", pool)
        cache["key"] = 1
        cache.get("key"), cache.get("no such key")
        pool.acquire()
    yield
    for number in range(WATCHED):
        unwatch(f"cache{number}")
        unwatch(f"pool{number}")


def samples(reader: AMMMetricReader) -> list[Sample]:
    text = reader.render()[1].decode()
    return [
        sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if family.name != "target_info"
    ]


def test_a_process_has_no_more_than_is_promised(reader: AMMMetricReader) -> None:
    assert 90 < len(samples(reader)) <= MAX_SERIES


@pytest.mark.usefixtures("many")
def test_however_many_caches_and_pools_are_watched_their_series_are_bounded(reader: AMMMetricReader) -> None:
    found = samples(reader)
    named = [sample for sample in found if "name" in sample.labels]
    names = {sample.labels["name"] for sample in named}
    assert len(found) - len(named) <= MAX_SERIES
    assert len(names) == MAX_SHOWN + 2
    assert {"cache0", "pool0", "_other", "_other_pools"} <= names
    assert len(named) <= len(names) * SERIES_OF_A_NAME


@pytest.mark.usefixtures("many")
def test_what_has_no_series_of_its_own_is_summed_up(reader: AMMMetricReader) -> None:
    found = {frozenset(one.labels.items()): one.value for one in samples(reader) if one.name == REQUESTS}
    for result in ("hit", "miss"):
        assert found[frozenset({("name", "cache0"), ("result", result)})] == 1
        assert found[frozenset({("name", "_other"), ("result", result)})] > MAX_SHOWN
