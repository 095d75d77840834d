"""The process tree that the watchdog watches, and ends when the run was killed."""

from __future__ import annotations

import subprocess
import sys
import time

from pytest_amm.proctree import Tree

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
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
            tree = Tree(child.pid)
            assert tree.refresh()
            assert set(tree.members) == {child.pid}
            other.communicate(b"\n")
        child.communicate(b"\n")
    deadline = time.monotonic() + 20
    while tree.refresh():
        assert time.monotonic() < deadline
