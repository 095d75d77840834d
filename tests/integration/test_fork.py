"""os.fork under a running session: the child is another process, with its own numbers. Families are in test_prefork."""

from __future__ import annotations

import json
import sys

import pytest
from programs import free_port, run

FORKED = """
import gc, json, os, re, sys, threading, time
from opentelemetry.sdk.metrics import MeterProvider
import amm_exporter as amm
from amm_exporter.export.reader import AMMMetricReader

PAGE = os.sysconf("SC_PAGE_SIZE")
reader = AMMMetricReader("localhost", int(sys.argv[1]))
provider = MeterProvider([reader], shutdown_on_exit=False)
policy = {"interval": "50ms", "hysteresis": 0, "tiers": {"moderate": "1KB", "high": "50%"}}
if sys.argv[2] == "kept":
    session = amm.start(policy, meter_provider=provider)
else:
    amm.start(policy, meter_provider=provider)
(instruments,) = [value for value in gc.get_objects() if type(value).__name__ == "Instruments"]
governor = instruments.shown

def numbers():
    families = {family.name: family.series for family in reader.families()}
    only = lambda name: next(iter(families[name].values()), None)
    pauses = families.get("amm_gc_pause_duration_seconds", {}).values()
    return {
        "pid": os.getpid(),
        "rss": only("process_memory_usage_bytes"),
        "true": int(open("/proc/self/statm").read().split()[1]) * PAGE,
        "started": time.time() - only("process_uptime_seconds"),
        "transitions": sum(families.get("amm_memory_tier_transitions", {}).values()),
        "pauses": sum(sum(pause.counts) for pause in pauses),
        "cpu": only("amm_self_cpu_time_seconds"),
        "threads": sorted(thread.name for thread in threading.enumerate() if thread.name == "amm-governor"),
        "running": governor.running,
    }
"""

CHILD = """
for _ in range(50):
    gc.collect()
governor.sample()
time.sleep(1.1)
parent = numbers()
read, write = os.pipe()
pid = os.fork()
if pid == 0:
    kept = bytearray(80 << 20)
    governor.sample()
    os.write(write, json.dumps(numbers()).encode())
    os._exit(0)
os.close(write)
child = json.loads(os.fdopen(read).read())
os.waitpid(pid, 0)
print(json.dumps([parent, child, numbers()]))
provider.shutdown()
governor.stop()
"""


@pytest.mark.parametrize("session", ["kept", "dropped"])
def test_a_child_shows_its_own_numbers_from_zero(session: str) -> None:
    """Also where the program did not keep what start() returned."""
    done = run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED + CHILD, str(free_port()), session])
    assert done.stderr == ""
    parent, child, after = json.loads(done.stdout)
    assert child["pid"] != parent["pid"]
    for process in (parent, child, after):
        assert process["rss"] == pytest.approx(process["true"], rel=0.02)
        assert process["threads"] == ["amm-governor"]
        assert process["running"]
    assert child["rss"] > parent["rss"] + (70 << 20)
    assert child["started"] > parent["started"] + 1.0 > after["started"]
    assert child["pauses"] < 25 < 50 <= parent["pauses"] <= after["pauses"]
    assert child["cpu"] < parent["cpu"]
    assert (parent["transitions"], child["transitions"]) == (1, 1), "a child enters its tier anew, and once"


FORKING = """
import urllib.request
stopping = threading.Event()

def scrape():
    while not stopping.is_set():
        reader.render()

def request():
    while not stopping.is_set():
        urllib.request.urlopen(f"http://localhost:{sys.argv[1]}/metrics", timeout=30).read()

scrapers = [threading.Thread(target=scrape), threading.Thread(target=request)]
for scraper in scrapers:
    scraper.start()
hung = 0
for _ in range(int(sys.argv[3]) // 10):
    pids = []
    for _ in range(10):
        pid = os.fork()
        if pid == 0:
            governor.sample()
            gc.collect(0)
            numbers()
            governor.stop()
            os._exit(0)
        pids.append(pid)
    end = time.monotonic() + 60  # a child that hangs does so for ever; one of a busy machine takes its time
    while pids and time.monotonic() < end:
        pids = [pid for pid in pids if os.waitpid(pid, os.WNOHANG)[0] == 0]
        time.sleep(0.005)
    hung += len(pids)
    for pid in pids:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
stopping.set()
for scraper in scrapers:
    scraper.join(30)
print(json.dumps([hung, [scraper.is_alive() for scraper in scrapers]]))
provider.shutdown()
governor.stop()
"""


def test_no_child_hangs_that_is_forked_while_two_threads_scrape() -> None:
    """Without care, 6 of 60 did: a lock that another thread holds at the fork is held for ever in the child."""
    done = run([sys.executable, "-c", FORKED + FORKING, str(free_port()), "kept", "200"], timeout=300)
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout) == [0, [False, False]]


DAEMON = """
import os, sys, tempfile, time, urllib.request
from opentelemetry.sdk.metrics import MeterProvider
from amm_exporter.export.reader import AMMMetricReader

reader = AMMMetricReader("localhost", int(sys.argv[1]))
counter = MeterProvider([reader]).get_meter("tests").create_counter("done")
os.dup2(1, 900), os.dup2(2, 901)
if os.fork():
    os._exit(0)
counter.add(5)
os.closerange(0, 800)
null = os.open(os.devnull, os.O_RDWR)
os.dup2(null, 1), os.dup2(901, 2)
own = [tempfile.TemporaryFile("w+") for _ in range(40)]

def write_all():
    for file in own:
        file.write("line\\n")
        file.flush()

def scraped():
    try:
        with urllib.request.urlopen(f"http://localhost:{sys.argv[1]}/metrics", timeout=5) as answer:
            return [line for line in answer.read().decode().splitlines() if line.startswith("done_total")]
    except OSError:
        return []

until = time.monotonic() + 20
while not scraped() and time.monotonic() < until:
    time.sleep(0.05)
child = os.fork()
write_all()
if child:
    status = os.waitpid(child, 0)[1]
    os.write(900, f"{status} {scraped()} {set(map(os.path.getsize, [file.fileno() for file in own]))}".encode())
os._exit(0)
"""


def test_a_daemon_that_closes_all_descriptors_is_shown_and_keeps_its_own_files() -> None:
    """They get the numbers that the exporter's had: whoever closed or used those would hit the program's files."""
    done = run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", DAEMON, str(free_port())])
    assert (done.stdout, done.stderr) == ("0 ['done_total 5'] {10}", "")
