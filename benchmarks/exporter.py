"""What exporting costs, beside others: `python benchmarks/exporter.py`.

Every row is measured in a fresh process of its own, by CPU time. Needs the development dependencies; rows for
opentelemetry-instrumentation-system-metrics and prometheus-process-exporter (Debian) appear where those are found.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import mmap
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

SCRAPES = 100
IDLE_SECONDS = 60.0
STARTED_SECONDS = 5.0
"""What is loaded when it is first needed (7 ms, once) has been loaded by then."""
SLEEPER = ["sleep", "601"]


def cpu_ms(function: Callable[[], object], times: int = SCRAPES) -> float:
    """Median CPU milliseconds of this process for one call, after a warm-up."""
    function()
    spent = []
    for _ in range(times):
        before = time.process_time()
        function()
        spent.append(time.process_time() - before)
    return statistics.median(spent) * 1000


def series_of(text: bytes) -> int:
    return sum(not line.startswith(b"#") for line in text.splitlines())


def scraped(render: Callable[[], bytes]) -> dict[str, float]:
    """Of a process that has lived: each generation has been collected, so that its pauses have their series."""
    for generation in range(3):
        gc.collect(generation)
    text = render()
    return {"cpu_ms": cpu_ms(render), "kB": len(text) / 1000, "series": series_of(text)}


# -- one scrape of one process


def amm_reader() -> dict[str, float]:
    from opentelemetry.sdk.metrics import MeterProvider

    from amm_exporter.export.reader import AMMMetricReader
    from amm_exporter.export.session import start

    reader = AMMMetricReader(serve=False)
    with start({}, meter_provider=MeterProvider(metric_readers=[reader])):
        return scraped(lambda: reader.render()[1])


def amm_through_the_prometheus_reader(*, scope_labels: bool = True) -> dict[str, float]:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from opentelemetry.sdk.metrics import MeterProvider
    from prometheus_client import CollectorRegistry, generate_latest

    from amm_exporter.export.session import start

    registry = CollectorRegistry()
    reader = PrometheusMetricReader(registry=registry, scope_info_enabled=scope_labels)
    with start({}, meter_provider=MeterProvider(metric_readers=[reader])):
        return scraped(lambda: generate_latest(registry))


def prometheus_client_defaults() -> dict[str, float]:
    from prometheus_client import REGISTRY, generate_latest

    return scraped(lambda: generate_latest(REGISTRY))


def system_metrics() -> dict[str, float]:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from opentelemetry.instrumentation.system_metrics import SystemMetricsInstrumentor
    from opentelemetry.sdk.metrics import MeterProvider
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    reader = PrometheusMetricReader(registry=registry)
    SystemMetricsInstrumentor().instrument(meter_provider=MeterProvider(metric_readers=[reader]))
    return scraped(lambda: generate_latest(registry))


# -- many processes behind one address


def family(workers: int) -> dict[str, float]:
    """CPU of the process that answers, with its siblings' answers awaited but not counted."""
    from opentelemetry.sdk.metrics import MeterProvider

    from amm_exporter.export.reader import AMMMetricReader
    from amm_exporter.export.session import start

    reader = AMMMetricReader("127.0.0.1", 0)
    with start({}, meter_provider=MeterProvider(metric_readers=[reader])):
        children = [child for _ in range(workers - 1) if (child := fork_and_wait())]
        time.sleep(2.0)
        result = scraped(lambda: reader.render()[1])
        for child in children:
            os.kill(child, 9)
            os.waitpid(child, 0)
        reader.shutdown()
    return result


def fork_and_wait() -> int:
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    return child


def fleet(processes: int) -> dict[str, float]:
    from amm_exporter.control.fleet import Fleet
    from amm_exporter.export.fleet import render_fleet
    from amm_exporter.policy import load_policy

    with Sleepers(processes):
        watched = Fleet(load_policy({}), re.compile(r"^sleep 601$"))
        watched.tick()
        result = scraped(lambda: render_fleet(watched, "")[1])
        watched.close()
    return result


def fleet_page(processes: int) -> dict[str, float]:
    from amm_exporter.control.fleet import Fleet
    from amm_exporter.export.fleet_page import fleet_routes
    from amm_exporter.export.http import Request
    from amm_exporter.policy import load_policy

    request = Request(method="GET", path="/", headers={}, keep_alive=True)
    with Sleepers(processes):
        watched = Fleet(load_policy({}), re.compile(r"^sleep 601$"))
        watched.tick()
        answer = partial(fleet_routes(watched)["/"], request)
        result = {"cpu_ms": cpu_ms(answer), "kB": len(answer().body) / 1000}
        watched.close()
    return result


