"""The emergency stop: a machine or container that is full, or that stands still for memory, ends the run in order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.usefixtures("only_this_plugin")

MIB = 1 << 20
Run = Callable[..., "subprocess.CompletedProcess[str]"]

LONG = """
import time
def test_long(): time.sleep(20)
def test_never(): open("ran", "w").close()
"""
FILLS = """
import pytest, time

@pytest.mark.amm_budget("2GB")
def test_fills():
    filled = b"1" * (315 << 20)
    time.sleep(20)

def test_never(): open("ran", "w").close()
"""
THRASHES = """
import mmap, time

def test_fine(): pass

def test_thrashes():
    with open("data", "rb") as file:
        pages = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    until = time.monotonic() + 20
    while time.monotonic() < until:
        sum(pages[::4096])

def test_never(): open("ran", "w").close()
"""
ONLY_VERSION_2 = (
    "unshare", "--mount", "--cgroup",
    "sh", "-c", 'umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"', "sh",
)  # fmt: skip
"""As in a container on a machine without version 1: its own part of version 2, and nothing else."""


@pytest.fixture
def in_container(pytester: pytest.Pytester, own_cgroup: Path) -> Run:
    """Run pytest in a cgroup that may have so much memory, and in others."""

    def run(
        limit_bytes: int, *arguments: str, also: tuple[Path, ...] = (), inside: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        limit = own_cgroup / "memory.max"
        if not limit.exists():
            limit = own_cgroup / "memory.limit_in_bytes"
        limit.write_text(str(limit_bytes))
        enter = "".join(f"echo $$ > {each}/cgroup.procs && " for each in {own_cgroup, *also})
        pytest_command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
        command = ["sh", "-c", enter + 'exec "$@"', "sh", *inside, *pytest_command]
        return subprocess.run(command, cwd=pytester.path, capture_output=True, text=True, timeout=60)

    return run


@pytest.mark.parametrize("workers", ["", "--amm-isolate", "-n1"], ids=["alone", "isolated", "xdist"])
def test_it_stops_the_test_and_ends_the_run_in_order(pytester: pytest.Pytester, workers: str) -> None:
    pytester.makepyfile(test_it=LONG)
    options = ["--amm-emergency=0.1%", "--amm-emergency-warn=0.1%", *workers.split()]
    result = pytester.runpytest_subprocess(*options)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert not (pytester.path / "ran").exists()
    result.stdout.fnmatch_lines(
        ["*OverBudget: stopped: the machine had in use *", "*amm: emergency stop: * of the memory of this machine*"]
    )


def test_the_warning_level_cleans_up_and_goes_on(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import gc, time, weakref
        gc.disable()
        class Node: pass
        node = Node(); node.self = node
        watch = weakref.ref(node)
        del node
        def test_first(): time.sleep(0.5)
        def test_second(): assert watch() is None
        """
    )
    result = pytester.runpytest_subprocess("--amm-emergency=100%", "--amm-emergency-warn=0.1%")
    assert result.parseoutcomes() == {"passed": 2}
    result.stdout.fnmatch_lines(
        ["warning: up to * of the memory of this machine or container was in use; from 0.1% on*"]
    )


def test_a_marker_alone_turns_it_on(pytester: pytest.Pytester, in_container: Run) -> None:
    pytester.makepyfile(test_it=FILLS)
    result = in_container(400 * MIB)
    assert result.returncode == pytest.ExitCode.INTERRUPTED, result.stdout
    assert "OverBudget: stopped: the machine had in use" in result.stdout
    assert "amm: emergency stop: " in result.stdout
    assert not (pytester.path / "ran").exists()


@pytest.mark.parametrize(
    ("options", "looks"),
    [("--amm-peaks", False), ("--amm-budget=8GB --amm-on-breach=fail", False), ("--amm-budget=8GB", True)],
    ids=["no budget", "nothing is to be stopped", "a budget"],
)
def test_the_machine_is_looked_at_where_there_is_a_budget_to_hold(
    pytester: pytest.Pytester, options: str, looks: bool
) -> None:
    pytester.makepyfile(
        f"""
        from pytest_amm.start import BOARD
        def test_it(request): assert bool(request.config.stash[BOARD].host_settings()) is {looks}
        """
    )
    assert pytester.runpytest_inprocess(*options.split()).ret == 0


def test_a_container_that_stands_still_for_memory_ends_the_run_with_its_report(
    pytester: pytest.Pytester, in_container: Run, stall_cgroup: Path
) -> None:
    """For real: the test reads a file that is larger than what the container may have, again and again. The processor
    that it has always runs something else, so that the machine as a whole never stands still.

    8 % and not 40 %: the kernel's average over 10 s would take as long to rise. The machine's own stays below 5 %.
    """
    data = pytester.path / "data"
    if os.major(pytester.path.stat().st_dev) == 0:
        pytest.skip("needs a disk: in memory or on an overlay nothing is read again")
    with data.open("wb") as file:
        file.write(b"1" * (160 * MIB))
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    pytester.makepyfile(test_it=THRASHES)
    options = ("--amm-emergency-stall=8%", "--amm-emergency=100%", "--amm-json=report.json")
    seen = ONLY_VERSION_2 if not subprocess.run([*ONLY_VERSION_2, "true"], capture_output=True).returncode else ()
    one_processor = ("taskset", "--cpu-list", str(min(os.sched_getaffinity(0))))
    with subprocess.Popen([*one_processor, sys.executable, "-c", "while True: pass"]) as neighbour:
        try:
            result = in_container(128 * MIB, *options, also=(stall_cgroup,), inside=(*one_processor, *seen))
        finally:
            neighbour.kill()
    assert result.returncode == pytest.ExitCode.INTERRUPTED, result.stdout
    assert "OverBudget: stopped: every task stood still for memory" in result.stdout
    assert "amm: emergency stop: " in result.stdout
    document = json.loads((pytester.path / "report.json").read_text())
    outcomes = [(test["nodeid"].rpartition(":")[2], test["outcome"]) for test in document["tests"]]
    assert outcomes == [("test_fine", "passed"), ("test_thrashes", "failed")]
    assert document["complete"]
    assert document["tests"][1]["breach"]["scope"] == "emergency"
