"""Samples over a fake machine: what is held against what, and what a broken probe leaves standing."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from probe_trees import MEMINFO, V2_MOUNT, Tree, limits, make_tree, process, v2

from amm_exporter.control.sampling import (
    AROUND_SECONDS,
    HOST_EVERY_SECONDS,
    LIMIT_SECONDS,
    ROOMY_HOST_SECONDS,
    STAND_SECONDS,
    Sampler,
    readings,
)
from amm_exporter.model import CgroupMemory, HostMemory, Limit, ProcessMemory, TreeMemory
from amm_exporter.policy import load_policy
from amm_exporter.probes.procfs import PAGE_BYTES
from amm_exporter.units import GIB, KIB, MIB

PID = 4242
PRESSURE = (
    "some avg10=1.50 avg60=0.00 avg300=0.00 total=2000000\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=1000000\n"
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += HOST_EVERY_SECONDS
        return self.now


def sampler(
    root: Path,
    policy: dict[str, object] | None = None,
    *,
    cgroup: Tree | None = None,
    clock: Callable[[], float] | None = None,
) -> Sampler:
    """A machine with 16 GiB, half of it available, one process with 300 pages and, if asked for, a cgroup."""
    own: Tree = {"limits": limits(), "cgroup": "0::/app\n", "mountinfo": V2_MOUNT.format(root="/") if cgroup else ""}
    machine: Tree = {str(PID): process(PID) | own, "self": own, "meminfo": MEMINFO, "pressure/memory": PRESSURE}
    make_tree(root, {"proc": machine, "sys": {"app": cgroup} if cgroup else {}})
    return Sampler(
        load_policy(policy or {}, environ={}),
        PID,
        proc=root / "proc",
        sysfs=root / "sys",
        clock=clock or Clock(),
        wall_clock=lambda: 1.7e9,
    )


def scopes(taken: Sampler) -> list[str]:
    return [reading.scope for reading in taken.take().readings]


def test_a_sample_holds_everything_that_was_read(tmp_path: Path) -> None:
    sample = sampler(tmp_path, {"limit": "1GB"}).take()
    assert sample.process is not None
    assert sample.process.rss_bytes == 300 * PAGE_BYTES
    assert sample.tree is not None
    assert sample.host is not None
    assert sample.host.available_bytes == 8 * GIB
    assert [pressure.some_seconds for pressure in sample.pressure] == [2.0]
    assert sample.limit == sample.limits[0]
    assert (sample.limit.source, sample.limit.size_bytes) == ("policy", GIB)
    assert sample.unix_seconds == 1.7e9
    assert sample.failed == frozenset()


@pytest.mark.parametrize("signal", ["process", "tree", "host"])
def test_a_signal_named_is_the_only_reading(tmp_path: Path, signal: str) -> None:
    assert scopes(sampler(tmp_path, {"signal": signal})) == [signal]


def test_auto_without_a_cgroup_limit_holds_the_tree_and_the_host(tmp_path: Path) -> None:
    assert scopes(sampler(tmp_path)) == ["tree", "host"]


def test_auto_with_a_cgroup_limit_holds_its_working_set_and_the_host(tmp_path: Path) -> None:
    taken = sampler(tmp_path, cgroup=v2(maximum=GIB, current=600 * MIB, inactive=100 * MIB))
    reading = taken.take().readings[0]
    assert (reading.scope, reading.used_bytes, reading.limit_bytes) == ("cgroup", 500 * MIB, GIB)
    assert scopes(taken) == ["cgroup", "host"]


def test_auto_with_a_tighter_policy_holds_the_tree_against_that_too(tmp_path: Path) -> None:
    taken = sampler(tmp_path, {"limit": "512MB"}, cgroup=v2(maximum=GIB, current=600 * MIB))
    assert [(reading.scope, reading.limit_bytes) for reading in taken.take().readings[:2]] == [
        ("cgroup", GIB),
        ("tree", 512 * MIB),
    ]


def test_without_any_limit_there_is_nothing_to_hold_against() -> None:
    memory = ProcessMemory(pid=1, rss_bytes=5, virtual_bytes=9)
    tree = TreeMemory(rss_bytes=5, processes=(memory,))
    assert readings("auto", (), memory, tree, None, None) == ()


def test_the_host_is_held_against_its_own_ram() -> None:
    host = HostMemory(total_bytes=100, available_bytes=30)
    (reading,) = readings("host", (Limit(source="policy", size_bytes=5),), None, None, None, host)
    assert (reading.used_bytes, reading.limit_bytes, reading.headroom_bytes) == (70, 100, 30)


def test_a_cgroup_without_a_limit_is_held_against_the_limit_there_is() -> None:
    cgroup = CgroupMemory(path="/x", version=2, usage_bytes=9, working_set_bytes=7)
    (reading,) = readings("cgroup", (Limit(source="ram", size_bytes=10),), None, None, cgroup, None)
    assert (reading.used_bytes, reading.limit_bytes) == (7, 10)


class Hand:
    """A clock that is moved by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("available", "seconds"), [("9000000", ROOMY_HOST_SECONDS), ("8388608", HOST_EVERY_SECONDS)])