def process_exporter(processes: int) -> dict[str, float]:
    """Debian's prometheus-process-exporter: its own CPU, by /proc, for scrapes over HTTP."""
    import urllib.request

    import psutil

    port = 19256
    config = write_process_exporter_config()
    command = ["prometheus-process-exporter", f"-web.listen-address=127.0.0.1:{port}", "-config.path", config]
    with Sleepers(processes):
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(2)
            url = f"http://127.0.0.1:{port}/metrics"
            text = urllib.request.urlopen(url).read()
            before = sum(psutil.Process(server.pid).cpu_times()[:2])
            for _ in range(20):
                urllib.request.urlopen(url).read()
            spent = sum(psutil.Process(server.pid).cpu_times()[:2]) - before
        finally:
            server.kill()
            server.wait()
    return {"cpu_ms": spent / 20 * 1000, "kB": len(text) / 1000, "series": series_of(text)}


def write_process_exporter_config() -> str:
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".yml", delete=False) as file:
        file.write("process_names:\n  - name: '{{.Comm}}-{{.PID}}'\n    exe: [sleep]\n")
    return file.name


class Sleepers:
    """That many small processes, all alike, for as long as the block lasts."""

    def __init__(self, count: int) -> None:
        self._processes = [subprocess.Popen(SLEEPER) for _ in range(count)]

    def __enter__(self) -> Sleepers:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


# -- standing costs


def import_over_otel() -> dict[str, float]:
    """What comes on top for a program that has the SDK and the instrumentation package loaded anyway."""
    for name in ("psutil", "opentelemetry.instrumentation.instrumentor", "opentelemetry.sdk._configuration"):
        importlib.import_module(name)
    process = importlib.import_module("psutil").Process()
    cpu, rss = time.process_time(), process.memory_info().rss
    for name in ("amm_exporter.export.instrumentor", "amm_exporter.export.reader"):
        importlib.import_module(name)
    return {"cpu_ms": (time.process_time() - cpu) * 1000, "MiB": (process.memory_info().rss - rss) / 2**20}


def median_import() -> dict[str, float]:
    """Each in a process of its own: one alone may meet a processor that has other things in its caches."""
    command = [sys.executable, "-W", "ignore", __file__, "--import"]
    found = [json.loads(subprocess.check_output(command)) for _ in range(7)]
    return {unit: statistics.median(one[unit] for one in found) for unit in found[0]}


def monitoring(interval: str) -> dict[str, float]:
    """CPU of an idle program with AMM in it, less that of the same program without, both running at the same time."""
    return above_idle("amm", interval)


def monitoring_movement(interval: str) -> dict[str, float]:
    """The same in a program that takes or frees some pages between two looks: none finds what the last one did."""
    return above_idle("amm", interval, moves=True)


def bare_thread(interval: str) -> dict[str, float]:
    """The same for a thread that does nothing but wake up: what no sampler in Python can be below."""
    return above_idle("thread", interval)


def above_idle(what: str, interval: str, *, moves: bool = False) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", __file__, *(["--moves"] if moves else []), "--idle"]
    idle, busy = (
        subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True)
        for arguments in (("nothing", interval), (what, interval))
    )
    without, with_it = (float(process.communicate()[0]) for process in (idle, busy))
    return {"percent_of_a_core": (with_it - without) * 100}


def idle_share(what: str, interval: str, *, moves: bool = False) -> float:
    """CPU over time of this process, which does nothing itself, or takes and frees some pages in turn."""
    from opentelemetry.sdk.metrics import MeterProvider

    if what == "amm":
        from amm_exporter.export.reader import AMMMetricReader
        from amm_exporter.export.session import start

        provider = MeterProvider(metric_readers=[AMMMetricReader("127.0.0.1", 0)])
        start({"interval": interval}, meter_provider=provider)
    elif what == "thread":
        threading.Thread(target=wake_for_ever, args=(float(interval.removesuffix("s")),), daemon=True).start()
    time.sleep(STARTED_SECONDS)
    before, taken = time.process_time(), None
    end = time.monotonic() + IDLE_SECONDS
    while (left_seconds := end - time.monotonic()) > 0:
        if moves:
            taken = some_pages() if taken is None else None
        time.sleep(min(left_seconds, 0.9 * float(interval.removesuffix("s")) if moves else left_seconds))
    return (time.process_time() - before) / IDLE_SECONDS


def some_pages() -> mmap.mmap:
    pages = mmap.mmap(-1, 1 << 15)
    pages.write(b"1" * len(pages))
    return pages


def wake_for_ever(seconds: float) -> None:
    while True:
        time.sleep(seconds)


def gc_callback() -> dict[str, float]:
    from amm_exporter.probes.gc_events import GcProbe

    def collections(times: int = 200_000) -> float:
        before = time.process_time()
        for _ in range(times):
            gc.collect(0)
        return (time.process_time() - before) / times * 1e6

    collections(20_000)
    without = min(collections() for _ in range(3))
    probe = GcProbe()
    probe.start()
    with_it = min(collections() for _ in range(3))
    return {"microseconds": with_it - without}


