"""A process that is held gets no more memory, by whatever way malloc would find some."""

from __future__ import annotations

import subprocess
import sys

import pytest

GROW = """
import os, resource, sys, threading
from pytest_amm.limits import hold

def grow(name):
    held = [b"1" * (50 << 20) for _ in range(2)]
    limits = [(kind, resource.getrlimit(kind)) for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    hold(os.getpid())
    try:
        more = TAKE
        outcome = "got"
    except MemoryError:
        outcome = "refused"
    for kind, limit in limits:
        resource.setrlimit(kind, limit)
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
