"""Families of real processes: forked, spawned, killed, orphaned, and scraped all the while."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import termios
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from programs import eventually, free_port, get
from prometheus_client.parser import text_string_to_metric_families

from amm_exporter.export.family_directory import family_directory

FIXTURES = Path(__file__).parent.parent / "fixtures"
INSTRUMENT = Path(sys.executable).with_name("opentelemetry-instrument")
TAKEOVER_SECONDS = 5.0
"""A third of the scrape interval that Prometheus has by default."""


def otel_environment(port: int, **more: str) -> dict[str, str]:
    wanted = {"OTEL_METRICS_EXPORTER": "amm", "OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    address = {"OTEL_EXPORTER_PROMETHEUS_PORT": str(port), "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1"}
    return {**os.environ, **wanted, **address, "PYTHONPATH": str(FIXTURES), **more}


def scrape(port: int, patience_seconds: float = 0.0) -> str:
    return eventually(lambda: get(f"http://127.0.0.1:{port}/metrics"), patience_seconds)


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str) -> float:
    return samples(text)[name, frozenset()]


def sums(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """What must never fall: counters and histograms that are not one worker's."""
    return {
        key: number
        for key, number in samples(text).items()
        if key[0].endswith(("_total", "_count", "_bucket")) and "process_pid" not in dict(key[1])
    }


def pids(text: str) -> set[int]:
    return {int(pid) for pid in re.findall(r'amm_group_snapshot_age_seconds\{process_pid="(\d+)"', text)}


def server_of(port: int) -> int:
    """The process that has the port."""
    found = [one.pid for one in psutil.net_connections("tcp4") if one.status == "LISTEN" and one.laddr.port == port]
    return found[0]


def wait_for_workers(port: int, count: int) -> str:
    deadline = time.monotonic() + 20
    while len(pids(text := scrape(port, 5))) < count:
        assert time.monotonic() < deadline, text
        time.sleep(0.05)
    return text


@contextmanager
def workers(**options):
    # From 3.12 on Python warns of any fork beside a thread; here it is meant.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(FIXTURES / "prefork_workers.py")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    started: set[int] = set()
    try:
        port = int(process.stdout.readline())
        text = wait_for_workers(port, 4)
        started = pids(text)
        yield process, port, text
    finally:
        family = {child.pid for child in psutil.Process(process.pid).children()} if process.poll() is None else started
        for pid in {*family, process.pid}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()


def test_no_sum_falls_while_workers_are_killed_fifty_times():
    with workers() as (process, port, text):
        descriptors, highest, killed = psutil.Process(process.pid).num_fds(), {}, set()
        while len(killed) < 50:
            now = sums(text)
            assert {key: (highest[key], now.get(key)) for key in highest if now.get(key, -1) < highest[key]} == {}
            highest = now
            victims = pids(text) - killed - {process.pid}
            if victims:
                victim = min(victims)
                os.kill(victim, signal.SIGKILL)
                killed.add(victim)
            text = scrape(port)
        text = wait_for_workers(port, 4)
        assert value(text, "amm_group_exits_total") >= 50
        assert not pids(text) & killed
        assert highest["app_hits_total", frozenset()] > 1050
        assert psutil.Process(process.pid).num_fds() <= descriptors + 1
        directory = family_directory("127.0.0.1", port)
        files = {path.name.partition("-")[0] for path in directory.iterdir()}
        assert not files & {str(pid) for pid in killed}
        process.terminate()
        assert process.communicate(timeout=10)[1] == ""
        assert not directory.exists()


