"""Limits against the real kernel: this machine's cgroups, resource limits, and cgroup limits changed under way."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from amm_exporter.probes.limit import LimitProbe
from amm_exporter.probes.pressure import PressureProbe

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc and cgroups")
MIB = 1 << 20
WAITER = """
import sys
sys.stdin.readline()
block = bytearray(b"x") * (60 << 20)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    """A process that waits to be told how to go on."""
    process = subprocess.Popen([sys.executable, "-c", WAITER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()


def fill(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "ready\n"


@pytest.fixture
def real_cgroup() -> Iterator[tuple[Path, str]]:
    """A memory cgroup made for the test, and the name of its limit file. Needs root and a writable hierarchy."""
    for parent, limit_file in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        path = parent / f"amm-test-{os.getpid()}"
        with contextlib.suppress(OSError):
            path.mkdir()
            if (path / limit_file).exists():
                yield path, limit_file
                path.rmdir()
                return
            path.rmdir()
    pytest.skip("no memory cgroup can be made here: not root, or the hierarchy is read-only")


def test_ram_agrees_with_psutil() -> None:
    probe, witness = LimitProbe(), psutil.virtual_memory()
    assert {limit.source: limit.size_bytes for limit in probe.read()}["ram"] == witness.total
    assert abs(probe.host().available_bytes - witness.available) < 200 * MIB
    assert probe.host().swap_total_bytes == psutil.swap_memory().total


def test_a_resource_limit_set_from_outside_is_followed(child: subprocess.Popen[str]) -> None:
    probe = LimitProbe(pid=child.pid, refresh_seconds=0.0)
    assert "rlimit_data" not in {limit.source for limit in probe.read()}
    resource.prlimit(child.pid, resource.RLIMIT_DATA, (300 * MIB, resource.RLIM_INFINITY))
    assert (probe.read()[0].source, probe.read()[0].size_bytes) == ("rlimit_data", 300 * MIB)
    resource.prlimit(child.pid, resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert "rlimit_data" not in {limit.source for limit in probe.read()}


def test_a_real_cgroup_limit_is_found_followed_and_its_usage_told(
    child: subprocess.Popen[str], real_cgroup: tuple[Path, str]
) -> None:
    directory, limit_file = real_cgroup
    probe = LimitProbe(pid=child.pid, refresh_seconds=0.0)
    probe.read()
    (directory / limit_file).write_text(str(200 * MIB))
    (directory / "cgroup.procs").write_text(str(child.pid))
    fill(child)
    bound = probe.read()[0]
    assert (bound.source, bound.size_bytes, bound.where) == ("cgroup", 200 * MIB, str(directory / limit_file))
    (directory / limit_file).write_text(str(100 * MIB))
    assert probe.read()[0].size_bytes == 100 * MIB
    memory = probe.cgroup()
    assert memory is not None
    assert (memory.path, memory.limit_bytes) == (str(directory), 100 * MIB)
    assert 60 * MIB <= memory.working_set_bytes <= memory.usage_bytes < 80 * MIB
    assert memory.oom_kills == 0
    child.kill()
    child.wait()
    probe.close()


def test_the_kernels_oom_kill_in_a_cgroup_is_counted(
    child: subprocess.Popen[str], real_cgroup: tuple[Path, str]
) -> None:
    directory, limit_file = real_cgroup
    (directory / limit_file).write_text(str(30 * MIB))
    (directory / "cgroup.procs").write_text(str(child.pid))
    probe = LimitProbe(pid=child.pid, refresh_seconds=0.0)
    before = probe.cgroup()
    assert before is not None
    assert before.oom_kills == 0
    assert child.stdin is not None
    child.stdin.write("\n")  # it now asks for 60 MiB
    child.stdin.flush()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    reader = probe._bound
    assert reader is not None
    assert reader.read(30 * MIB).oom_kills == 1
    assert child.wait() == -9


def test_the_own_cgroup_is_found_wherever_this_runs() -> None:
    """Whatever memory hierarchy the kernel shows for this process, the probe shows a cgroup in it."""
    membership = Path("/proc/self/cgroup").read_text()
    memory = LimitProbe().cgroup()
    if ":memory:" in membership:
        assert memory is not None
        assert memory.version == 1
        assert 0 <= memory.working_set_bytes <= memory.usage_bytes


def test_real_pressure_is_read_or_its_absence_explained() -> None:
    probe = PressureProbe()
    if Path("/proc/pressure/memory").exists() and not probe.unavailable:
        (host,) = probe.read()
        assert 0 <= host.full_seconds <= host.some_seconds
        assert 0 <= host.full_avg10_ratio <= host.some_avg10_ratio <= 1
    else:
        assert "psi=1" in probe.unavailable
