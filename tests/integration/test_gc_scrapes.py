"""A real process whose collector runs all the time while it is scraped at random moments: nothing may wait for ever.

A callback that records into OpenTelemetry from inside a collection takes a lock that the scrape holds: one run in three
hung within a minute.
"""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import faulthandler, gc, json, random, sys, threading, time
from opentelemetry.sdk.metrics import MeterProvider
import amm_exporter as amm
from amm_exporter.export.reader import AMMMetricReader

faulthandler.dump_traceback_later(100, exit=True)
COLLECTIONS, SCRAPES = 100_000, 20
sys.setswitchinterval(1e-4)
gc.disable()  # until the first count
gc.set_threshold(10)  # then a scrape, too, sets off collections wherever it happens to be
reader = AMMMetricReader(serve=False)
session = amm.start({"interval": "100ms"}, meter_provider=MeterProvider(metric_readers=[reader]))
begun = sum(stats["collections"] for stats in gc.get_stats())
gc.enable()
done = threading.Event()

def collections():
    return sum(stats["collections"] for stats in gc.get_stats()) - begun

def collect(seed):
    wait = random.Random(seed)
    while collections() < COLLECTIONS or len(pages) < SCRAPES:
        for _ in range(200):
            gc.collect(0)
        time.sleep(wait.uniform(0, 0.002))

def scrape(seed):
    wait = random.Random(seed)
    while not done.is_set():
        pages.append(reader.render()[1])
        time.sleep(wait.uniform(0, 0.01))

pages = []
scrapers = [threading.Thread(target=scrape, args=(seed,)) for seed in range(2)]
collectors = [threading.Thread(target=collect, args=(seed,)) for seed in range(2)]
for thread in scrapers + collectors:
    thread.start()
for thread in collectors:
    thread.join()
done.set()
for thread in scrapers:
    thread.join()
gc.disable()
time.sleep(0.1)  # two scrapes closer than that show one view
last = reader.render()[1].decode()
counted = [line for line in last.splitlines() if line.startswith("amm_gc_pause_duration_seconds_count")]
shown = sum(float(line.split()[-1]) for line in counted)
dropped = session.governor.gc.dropped_count
print(json.dumps({"collections": collections(), "scrapes": len(pages), "shown": shown, "dropped": dropped}))
session.stop()
"""


def test_a_hundred_thousand_collections_under_two_scrapers_end_and_are_counted() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["collections"] >= 100_000
    assert found["scrapes"] >= 20
    assert found["shown"] + found["dropped"] == found["collections"], "each is shown, or said to be dropped"
