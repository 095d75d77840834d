"""Probes against the real kernel: own process, forks, trees, and psutil as an independent witness."""

from __future__ import annotations

import gc
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest
from probe_trees import open_fds

from amm_exporter.errors import ProbeError
from amm_exporter.model import ProcessMemory
from amm_exporter.probes.portable import PortableProcess
from amm_exporter.probes.process import HighWaterMark, ProcessProbe, TreeProbe

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
MIB = 1 << 20
PAGE = mmap.PAGESIZE
HOLDER = "import sys; block = bytearray(b'x') * ({size}); print('ready', flush=True); sys.stdin.read()"


def fresh_pages(size: int) -> mmap.mmap:
    """Resident memory that was not there before: a bytearray may get what the tests before have left in the heap."""
    block = mmap.mmap(-1, size)
    for offset in range(0, size, PAGE):
        block[offset] = 1
    return block


def in_child(check: Callable[[], bool]) -> bool:
    """Whether the check holds in a forked child."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if check() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.fixture
def holder() -> Iterator[Callable[[int], subprocess.Popen[str]]]:
    """Starts processes that hold so many bytes until the test is over."""
    started: list[subprocess.Popen[str]] = []

    def start(size: int) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", HOLDER.format(size=size)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


def close_to(mine: int, theirs: int, tolerance: int = MIB) -> bool:
    return abs(mine - theirs) <= tolerance


@pytest.mark.parametrize("implementation", [ProcessProbe, PortableProcess])
def test_own_memory_agrees_with_psutil(implementation: type[ProcessProbe | PortableProcess]) -> None:
    memory, theirs = implementation().read(), psutil.Process().memory_info()
    assert memory.pid == os.getpid()
    assert close_to(memory.rss_bytes, theirs.rss)
    assert close_to(memory.virtual_bytes, theirs.vms)


@pytest.mark.parametrize("implementation", [ProcessProbe, PortableProcess])
def test_growth_is_seen(implementation: type[ProcessProbe | PortableProcess]) -> None:
    probe = implementation()
    before = probe.read().rss_bytes
    block = fresh_pages(50 * MIB)
    assert close_to(probe.read().rss_bytes - before, len(block), 2 * MIB)
    block.close()


@pytest.mark.parametrize("implementation", [ProcessProbe, PortableProcess])
def test_a_forked_child_tells_about_itself(implementation: type[ProcessProbe | PortableProcess]) -> None:
    probe = implementation()
    parent = probe.read()

    def child_is_seen() -> bool:
        before = probe.read().rss_bytes
        block = fresh_pages(50 * MIB)
        memory = probe.read()
        return memory.pid == os.getpid() != parent.pid and memory.rss_bytes - before >= len(block) - MIB

    assert in_child(child_is_seen)
    assert probe.read().pid == parent.pid


@pytest.mark.parametrize("implementation", [ProcessProbe, PortableProcess])
def test_an_ended_process_is_an_error(
    implementation: type[ProcessProbe | PortableProcess], holder: Callable[[int], subprocess.Popen[str]]
) -> None:
    child = holder(1)
    probe = implementation(child.pid)
    assert isinstance(probe.read(), ProcessMemory)
    child.kill()
    child.wait()
    with pytest.raises(ProbeError):
        probe.read()


def test_a_zombie_has_ended(holder: Callable[[int], subprocess.Popen[str]]) -> None:
    child = holder(1)
    probe = ProcessProbe(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has reaped it
    with pytest.raises(ProbeError, match=f"process {child.pid} has ended"):
        probe.read()


def test_start_time_and_faults_agree_with_psutil() -> None:
    probe, witness = ProcessProbe(), psutil.Process()
    assert probe.start_unix_seconds() == pytest.approx(witness.create_time(), abs=2.0)
    details = probe.details()
    assert details.peak_bytes is not None
    assert details.peak_bytes >= details.rss_bytes - MIB
    assert details.minor_faults is not None
    assert details.minor_faults > 100


def test_another_process_is_read_by_its_pid(holder: Callable[[int], subprocess.Popen[str]]) -> None:
    child = holder(40 * MIB)
    assert close_to(ProcessProbe(child.pid).read().rss_bytes, psutil.Process(child.pid).memory_info().rss)


def test_the_tree_is_the_sum_of_its_processes(holder: Callable[[int], subprocess.Popen[str]]) -> None:
    probe = TreeProbe()
    alone = probe.read().rss_bytes
    children = [holder(30 * MIB), holder(20 * MIB)]
    tree = probe.read()
    assert {child.pid for child in children} <= {member.pid for member in tree.processes}
    assert tree.rss_bytes - alone >= 50 * MIB
    witness = psutil.Process()
    assert {member.pid for member in tree.processes} == {os.getpid()} | {
        x.pid for x in witness.children(recursive=True)
    }


def test_a_grandchild_counts_until_its_parent_ends() -> None:
    """It is then adopted by another process, and no longer of this tree: psutil sees it the same way."""
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        try:
            probe = TreeProbe()
            assert {child.pid, grandchild} <= {member.pid for member in probe.read().processes}
            child.kill()
            child.wait()
            probe.read()  # notices the death
            assert not {child.pid, grandchild} & {member.pid for member in probe.read().processes}
        finally:
            os.kill(grandchild, signal.SIGKILL)


def test_children_vanishing_during_a_thousand_reads_never_raise() -> None:
    probe = TreeProbe()
    end = time.monotonic() + 1.0
    running: list[subprocess.Popen[bytes]] = []
    largest = 0
    while time.monotonic() < end:
        running.append(subprocess.Popen(["sleep", "0.01"]))
        for _ in range(20):
            largest = max(largest, len(probe.read().processes))
        running = [child for child in running if child.poll() is None]
    for child in running:
        child.wait()
    assert largest > 1
    assert not {child.pid for child in running} & {member.pid for member in probe.read().processes}
    probe.close()


def test_a_forked_child_sees_its_own_tree_only(holder: Callable[[int], subprocess.Popen[str]]) -> None:
    probe = TreeProbe()
    sibling = holder(1)
    assert sibling.pid in {member.pid for member in probe.read().processes}
    assert in_child(lambda: [member.pid for member in probe.read().processes] == [os.getpid()])


def test_a_short_peak_is_exact_where_a_sampler_would_miss_it() -> None:
    mark, probe = HighWaterMark(), ProcessProbe()
    assert mark.supported
    gc.collect()
    mark.reset()
    before = probe.read().rss_bytes
    fresh_pages(80 * MIB).close()
    assert probe.read().rss_bytes < before + 10 * MIB
    assert close_to(mark.read_bytes() - before, 80 * MIB, 2 * MIB)
    mark.reset()
    assert mark.read_bytes() < before + 10 * MIB


def test_the_mark_of_a_forked_child_is_its_own() -> None:
    mark = HighWaterMark()
    mark.reset()
    before = mark.read_bytes()

    def child_peaks() -> bool:
        mark.reset()
        at_start = mark.read_bytes()
        fresh_pages(60 * MIB).close()
        return mark.read_bytes() - at_start >= 58 * MIB

    assert in_child(child_peaks)
    assert mark.read_bytes() < before + 20 * MIB


def test_probes_give_their_descriptors_back(holder: Callable[[int], subprocess.Popen[str]]) -> None:
    child = holder(1)
    before = open_fds()
    for _ in range(20):
        probes = ProcessProbe(), ProcessProbe(child.pid), TreeProbe()
        for probe in probes:
            probe.read()
            probe.close()
    assert open_fds() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make itself another user")
def test_a_process_of_another_user_may_be_read_but_not_reset() -> None:
    """What the kernel shows to all is told; what it refuses is an error that says why."""
    pid = os.getpid()

    def as_nobody() -> bool:
        os.setuid(65534)
        if HighWaterMark(pid).supported or ProcessProbe(pid).read().rss_bytes == 0:
            return False
        try:
            HighWaterMark(pid).reset()
        except ProbeError as error:
            return "Permission denied (it belongs to another user, or the container forbids it)" in str(error)
        return False

    assert in_child(as_nobody)