def test_another_serves_when_the_server_is_killed_and_no_sum_falls():
    with workers() as (process, port, text):
        before = sums(text)
        for left in (3, 2, 1):
            os.kill(server_of(port), signal.SIGKILL)
            process.poll()
            text = scrape(port, TAKEOVER_SECONDS)
            assert len(pids(text)) == left
            after = sums(text)
            assert {key: number for key, number in before.items() if after.get(key, -1) < number} == {}
            before = after
        os.kill(server_of(port), signal.SIGKILL)
        time.sleep(0.1)
        with pytest.raises(urllib.error.URLError):
            scrape(port)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_another_serves_whatever_ended_the_server(number):
    with workers() as (process, port, _text):
        process.kill()
        process.wait()
        text = scrape(port, TAKEOVER_SECONDS)
        owner = server_of(port)
        assert owner in pids(text)
        worker = psutil.Process(owner)
        os.kill(owner, number)
        worker.wait(10)  # until then it may answer a last time
        after = scrape(port, TAKEOVER_SECONDS)
        assert pids(after) == pids(text) - {owner}
        assert value(after, "app_hits_total") >= value(text, "app_hits_total")


def test_another_serves_when_the_terminal_is_closed():
    """It sends SIGHUP to all that run on it; who outlives that goes on."""
    ours, theirs = os.openpty()
    try:
        terminal = {"start_new_session": True, "preexec_fn": lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)}
        with workers(stdin=theirs, **terminal) as (process, port, text):
            os.close(ours)
            assert process.wait(10) == -signal.SIGHUP
            after = scrape(port, TAKEOVER_SECONDS)
            assert pids(after) == pids(text) - {process.pid}
            assert value(after, "app_hits_total") >= value(text, "app_hits_total")
    finally:
        os.close(theirs)


def test_a_fork_never_hangs_beside_threads_that_scrape():
    forks = 200
    result = subprocess.run(
        [sys.executable, str(FIXTURES / "prefork_forks.py"), str(forks)], capture_output=True, text=True, timeout=120
    )
    hung, over_http, directly = map(int, re.search(r"hung (\d+) scrapes (\d+) (\d+)", result.stdout).groups())
    assert (hung, result.stderr) == (0, "")
    assert min(over_http, directly) > 10
    assert f"app_hits_total {forks}" in result.stdout


@pytest.mark.slow
def test_a_thousand_forks_beside_threads_that_scrape():
    result = subprocess.run(
        [sys.executable, str(FIXTURES / "prefork_forks.py"), "1000"], capture_output=True, text=True, timeout=500
    )
    assert "hung 0 " in result.stdout
    assert "app_hits_total 1000" in result.stdout


def test_what_a_child_counts_at_once_is_not_taken_for_its_parents():
    command = [sys.executable, str(FIXTURES / "prefork_observed.py"), "20"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.stderr == ""
    assert value(result.stdout, "app_done_total") == 1000 + 20 * 10


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up its user")
def test_workers_that_give_up_root_are_shown_and_counted():
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(FIXTURES / "prefork_privileges.py")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    live, ended = result.stdout.split("ended\n")
    assert result.stderr == ""
    assert len(pids(live)) == 3
    assert value(live, "app_hits_total") == 2
    assert (value(ended, "app_hits_total"), value(ended, "amm_group_exits_total")) == (3, 2)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_children_of_multiprocessing_are_shown_and_counted(method):
    port = free_port()
    result = subprocess.run(
        [INSTRUMENT, sys.executable, str(FIXTURES / "prefork_multiprocessing.py"), method, str(port)],
        env=otel_environment(port),
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert result.stderr == ""
    live, ended = result.stdout.split("ended\n")
    children = set(map(int, live.splitlines()[0].split()[1:]))
    live = live.partition("\n")[2]
    assert children < pids(live)
    assert value(live, "app_hits_total") == value(ended, "app_hits_total") == 106
    assert not children & pids(ended)


def test_a_child_does_not_keep_the_port_when_its_parent_is_killed():
    with workers() as (process, port, _text):
        others = [child.pid for child in psutil.Process(process.pid).children()]
        for pid in others:
            os.kill(pid, signal.SIGSTOP)  # so that none of them takes the port over
        process.kill()
        process.wait()
        with socket.create_server(("127.0.0.1", port)):
            pass
        for pid in others:
            os.kill(pid, signal.SIGKILL)