def counting(access: str) -> dict[str, float]:
    """A watched functools.lru_cache has no row: it counts itself."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from benchmarks.counting import compare

    return {"ns": compare("LRUCache", rounds=100)[access][1]}


ROWS: dict[str, Callable[..., dict[str, float]]] = {
    "scrape: AMM by its own reader": amm_reader,
    "scrape: AMM by the Prometheus reader of OpenTelemetry": amm_through_the_prometheus_reader,
    "scrape: the same, scope_info_enabled=False": lambda: amm_through_the_prometheus_reader(scope_labels=False),
    "scrape: prometheus_client, default collectors": prometheus_client_defaults,
    "scrape: system-metrics instrumentation": system_metrics,
    "scrape: AMM, a family of 4 processes": lambda: family(4),
    "scrape: AMM, a family of 50 processes": lambda: family(50),
    "scrape: AMM from outside, 200 processes": lambda: fleet(200),
    "page: AMM from outside, 200 processes": lambda: fleet_page(200),
    "scrape: process-exporter, 200 processes": lambda: process_exporter(200),
    "import: AMM on top of OpenTelemetry": median_import,
    "gc callback, per collection": gc_callback,
    "monitoring at 1 Hz": lambda: monitoring("1s"),
    "monitoring at 10 Hz": lambda: monitoring("0.1s"),
    "monitoring at 1 Hz, while memory moves": lambda: monitoring_movement("1s"),
    "monitoring at 10 Hz, while memory moves": lambda: monitoring_movement("0.1s"),
    "a thread that only wakes up, at 10 Hz": lambda: bare_thread("0.1s"),
    "cachetools LRUCache, watched: a hit": lambda: counting("[] hit"),
    "cachetools LRUCache, watched: a get that misses": lambda: counting("get miss"),
    "cachetools LRUCache, watched: a KeyError": lambda: counting("KeyError"),
    "cachetools LRUCache, watched: a store that evicts": lambda: counting("eviction"),
}


AT_MOST: dict[str, dict[str, float]] = {
    "scrape: AMM by its own reader": {"cpu_ms": 5, "kB": 15, "series": 120},
    "scrape: AMM by the Prometheus reader of OpenTelemetry": {"cpu_ms": 5, "kB": 15, "series": 120},
    "scrape: the same, scope_info_enabled=False": {"cpu_ms": 5, "kB": 15, "series": 120},
    "scrape: AMM from outside, 200 processes": {"cpu_ms": 20},
    "page: AMM from outside, 200 processes": {"cpu_ms": 20, "kB": 100},
    "import: AMM on top of OpenTelemetry": {"cpu_ms": 60, "MiB": 3},
    "gc callback, per collection": {"microseconds": 2},
    "monitoring at 1 Hz": {"percent_of_a_core": 0.05},
    "monitoring at 10 Hz": {"percent_of_a_core": 0.2},
    "monitoring at 1 Hz, while memory moves": {"percent_of_a_core": 0.05},
    "monitoring at 10 Hz, while memory moves": {"percent_of_a_core": 0.2},
    "cachetools LRUCache, watched: a hit": {"ns": 100},
    "cachetools LRUCache, watched: a get that misses": {"ns": 100},
    "cachetools LRUCache, watched: a KeyError": {"ns": 100},
    "cachetools LRUCache, watched: a store that evicts": {"ns": 100},
}
"""What AMM has set itself. A figure beyond is marked; a loaded machine, whose caches are cold, costs up to twice."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--idle", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--moves", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--import", dest="imports", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--only", default="", help="rows whose name has this in it")
    arguments = parser.parse_args()
    if arguments.row:
        print(json.dumps(ROWS[arguments.row]()))
        return
    if arguments.imports:
        print(json.dumps(import_over_otel()))
        return
    if arguments.idle:
        print(idle_share(*arguments.idle, moves=arguments.moves))
        return
    package = Path(__file__).parent.parent / "amm_exporter"
    subprocess.run([sys.executable, "-m", "compileall", "-q", package], check=True)  # as whoever installs it does
    for name in ROWS:
        if arguments.only in name:
            print(f"{name:56}{measured(name)}", flush=True)


def measured(name: str) -> str:
    command = [sys.executable, "-W", "ignore", __file__, "--row", name]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if result.returncode:
        return "not to be had here: " + (result.stderr.strip().splitlines() or ["?"])[-1][:60]
    figures = json.loads(result.stdout.splitlines()[-1])
    limits = AT_MOST.get(name, {})
    return "  ".join(
        f"{value:9.3f} {unit}" + (f" (more than {limits[unit]:g})" if value > limits.get(unit, value) else "")
        for unit, value in figures.items()
    )


if __name__ == "__main__":
    main()
