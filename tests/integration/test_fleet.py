"""Many processes watched from outside by their command line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import AMM, clean_environ, free_port, get, line, running, scrape

from amm_exporter.control.fleet import TURNS, Fleet, MemberState
from amm_exporter.export.fleet import families, render_fleet
from amm_exporter.model import Tier
from amm_exporter.policy import load_policy

PATHS = ("", "api/v1/status.json", "healthz")
PYTHON = Path(sys.executable).name


class Programs:
    """Python programs that can be told by a mark of their own in the command line."""

    def __init__(self) -> None:
        self.mark = f"mark{uuid.uuid4().hex}"
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, megabytes: int = 0) -> subprocess.Popen[bytes]:
        code = f"held = b'x' * {megabytes} * 2**20; print(flush=True); input()  # {self.mark}"
        program = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert program.stdout is not None
        program.stdout.readline()
        self.running.append(program)
        return program

    def stop(self, program: subprocess.Popen[bytes]) -> None:
        program.kill()
        program.communicate()

    def fleet(self, **policy: object) -> Fleet:
        fleet = Fleet(load_policy(policy, environ={}), re.compile(self.mark))
        fleet.tick()
        return fleet


@pytest.fixture
def programs() -> Iterator[Programs]:
    programs = Programs()
    yield programs
    for program in programs.running:
        programs.stop(program)


def by_pid(states: list[MemberState]) -> dict[int, MemberState]:
    return {state.memory.pid: state for state in states}


def test_each_process_shows_its_own_memory(programs: Programs) -> None:
    small, large = programs.start(), programs.start(64)
    states = by_pid(programs.fleet().read())
    assert states.keys() == {small.pid, large.pid}
    resident = int(Path(f"/proc/{large.pid}/statm").read_text().split()[1]) * 4096
    assert states[large.pid].memory.rss_bytes == pytest.approx(resident, rel=0.01)
    assert states[large.pid].memory.rss_bytes - states[small.pid].memory.rss_bytes > 60 * 2**20
    assert states[large.pid].peak_bytes >= states[large.pid].memory.rss_bytes


def test_one_that_ends_vanishes_and_a_new_one_appears(programs: Programs) -> None:
    first, fleet = programs.start(), programs.fleet()
    assert by_pid(fleet.read()).keys() == {first.pid}
    programs.stop(first)
    second = programs.start()
    fleet.tick()
    assert by_pid(fleet.read()).keys() == {second.pid}


def test_one_that_becomes_another_program_appears(programs: Programs) -> None:
    becomes = 'read word; exec "$0" -c "print(flush=True); input()" "$word"'
    with running(["/bin/sh", "-c", becomes, sys.executable], stdin=subprocess.PIPE) as program:
        fleet = programs.fleet()
        assert fleet.read() == []
        assert program.stdin is not None
        program.stdin.write(f"{programs.mark}\n")
        program.stdin.flush()
        line(program.stdout)
        for _ in range(TURNS):
            fleet.tick()
        assert by_pid(fleet.read()).keys() == {program.pid}


def test_the_tier_is_of_the_limit_given(programs: Programs) -> None:
    large = programs.start(90)
    fleet = programs.fleet(limit="110MB")
    assert by_pid(fleet.read())[large.pid].tier is Tier.CRITICAL


def test_series_carry_pid_name_and_the_names_of_the_table(programs: Programs) -> None:
    program = programs.start()
    text = render_fleet(programs.fleet(limit="4GB"))[1].decode()
    labels = f'process_executable_name="{PYTHON}",process_pid="{program.pid}"'
    for series in (
        f"process_memory_usage_bytes{{{labels}}} ",
        f"amm_memory_peak_bytes{{{labels}}} ",
        f'amm_memory_limit_bytes{{{labels},source="policy"}} 4294967296',
        f'amm_memory_usage_ratio{{{labels},scope="process"}} ',
        f"amm_memory_tier{{{labels}}} 0",
        f'amm_memory_leak_detected{{{labels},series="rss"}} 0',
    ):
        assert series in text


def test_the_group_called_name_names_them(programs: Programs) -> None:
    program = programs.start()
    fleet = Fleet(load_policy({}, environ={}), re.compile(rf"(?P<name>mark\w{{6}}).*{programs.mark[10:]}"))
    fleet.tick()
    assert by_pid(fleet.read())[program.pid].name == programs.mark[:10]


def test_processes_of_one_cgroup_show_the_same_reading_of_it(programs: Programs) -> None:
    programs.start()
    fleet = programs.fleet()
    programs.start(64)
    fleet.tick()
    first, second = (state.cgroup for state in fleet.read())
    assert first is second


def test_what_is_served_tells_of_no_argument_and_no_variable(programs: Programs) -> None:
    secret = f"secret{uuid.uuid4().hex}"
    command = ["-c", f"bytes(20 << 20); print(flush=True); input()  # {programs.mark}", secret]
    with running([sys.executable, *command], environ=clean_environ(TOKEN=secret), stdin=subprocess.PIPE) as program:
        line(program.stdout)
        port = free_port()
        with running([AMM, "serve", "--port", str(port), "--limit", "1GB", "--match", programs.mark]):
            metrics = scrape(port, f'process_pid="{program.pid}"')
            page, status, health = (get(f"http://localhost:{port}/{path}") for path in PATHS)
    assert health == "ok\n"
    shown = json.loads(status)["processes"]
    assert [(one["pid"], one["name"], one["tier"]) for one in shown] == [(program.pid, PYTHON, "normal")]
    assert shown[0]["peak_bytes"] >= shown[0]["rss_bytes"] > 0
    assert f"<tr><td>{program.pid}</td>" in page
    assert secret not in metrics + page + status


def test_closing_leaves_no_file_open(programs: Programs) -> None:
    programs.start()
    before = set(Path("/proc/self/fd").iterdir())
    fleet = programs.fleet()
    assert len(fleet.read()) == 1
    fleet.close()
    assert set(Path("/proc/self/fd").iterdir()) <= before


def test_no_match_is_an_empty_scrape() -> None:
    assert all(not family.series for family in families([]))
