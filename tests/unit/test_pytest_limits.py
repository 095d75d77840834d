"""A process that is held gets no more memory, by whatever way malloc would find some."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from pytest_amm.limits import hold

GROW = """
import os, threading
from pytest_amm.limits import hold

def grow(name):
    held = [bytes(50 << 20) for _ in range(2)]  # never touched: what is reserved counts too
    release = hold(os.getpid())
    try:
        more = TAKE
        outcome = "got"
    except MemoryError:
        outcome = "refused"
    release()
    print(name, outcome)

grow("main")
thread = threading.Thread(target=grow, args=("thread",))
thread.start()
thread.join()
"""


@pytest.mark.parametrize(
    "take", ["b'1' * (50 << 20)", "list(range(20_000_000))", "[bytes(600) for _ in range(100_000)]"]
)
def test_in_the_main_thread_and_in_the_heap_that_malloc_reserves_for_another(take: str) -> None:
    code = GROW.replace("TAKE", take)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split("\n")[:2] == ["main refused", "thread refused"]


STACK = """
import mmap, os
from pytest_amm.limits import hold

deep = []
for _ in range(500):
    deep = [deep]
hold(os.getpid())
maps = []
for size in (1 << 20, 4096):
    try:
        while len(maps) < 5000:
            maps.append(mmap.mmap(-1, size))
    except (OSError, MemoryError):
        pass
try:
    repr(deep)
except MemoryError:
    pass
print("alive")
"""


def test_its_stack_still_grows() -> None:
    """A lowered RLIMIT_AS refuses that, and the kernel answers with a SIGSEGV."""
    result = subprocess.run([sys.executable, "-c", STACK], capture_output=True, text=True, check=True)
    assert result.stdout == "alive\n"


def test_a_limit_that_was_set_anew_is_not_undone() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        release = hold(process.pid)
        held = resource.prlimit(process.pid, resource.RLIMIT_DATA)
        release()
        before = resource.prlimit(process.pid, resource.RLIMIT_DATA)
        assert before[0] != held[0]
        hold(process.pid)
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (1 << 40, before[1]))
        release()
        assert resource.prlimit(process.pid, resource.RLIMIT_DATA)[0] == 1 << 40
        process.communicate(b"\n")