def test_the_machine_is_read_now_and_then_and_more_often_when_half_full(
    tmp_path: Path, available: str, seconds: float
) -> None:
    clock = Hand()
    taken = sampler(tmp_path, clock=clock)
    file = tmp_path / "proc" / "meminfo"
    file.write_text(MEMINFO.replace("8388608", available))
    assert shown(taken) == int(available) * KIB
    file.write_text(MEMINFO.replace("8388608", "7"))
    clock.now += 0.9 * seconds
    assert shown(taken) == int(available) * KIB
    clock.now += 0.1 * seconds
    assert shown(taken) == 7 * KIB


def shown(taken: Sampler) -> int:
    host = taken.take().host
    assert host is not None
    return host.available_bytes


def test_a_limit_that_changes_is_followed_within_seconds(tmp_path: Path) -> None:
    clock = Hand()
    taken = sampler(tmp_path, clock=clock, cgroup=v2(maximum=GIB, current=MIB))
    assert taken.take().limits[0].size_bytes == GIB
    (tmp_path / "sys" / "app" / "memory.max").write_text(f"{GIB // 2}\n")
    clock.now += LIMIT_SECONDS
    assert taken.take().limits[0].size_bytes == GIB // 2


# -- glances

SLACK = MIB


def glancing(root: Path, policy: dict[str, object], file: str, text: str) -> bool:
    """Whether a sample still stands a moment after this file changed."""
    taken = sampler(root, policy, cgroup=v2(maximum=GIB, current=100 * MIB))
    taken.take()
    glanced = taken.glance(SLACK)
    assert glanced is not None
    assert glanced["rss"] == 300 * PAGE_BYTES
    (root / file).write_text(text)
    return taken.glance(SLACK) is not None


STATM = f"proc/{PID}/statm"
USAGE = "sys/app/memory.current"


@pytest.mark.parametrize(
    ("signal", "file", "size", "stands"),
    [
        ("tree", STATM, 300 * PAGE_BYTES + SLACK - PAGE_BYTES, True),
        ("tree", STATM, 300 * PAGE_BYTES + SLACK, False),
        ("process", STATM, 300 * PAGE_BYTES + SLACK, False),
        ("host", STATM, 300 * PAGE_BYTES + SLACK, False),
        ("cgroup", USAGE, 100 * MIB + SLACK - 1, True),
        ("cgroup", USAGE, 100 * MIB + SLACK, False),
        ("cgroup", USAGE, 100 * MIB - SLACK, False),
        ("auto", USAGE, 100 * MIB + SLACK, False),
    ],
)
def test_a_sample_stands_until_the_process_or_what_is_held_against_a_limit_has_moved(
    tmp_path: Path, signal: str, file: str, size: int, stands: bool
) -> None:
    text = f"{size}\n" if file == USAGE else f"999999 {size // PAGE_BYTES} 100 1 0 500 0\n"
    assert glancing(tmp_path, {"signal": signal}, file, text) is stands


