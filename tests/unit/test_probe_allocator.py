"""Allocators as they are: real blocks are made and given back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from probe_trees import make_tree

from amm_exporter.probes.allocator import (
    SHARE_OF_A_CORE,
    AllocatorMemory,
    AllocatorProbe,
    PacedReader,
    glibc_reader,
    parse_pymalloc,
    preloaded_allocators,
    pymalloc_reader,
)

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc and CPython on Linux")
MIB = 1 << 20


def reading(name: str) -> AllocatorMemory:
    """A fresh one, not paced."""
    read = {"pymalloc": pymalloc_reader, "glibc": glibc_reader}[name]()
    assert read is not None
    memory = read()
    assert memory is not None
    assert memory.allocator == name
    return memory


def test_small_objects_are_held_by_pymalloc() -> None:
    before = reading("pymalloc").used_bytes
    kept = [(number, number) for number in range(200_000)]  # 56 bytes and the collector's 16: blocks of 80
    grown = reading("pymalloc").used_bytes - before
    assert len(kept) * 64 <= grown <= len(kept) * 120 + MIB


def test_large_blocks_are_held_by_glibc() -> None:
    before = reading("glibc").used_bytes
    kept = [bytes(1000) for _ in range(20_000)]
    assert 20 * MIB * 0.9 <= reading("glibc").used_bytes - before <= 20 * MIB * 1.2
    assert len(kept) == 20_000


@pytest.mark.parametrize(("name", "size"), [("pymalloc", 200), ("glibc", 2_000)])
def test_memory_freed_between_live_objects_is_fragmentation(name: str, size: int) -> None:
    kept = [bytes(size) for _ in range(40_000)]
    full = reading(name)
    del kept[::2]
    holed = reading(name)
    assert holed.held_bytes == pytest.approx(full.held_bytes, rel=0.1)
    assert holed.free_bytes - full.free_bytes >= 0.9 * 20_000 * size
    assert holed.fragmentation_ratio > full.fragmentation_ratio


def test_the_report_goes_nowhere_else() -> None:
    """sys._debugmallocstats writes its report to the process's stderr."""
    code = "from amm_exporter.probes.allocator import AllocatorProbe; print(len(AllocatorProbe().read()))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("2\n", "")


def test_without_pymalloc_there_is_nothing_of_it_to_tell() -> None:
    code = (
        "from amm_exporter.probes.allocator import AllocatorProbe\n"
        "print([memory.allocator for memory in AllocatorProbe().read()])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONMALLOC": "malloc"}, capture_output=True, text=True, check=True
    )
    assert result.stdout == "['glibc']\n"


def test_nothing_held_is_not_fragmented() -> None:
    assert AllocatorMemory(allocator="glibc", held_bytes=0, free_bytes=0).fragmentation_ratio == 0.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("wait", "readings"), [(0.99, 1), (1.0, 2), (1.01, 2)])
def test_a_costly_reading_is_repeated_when_its_cost_is_a_small_share_of_the_time(wait: float, readings: int) -> None:
    clock, taken = Clock(), []

    def costly() -> AllocatorMemory:
        clock.now += SHARE_OF_A_CORE
        taken.append(1)
        return AllocatorMemory(allocator="glibc", held_bytes=len(taken), free_bytes=0)

    reader = PacedReader(costly, clock)
    reader.read()
    clock.now = wait
    memory = reader.read()
    assert memory is not None
    assert len(taken) == memory.held_bytes == readings


def test_a_forked_child_is_not_told_what_its_parent_had() -> None:
    code = (
        "import itertools, os\n"
        "from amm_exporter.probes.allocator import PacedReader\n"
        "reader = PacedReader(map(str, itertools.count(1)).__next__, itertools.count().__next__)\n"
        "reader.read()\n"
        "if os.fork() == 0:\n"
        "    print(reader.read(), reader.read(), flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "print(reader.read())\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "2 2\n1\n"


@pytest.mark.parametrize(
    ("maps", "expected"),
    [
        ("0-7fffffffffff r-xp 0 fe:01 12 /usr/lib/x86_64-linux-gnu/libjemalloc.so.2\n", ("jemalloc",)),
        ("0-7fffffffffff r-xp 0 fe:01 12 /opt/lib/libmimalloc.so.2.1\n", ("mimalloc",)),
        ("0-7fffffffffff r-xp 0 fe:01 12 /usr/lib/libtcmalloc_minimal.so.4\n", ("tcmalloc",)),
        ("7-8 r-xp 0 fe:01 12 /opt/lib/libmimalloc.so.2\n8-7fffffffffff r-xp 0 fe:01 12 /usr/lib/libc.so.6\n", ()),
        ("0-7fffffffffff r-xp 0 fe:01 12 /srv/jemalloc/data.bin\n", ()),
        ("0-7fffffffffff rw-p 0 00:00 0\n", ()),
        ("", ()),
    ],
)
def test_another_malloc_is_noticed_by_the_library_that_it_comes_from(
    tmp_path: Path, maps: str, expected: tuple[str, ...]
) -> None:
    assert preloaded_allocators(make_tree(tmp_path, {"self": {"maps": maps}})) == expected


def test_with_another_malloc_glibcs_numbers_are_left_out(tmp_path: Path) -> None:
    proc = make_tree(tmp_path, {"self": {"maps": "0-7fffffffffff r-xp 0 fe:01 12 /usr/lib/libjemalloc.so.2\n"}})
    probe = AllocatorProbe(proc=proc)
    assert probe.preloaded == ("jemalloc",)
    assert [memory.allocator for memory in probe.read()] == ["pymalloc"]


REPORT = """\
# arenas allocated current         =                   80
80 arenas * 1048576 bytes/arena    =           83,886,080

# bytes in allocated blocks        =           81,484,384
# bytes in available blocks        =              256,560
49 unused pools * 16384 bytes      =              802,816
"""


def test_the_report_is_understood() -> None:
    memory = parse_pymalloc(REPORT)
    assert memory is not None
    assert (memory.held_bytes, memory.free_bytes) == (83_886_080, 256_560 + 802_816)


@pytest.mark.parametrize("report", ["", "garbage", REPORT.replace("unused", "used"), REPORT.replace("83,886,080", "")])
def test_another_report_is_no_reading(report: str) -> None:
    assert parse_pymalloc(report) is None
