"""The numbers of a real application under load, against a count that the test keeps for itself."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from programs import AMM, clean_environ, eventually, free_port, get, line, page_at_rest, running, scrape
from prometheus_client.parser import text_string_to_metric_families

FIXTURES = Path(__file__).parent.parent / "fixtures"
INSTRUMENT = str(Path(sys.executable).with_name("opentelemetry-instrument"))
MIB = 1 << 20
LOAD = """
import http.client, json, sys
connection = http.client.HTTPConnection("localhost", int(sys.argv[1]), timeout=30)
for number in json.load(sys.stdin):
    connection.request("GET", f"/{number}")
    assert int(connection.getresponse().read()) == number * 2
print("done", flush=True)
"""
WAYS = {
    "amm run": ([AMM, "run", "--"], {}),
    "opentelemetry-instrument, amm": ([INSTRUMENT], {"OTEL_METRICS_EXPORTER": "amm"}),
    "opentelemetry-instrument, prometheus": ([INSTRUMENT], {"OTEL_METRICS_EXPORTER": "prometheus"}),
}


@dataclass
class Expected:
    """A least recently used cache in five lines, counting."""

    size: int
    entries: OrderedDict[int, None] = field(default_factory=OrderedDict)
    hits: int = 0
    misses: int = 0
    evictions: int = 0

    def look_up(self, number: int) -> None:
        known = number in self.entries
        self.hits, self.misses = self.hits + known, self.misses + (not known)
        self.entries[number] = None
        self.entries.move_to_end(number)
        if len(self.entries) > self.size:
            self.entries.popitem(last=False)
            self.evictions += 1


class Page:
    """A scrape, asked by name and labels; labels that are not asked about are passed over."""

    def __init__(self, text: str) -> None:
        self._samples = [one for family in text_string_to_metric_families(text) for one in family.samples]

    def __call__(self, series: str, /, **labels: str) -> float:
        (found,) = (one.value for one in self._samples if one.name == series and labels.items() <= one.labels.items())
        return float(found)

    def cache(self, name: str) -> dict[str, float]:
        hits, misses = (self(REQUESTS, name=name, result=result) for result in ("hit", "miss"))
        return {"hits": hits, "misses": misses, "entries": self("amm_cache_entries", name=name)}

    def collections(self) -> list[float]:
        return [self("cpython_gc_collections_total", cpython_gc_generation=str(number)) for number in range(3)]

    def pauses(self) -> list[float]:
        return [self("amm_gc_pause_duration_seconds_count", generation=str(number)) for number in range(3)]


REQUESTS = "amm_cache_requests_total"


@pytest.fixture(params=WAYS)
def application(request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """The process, its port, and the port of its metrics."""
    command, variables = WAYS[request.param]
    web, metrics = free_port(), free_port()
    environ = clean_environ(
        OTEL_EXPORTER_PROMETHEUS_PORT=str(metrics),
        OTEL_TRACES_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
        **variables,
    )
    program = [sys.executable, str(FIXTURES / "counted_app.py"), str(web)]
    with running(
        [*command, *program], environ=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        eventually(lambda: get(f"http://localhost:{web}/collected"))
        yield process, web, metrics


@contextmanager
def load(web: int, numbers: list[int]) -> Iterator[subprocess.Popen[str]]:
    with running([sys.executable, "-c", LOAD, str(web)], stdin=subprocess.PIPE) as client:
        assert client.stdin is not None
        json.dump(numbers, client.stdin)
        client.stdin.close()
        yield client


def test_caches_show_every_hit_miss_and_eviction(application: tuple[subprocess.Popen[str], int, int]) -> None:
    _, web, metrics = application
    dice = random.Random(1)
    numbers = [int(abs(dice.gauss(0, 250))) for _ in range(1000)]
    prices, users = Expected(200), Expected(300)
    for number in numbers:
        prices.look_up(number)
        users.look_up(number)
    with load(web, numbers) as client:
        seen = [0.0]
        while client.poll() is None:
            seen.append(Page(scrape(metrics))(REQUESTS, name="users", result="hit"))
            time.sleep(0.02)  # scrapes without a pause took the load half of its time
        assert line(client.stdout) == "done"
    assert sorted(seen) == seen
    assert len(set(seen)) > 2, "no scrape fell into the load"
    page = Page(scrape(metrics))
    for name, expected in (("prices", prices), ("users", users)):
        counted = {"hits": expected.hits, "misses": expected.misses, "entries": len(expected.entries)}
        assert page.cache(name) == counted
        assert page("amm_cache_hit_ratio", name=name) == pytest.approx(expected.hits / len(numbers))
    assert users.evictions > 100
    assert page("amm_cache_evictions_total", name="users") == users.evictions


def test_every_collection_is_counted(application: tuple[subprocess.Popen[str], int, int]) -> None:
    """Between the application's own counts just before a scrape and just after it."""
    _, web, metrics = application

    def own() -> list[int]:
        return json.loads(get(f"http://localhost:{web}/collected"))  # type: ignore[no-any-return]

    def look() -> tuple[list[int], Page, list[int]]:
        return own(), Page(scrape(metrics, 'amm_gc_pause_duration_seconds_count{generation="1"')), own()

    for generation in (1, 2):
        get(f"http://localhost:{web}/collect/{generation}")
    before, first, between = look()
    with load(web, list(range(1500))) as client:
        client.wait(60)
    for generation in (1, 1, 1, 2, 2):
        get(f"http://localhost:{web}/collect/{generation}")
    now, last, after = look()
    for generation, least in ((0, 1), (1, 3), (2, 2)):
        fewest, most = now[generation] - between[generation], after[generation] - before[generation]
        assert least <= fewest <= last.collections()[generation] - first.collections()[generation] <= most
        assert fewest <= last.pauses()[generation] - first.pauses()[generation] <= most


def test_memory_is_what_proc_says_before_and_after_it_grows(
    application: tuple[subprocess.Popen[str], int, int],
) -> None:
    process, web, metrics = application
    text, before = page_at_rest(metrics, process.pid)
    assert Page(text)("process_memory_usage_bytes") == pytest.approx(before, rel=0.01)
    get(f"http://localhost:{web}/hold/100")
    text, after = page_at_rest(metrics, process.pid)
    assert after - before > 90 * MIB
    assert Page(text)("process_memory_usage_bytes") == pytest.approx(after, rel=0.01)
    assert Page(text)("amm_memory_peak_bytes") >= 0.99 * after
