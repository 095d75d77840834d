"""The tier of a process watched from outside, over a /proc and a cgroup made for it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from probe_trees import MEMINFO, limits, make_tree, process, v2

from amm_exporter.control.fleet import TURNS, Fleet, MemberState
from amm_exporter.export.fleet import render_fleet
from amm_exporter.model import Tier
from amm_exporter.policy import load_policy

PAGES = 300
SIZE = PAGES * 4096


def fleet_of_two(folder: Path, *, maximum: object, in_use: int, **policy: object) -> Fleet:
    """Two small processes in one cgroup."""
    mount = f"31 23 0:28 / {folder}/cgroup rw - cgroup2 cgroup2 rw\n"
    of_each = {"cmdline": "worker\0", "cgroup": "0::/shop\n", "limits": limits()}
    make_tree(folder / "cgroup", {"shop": v2(maximum=maximum, current=in_use, inactive=0)})
    make_tree(
        folder / "proc",
        {
            "meminfo": MEMINFO,
            "stat": "btime 1700000000\n",
            "self/mountinfo": mount,
            **{str(pid): {**process(pid, rss_pages=PAGES), **of_each} for pid in (41, 42)},
        },
    )
    fleet = Fleet(load_policy(policy, environ={}), re.compile("worker"), proc=folder / "proc")
    fleet.tick()
    return fleet


def states(fleet: Fleet) -> list[MemberState]:
    try:
        return fleet.read()
    finally:
        fleet.close()


def test_small_processes_that_fill_their_cgroup_are_in_its_tier(tmp_path: Path) -> None:
    """As AMM inside of them says it: the kernel ends one of them when the cgroup is full, not when it is large."""
    found = states(fleet_of_two(tmp_path, maximum=10 * SIZE, in_use=9 * SIZE))
    assert [(state.tier, state.usage_ratio, state.cgroup_ratio) for state in found] == [(Tier.CRITICAL, 0.1, 0.9)] * 2


@pytest.mark.parametrize("signal", ["process", "tree"])
def test_the_cgroup_is_left_out_where_the_signal_is_another(tmp_path: Path, signal: str) -> None:
    found = states(fleet_of_two(tmp_path, maximum=10 * SIZE, in_use=9 * SIZE, signal=signal))
    assert [state.tier for state in found] == [Tier.NORMAL] * 2


def test_a_cgroup_without_a_limit_has_no_tier(tmp_path: Path) -> None:
    found = states(fleet_of_two(tmp_path, maximum="max", in_use=9 * SIZE, limit=str(10 * SIZE) + "B"))
    assert [(state.tier, state.cgroup_ratio) for state in found] == [(Tier.NORMAL, None)] * 2


def test_the_ratio_that_makes_the_tier_is_among_the_series(tmp_path: Path) -> None:
    fleet = fleet_of_two(tmp_path, maximum=10 * SIZE, in_use=9 * SIZE)
    text = render_fleet(fleet)[1].decode()
    fleet.close()
    for scope, ratio in (("process", 0.1), ("cgroup", 0.9)):
        assert (
            f'amm_memory_usage_ratio{{process_executable_name="worker",process_pid="41",scope="{scope}"}} {ratio}'
            in text
        )


def test_a_process_that_becomes_another_program_is_named_after_it_or_vanishes(tmp_path: Path) -> None:
    """A shell that hands over to the real one by exec; a child that looked like its parent until it called exec."""
    fleet = fleet_of_two(tmp_path, maximum="max", in_use=0)
    assert [state.name for state in fleet.read()] == ["worker", "worker"]
    for pid, words in {41: "/usr/bin/python\0worker.py\0", 42: "sleep\0"}.items():
        (tmp_path / "proc" / str(pid) / "cmdline").write_text(words)
    for _ in range(TURNS):
        fleet.tick()
    assert [(state.memory.pid, state.name) for state in states(fleet)] == [(41, "python")]
