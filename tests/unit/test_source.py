"""What a collection sees: one view for all its callbacks, another one for the next, however soon that comes."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.metrics import MeterProvider

from amm_exporter.control.watched import unwatch, watch
from amm_exporter.export.exposition import Family
from amm_exporter.export.reader import AMMMetricReader
from amm_exporter.export.session import start
from amm_exporter.export.source import Source


@pytest.fixture
def reader() -> Iterator[AMMMetricReader]:
    reader = AMMMetricReader(serve=False)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    with start({}, meter_provider=provider) as session:
        reader.source = Source(session.governor, 0)  # type: ignore[attr-defined]
        yield reader
    provider.shutdown()


def test_those_who_ask_once_share_a_view(reader: AMMMetricReader) -> None:
    source: Source = reader.source  # type: ignore[attr-defined]
    first = source.view("one")
    assert source.view("two") is first
    assert source.view("one") is not first
    assert source.view("two") is source.view("three")


def test_a_scrape_just_after_another_shows_what_has_happened_between(reader: AMMMetricReader) -> None:
    double = functools.lru_cache(maxsize=None)(lambda number: number * 2)
    watch("double", double)
    try:
        for count in range(1, 30):
            double(count)
            assert misses(reader.families()) == count
    finally:
        unwatch("double")


class Waiting:
    """As a cache on another machine does, which does not answer."""

    def __init__(self) -> None:
        self.asked, self.answered = threading.Event(), threading.Event()

    def stats(self) -> dict[str, int]:
        self.asked.set()
        self.answered.wait(20)
        return {"hits": 1}


def test_the_governor_does_not_wait_for_a_cache_that_does_not_answer(reader: AMMMetricReader) -> None:
    """Its thread records the pauses of the collector between two looks at memory."""
    source: Source = reader.source  # type: ignore[attr-defined]
    watch("waiting", waiting := Waiting())
    viewer, drainer = threading.Thread(target=source.view, args=("one",)), threading.Thread(target=source.drain)
    viewer.start()
    assert waiting.asked.wait(10)
    drainer.start()
    drainer.join(5)
    went_on = not drainer.is_alive()
    waiting.answered.set()
    viewer.join()
    unwatch("waiting")
    assert went_on


def misses(families: list[Family]) -> float:
    (family,) = (one for one in families if one.name == "amm_cache_requests")
    return float(family.series[("name", "double"), ("result", "miss")])  # type: ignore[arg-type]
