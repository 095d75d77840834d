"""When the peak of a cgroup is the run's own, on made-up trees of both versions."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_amm.runcgroup import CgroupLook, RunCgroup

MIB = 1 << 20
ROOT, CHILD, SHELL, INIT, STRANGER = 500, 501, 400, 1, 900
FILES = {1: ("memory.max_usage_in_bytes", "memory.usage_in_bytes"), 2: ("memory.peak", "memory.current")}

Write = Callable[..., None]


@pytest.fixture(params=[1, 2])
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def write(tmp_path: Path, version: int) -> Write:
    """Write the figures of the cgroup, in MiB, and its processes, into the files as they stay open."""

    def write(peak: int, usage: int, pids: tuple[int, ...] = (ROOT, CHILD)) -> None:
        for name, size in zip(FILES[version], (peak, usage), strict=True):
            (tmp_path / name).write_text(f"{size * MIB}\n")
        (tmp_path / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))

    for pid, parent in ((ROOT, SHELL), (SHELL, INIT)):
        (tmp_path / "proc" / str(pid)).mkdir(parents=True)
        (tmp_path / "proc" / str(pid) / "stat").write_text(f"{pid} (a (b) c) S {parent} 1 1\n")
    return write


def cgroup(tmp_path: Path, version: int) -> RunCgroup:
    return RunCgroup({"directory": str(tmp_path / "own"), "version": version}, ROOT, proc=str(tmp_path / "proc"))


@pytest.fixture
def own(tmp_path: Path, version: int, write: Write) -> tuple[RunCgroup, Write]:
    directory = tmp_path / "own"
    directory.mkdir()

    def inside(*arguments: object) -> None:
        write(*arguments)
        for name in (*FILES[version], "cgroup.procs"):
            (directory / name).write_text((tmp_path / name).read_text())

    inside(100, 60)
    return cgroup(tmp_path, version), inside


def test_a_new_peak_is_told_with_how_far_it_is_above_now(own: tuple[RunCgroup, Write]) -> None:
    run, write = own
    assert run.look(10.0, (ROOT, CHILD)) == CgroupLook(40 * MIB, risen=False)
    assert not run.rose
    write(300, 80)
    assert run.look(10.1, (ROOT, CHILD)) == CgroupLook(220 * MIB, risen=True)
    assert run.look(10.2, (ROOT, CHILD)) == CgroupLook(220 * MIB, risen=False)
    assert run.rose


def test_the_watchdog_and_the_parents_of_the_run_belong_to_it(own: tuple[RunCgroup, Write]) -> None:
    run, write = own
    write(200, 80, (ROOT, CHILD, SHELL, INIT, os.getpid()))
    assert run.look(10.0, (ROOT, CHILD)) is not None


@pytest.mark.parametrize("pids", [(ROOT, CHILD, STRANGER), (CHILD,), (), (ROOT, 0)])
def test_a_cgroup_with_others_in_it_does_not_count_from_then_on(
    own: tuple[RunCgroup, Write], pids: tuple[int, ...]
) -> None:
    run, write = own
    write(200, 80)
    assert run.look(10.0, (ROOT, CHILD)) is not None
    write(200, 80, pids)
    assert run.look(12.0, (ROOT, CHILD)) is None
    write(300, 80)
    assert run.look(14.0, (ROOT, CHILD)) is None
    assert not run.rose


def test_a_stranger_is_seen_before_a_new_peak_is_believed(own: tuple[RunCgroup, Write]) -> None:
    run, write = own
    assert run.look(10.0, (ROOT, CHILD)) is not None
    write(400, 80, (ROOT, STRANGER))
    assert run.look(10.001, (ROOT, CHILD)) is None


def test_cgroups_below_it_may_hold_others(own: tuple[RunCgroup, Write], tmp_path: Path) -> None:
    run, _ = own
    (tmp_path / "own" / "below").mkdir()
    assert run.look(10.0, (ROOT, CHILD)) is None


@pytest.mark.parametrize("settings", [None, {"directory": "/nonexistent", "version": 2}])
def test_without_such_files_there_is_none(settings: dict[str, object] | None) -> None:
    run = RunCgroup(settings, ROOT)
    assert run.look(10.0, (ROOT,)) is None
    assert not run.rose


def test_no_descriptor_stays_open_after_it_was_left(own: tuple[RunCgroup, Write]) -> None:
    run, write = own
    before = len(os.listdir("/proc/self/fd"))
    write(1, 1, (STRANGER,))
    assert run.look(10.0, (ROOT,)) is None
    assert len(os.listdir("/proc/self/fd")) == before - 3