def test_a_process_is_still_until_a_page_comes(tmp_path: Path) -> None:
    taken = sampler(tmp_path, {"signal": "tree"})
    taken.take()
    assert taken.is_still()
    (tmp_path / STATM).write_text("999999 301 100 1 0 500 0\n")
    assert not taken.is_still()
    assert taken.is_still()


def test_memory_that_is_again_what_it_was_before_the_last_glance_has_moved(tmp_path: Path) -> None:
    taken = sampler(tmp_path, {"signal": "tree"})
    before = (tmp_path / STATM).read_text()
    taken.is_still()
    (tmp_path / STATM).write_text("999999 200 100 1 0 500 0\n")
    taken.take()
    assert taken.glance(SLACK) == {"rss": 200 * PAGE_BYTES}
    assert taken.is_still()
    (tmp_path / STATM).write_text(before)
    assert not taken.is_still()


def test_a_process_with_a_cgroup_is_never_called_still(tmp_path: Path) -> None:
    taken = sampler(tmp_path, {"signal": "cgroup"}, cgroup=v2(maximum=GIB, current=100 * MIB))
    taken.take()
    assert not any(taken.is_still() for _ in range(3))


def test_a_glance_sees_the_working_set_and_the_tree_where_they_are_held_against_a_limit(tmp_path: Path) -> None:
    cgroup = v2(maximum=GIB, current=100 * MIB, inactive=30 * MIB)
    taken = sampler(tmp_path, cgroup=cgroup)
    make_tree(tmp_path / "proc", {"77": process(77, parent=PID)})
    taken.take()
    (tmp_path / USAGE).write_text(f"{100 * MIB + 5}\n")
    assert taken.glance(SLACK) == {"rss": 300 * PAGE_BYTES, "tree": 600 * PAGE_BYTES, "cgroup": 70 * MIB + 5}


ROOMY = 9_000_000
"""KiB available of the 16 GiB."""


