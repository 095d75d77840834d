"""The process tree that the watchdog watches, and ends when the run was killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pytest_amm.proctree import Tree, children

LOOKS = """
import os
from pytest_amm.proctree import Tree

tree = Tree(os.getppid())
tree.refresh()
print(os.getpid() in tree.members)
"""


def test_who_looks_is_no_part_of_it() -> None:
    """For a moment the watchdog is below the run still. What a killed run leaves is killed: not itself, half-way."""
    result = subprocess.run([sys.executable, "-c", LOOKS], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


def test_a_child_comes_in_and_goes() -> None:
    tree = Tree(os.getpid())
    assert tree.refresh()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert tree.refresh()
        assert child.pid in tree.members
        child.communicate(b"\n")
    assert tree.refresh()
    assert child.pid not in tree.members


def test_the_end_of_its_root_is_told() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        tree = Tree(child.pid)
        assert tree.refresh()
        child.communicate(b"\n")
    assert not tree.refresh()


SPAWNS = """
import os, sys
kept = b"1" * (30 << 20)
waits = (os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)  # before exec, until somebody writes
os.posix_spawn(sys.executable, [sys.executable, "-c", "input()"], os.environ, file_actions=[waits])
input()
"""


def test_a_child_between_vfork_and_exec_has_nothing_of_its_own(tmp_path: Path) -> None:
    """Python starts programs so from 3.10 on; counted, every program would take what pytest has of files once more."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    parent = subprocess.Popen([sys.executable, "-c", SPAWNS, str(fifo)], stdin=subprocess.PIPE)
    try:
        tree = Tree(parent.pid)
        _until(lambda: bool(children(parent.pid)))
        assert tree.refresh()
        (child,) = (member for member in tree.members.values() if member.parent)
        assert child.rss_bytes > 30 << 20
        assert child.counted_bytes() == child.interval_peak_bytes() == child.most_bytes() == 0
        with open(fifo, "w") as gate:
            _until(lambda: tree.refresh() and child.inherited_bytes == 0)
            assert 0 < child.counted_bytes() < 30 << 20
            gate.write("\n")
        tree.close()
    finally:
        os.close(os.open(fifo, os.O_RDWR))  # a child that waits still ends: its parent cannot be waited for before
        parent.kill()
        parent.communicate()


FORKS = """
import os
for _ in range(3):
    if os.fork():
        os.wait()
        os._exit(0)
kept = b"1" * (30 << 20)
print(flush=True)
input()
"""


def test_the_forked_child_of_a_forked_child_counts_with_what_it_takes() -> None:
    """With few pages of files it looks at first as if it ran in the memory of its parent."""
    with subprocess.Popen([sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        tree = Tree(parent.pid)
        _until(lambda: tree.refresh() and len(tree.members) == 4)
        assert parent.stdout is not None
        parent.stdout.readline()
        tree.refresh()
        assert 29 << 20 < max(member.counted_bytes() for member in tree.members.values() if member.parent) < 45 << 20
        parent.communicate(b"\n")
    tree.close()


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)
