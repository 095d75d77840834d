"""The process tree that the watchdog watches, and ends when the run was killed."""

from __future__ import annotations

import os
import subprocess
import sys

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