@pytest.mark.parametrize(
    ("available", "child", "rests"),
    [
        (ROOMY, False, True),
        (ROOMY - SLACK // KIB + 1, False, True),
        (ROOMY - SLACK // KIB, False, False),
        (ROOMY + SLACK // KIB, False, False),
        (ROOMY, True, False),
    ],
    ids=["nothing", "less than the slack", "the machine fills", "the machine empties", "a child"],
)
def test_a_sample_rests_until_the_machine_moves_or_a_child_is_started(
    tmp_path: Path, available: int, child: bool, rests: bool
) -> None:
    clock = Hand()
    taken = sampler(tmp_path, clock=clock)
    meminfo = tmp_path / "proc" / "meminfo"
    meminfo.write_text(MEMINFO.replace("8388608", str(ROOMY)))
    taken.take()
    meminfo.write_text(MEMINFO.replace("8388608", str(available)))
    if child:
        make_tree(tmp_path / "proc", {"77": process(77, parent=PID)})
        taken._tree._descendants.forget(77)  # look anew, as after a second
    around_until = taken.around_until
    assert around_until == clock.now + AROUND_SECONDS
    assert taken.renew(around_until, SLACK) is rests
    assert taken.around_until == (around_until + AROUND_SECONDS if rests else around_until)


def test_a_sample_does_not_rest_when_a_limit_was_changed(tmp_path: Path) -> None:
    clock = Hand()
    taken = sampler(tmp_path, clock=clock)
    (tmp_path / "proc" / "meminfo").write_text(MEMINFO.replace("8388608", str(ROOMY)))
    taken.take()
    (tmp_path / "proc" / str(PID) / "limits").write_text(limits(space=GIB))
    assert taken.renew(clock.now, SLACK)
    clock.now += LIMIT_SECONDS
    assert not taken.renew(clock.now, SLACK)
    taken.take()
    assert taken.renew(clock.now, SLACK)


@pytest.mark.parametrize("available", [8_400_000, 8_380_000], ids=["slack", "less than half is free"])
def test_a_sample_does_not_rest_on_a_machine_that_fills(tmp_path: Path, available: int) -> None:
    taken = sampler(tmp_path, clock=Hand())
    meminfo = tmp_path / "proc" / "meminfo"
    meminfo.write_text(MEMINFO.replace("8388608", "8400000"))
    taken.take()
    meminfo.write_text(MEMINFO.replace("8388608", str(available)))
    assert taken.renew(taken.stands_until, 100 * MIB) is (available == 8_400_000)


def test_a_sample_that_is_not_what_is_does_not_rest(tmp_path: Path) -> None:
    taken = sampler(tmp_path, clock=Hand())
    (tmp_path / "proc" / "meminfo").write_text(MEMINFO.replace("8388608", str(ROOMY)))
    taken.take()
    (tmp_path / STATM).write_text("999999 301 100 1 0 500 0\n")
    assert taken.glance(SLACK) is not None
    assert taken.is_still()
    assert not taken.renew(taken.around_until, SLACK)


def test_after_a_rest_a_scrape_sees_the_machine_as_it_is(tmp_path: Path) -> None:
    clock = Hand()
    taken = sampler(tmp_path, clock=clock)
    meminfo = tmp_path / "proc" / "meminfo"
    meminfo.write_text(MEMINFO.replace("8388608", str(ROOMY)))
    taken.take()
    meminfo.write_text(MEMINFO.replace("8388608", str(ROOMY - 1)))
    clock.now = taken.around_until
    assert taken.renew(clock.now, SLACK)
    assert shown(taken) == (ROOMY - 1) * KIB


def test_a_cgroup_with_a_limit_is_glanced_at_whatever_the_tier_is_decided_by(tmp_path: Path) -> None:
    taken = sampler(tmp_path, {"signal": "tree"}, cgroup=v2(maximum=GIB, current=100 * MIB, inactive=0))
    taken.take()
    assert not taken.is_still()
    assert taken.glance(SLACK) == {"rss": 300 * PAGE_BYTES, "cgroup": 100 * MIB}


def test_a_sample_does_not_rest_on_what_cannot_be_read(tmp_path: Path) -> None:
    taken = sampler(tmp_path, clock=Hand())
    meminfo = tmp_path / "proc" / "meminfo"
    meminfo.write_text(MEMINFO.replace("8388608", str(ROOMY)))
    taken.take()
    meminfo.write_text("nonsense")
    assert not taken.renew(taken.stands_until, SLACK)


def test_a_sample_does_not_stand_when_its_file_turns_bad(tmp_path: Path) -> None:
    assert not glancing(tmp_path, {"signal": "tree"}, STATM, "nonsense")


@pytest.mark.parametrize(("available", "seconds"), [("12000000", STAND_SECONDS), ("8000000", HOST_EVERY_SECONDS)])
def test_a_sample_stands_no_longer_than_the_machine_is_looked_at(
    tmp_path: Path, available: str, seconds: float
) -> None:
    clock = Hand()
    taken = sampler(tmp_path, clock=clock)
    (tmp_path / "proc" / "meminfo").write_text(MEMINFO.replace("8388608", available))
    taken.take()
    assert taken.stands_until == clock.now + seconds
    assert taken.around_until == (clock.now + AROUND_SECONDS if seconds == STAND_SECONDS else taken.stands_until)


# -- what breaks


BROKEN = [
    ("meminfo", "host"),  # how much memory the machine has is remembered
    ("pressure/memory", "pressure"),
    (f"{PID}/limits", "limit_sources"),
]


@pytest.mark.parametrize(("file", "probes"), [(file, set(probes)) for file, *probes in BROKEN])
def test_a_file_that_turns_bad_fails_its_probes_only(tmp_path: Path, file: str, probes: set[str]) -> None:
    taken = sampler(tmp_path)
    whole = taken.take()
    (tmp_path / "proc" / file).write_text("\0nonsense")
    for _ in range(round(LIMIT_SECONDS / HOST_EVERY_SECONDS)):
        broken = taken.take()
    assert broken.failed == probes
    assert {name for name, works in taken.probes.items() if not works} == broken.failed
    assert broken.process == whole.process
    assert broken.tree == whole.tree


@pytest.mark.parametrize("file", ["statm", "stat", "status", "limits", "cgroup", "../meminfo", "../pressure/memory"])
def test_no_missing_file_is_an_exception(tmp_path: Path, file: str) -> None:
    taken = sampler(tmp_path)
    taken.take()
    taken.close()
    (tmp_path / "proc" / str(PID) / file).unlink()
    sample = taken.take()
    taken.details()
    taken.start_unix_seconds()
    assert (sample.process is None) is (file in ("statm", "stat"))  # stat says whether it is still the same process


def test_a_vanished_process_fails_what_is_read_of_it_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    taken = sampler(tmp_path)
    taken.take()
    taken.close()
    (tmp_path / "proc" / str(PID)).rename(tmp_path / "proc" / "gone")
    caplog.set_level(logging.INFO, "amm")
    for _ in range(5):
        sample = taken.take()
    assert sample.process is None
    assert sample.host is not None
    assert sample.pressure
    assert {"process", "tree"} <= sample.failed
    told = [record.getMessage() for record in caplog.records if record.getMessage().startswith("probe process ")]
    assert told == [
        f"probe process failed, its metrics are absent until it works again: process {PID} has ended, or was never"
        f" there: no {tmp_path}/proc/{PID}/stat"
    ]


def test_a_probe_that_works_again_is_told_and_a_new_failure_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    taken = sampler(tmp_path, {"signal": "host"})
    caplog.set_level(logging.INFO, "amm")
    meminfo = tmp_path / "proc" / "meminfo"
    for text in ("bad", "bad", MEMINFO, "bad"):
        meminfo.write_text(text)
        taken.take()
    told = [record.getMessage().split(",")[0] for record in caplog.records if "probe host" in record.getMessage()]
    assert told == ["probe host failed", "probe host works again", "probe host failed"]


@pytest.mark.parametrize("content", ["content 1\n", "1 2 3 4 5 6 7\n"], ids=["of words", "that could be a probe's"])
@pytest.mark.parametrize("taken_over", ["", "statm", "meminfo", "pressure/memory"])
def test_files_of_the_program_under_the_numbers_of_ours_fail_no_probe_for_long(
    tmp_path: Path, content: str, taken_over: str
) -> None:
    """As after a daemon closed all descriptors and opened its own."""
    clock = Hand()
    taken = sampler(tmp_path, clock=clock)
    before = taken.take()
    (tmp_path / "own").write_text(content)
    numbers = descriptors_of(str(tmp_path / "proc"), taken_over)
    source = os.open(tmp_path / "own", os.O_RDONLY)
    for number in numbers:
        os.dup2(source, number)
    for _ in range(2):
        clock.now += LIMIT_SECONDS
        after = taken.take()
    taken.close()
    assert numbers
    assert after.failed == before.failed == frozenset()
    assert (after.process, after.host, after.limits) == (before.process, before.host, before.limits)
    assert [os.pread(number, 100, 0).decode() for number in numbers] == [content] * len(numbers)
    for number in (source, *numbers):
        os.close(number)


def descriptors_of(folder: str, name: str) -> list[int]:
    """Those of this process that are open on a file so named beneath the folder."""
    links = {int(link.name): os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()}
    return [number for number, path in links.items() if path.startswith(folder) and path.endswith(name)]


def test_a_kernel_without_pressure_is_told_once_with_the_cure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "amm")
    sampler(tmp_path).close()
    (tmp_path / "proc/pressure/memory").unlink()
    caplog.clear()
    taken = Sampler(load_policy({}, environ={}), PID, proc=tmp_path / "proc", sysfs=tmp_path / "sys")
    assert taken.take().pressure == ()
    assert taken.take().failed == frozenset()
    assert [record.getMessage() for record in caplog.records] == [
        f"no pressure stall information: no {tmp_path}/proc/pressure/memory: this kernel has no pressure stall"
        " information; boot with psi=1 (Linux 4.20 or newer, built with CONFIG_PSI)"
    ]


def test_a_budget_needs_the_tree_whatever_the_signal() -> None:
    for policy, has_tree in (({"signal": "process"}, False), ({"signal": "process", "budget": "1GB"}, True)):
        sampler = Sampler(load_policy(policy, environ={}))
        sample = sampler.take()
        sampler.close()
        assert [reading.scope for reading in sample.readings] == ["process"]
        assert (sample.tree is not None) == has_tree
