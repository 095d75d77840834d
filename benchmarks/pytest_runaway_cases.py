"""The runaways and the innocents of `pytest_runaway`: the lines of each, and how far it may go."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

BUDGET_MB = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Runaway:
    """One way to run away. `over_mb` is the most it may pass the budget; `kills` that its process has to be killed."""

    body: str
    over_mb: float = 50
    options: tuple[str, ...] = ()
    kills: bool = False
    fixture: str = ""


CHILD = "subprocess.run([sys.executable, '-c', {code!r}], check=True)"
STEPS = "x = []\nfor _ in range(60): x.append(b'1' * (50 << 20))"
NOTED_STEPS = """
x = []
try:
    for _ in range(60):
        x.append(b'1' * (50 << 20))
        note()
finally:
    note()
"""
"""The same, and when each call ended, be it by an exception."""

RUNAWAYS = {
    "steps of 50 MB": Runaway(body=NOTED_STEPS),
    "list(range(n))": Runaway(body="list(range(100_000_000))"),
    "json in C": Runaway(body="json.loads('[' + '[1,2],' * 20_000_000 + '1]')"),
    "thread": Runaway(
        body=f"t = threading.Thread(target=exec, args=({NOTED_STEPS!r}, {{'note': note}})); t.start(); t.join()"
    ),
    "child process": Runaway(body=CHILD.format(code=STEPS)),
    "grandchild": Runaway(
        body=CHILD.format(code=f"import subprocess, sys; subprocess.run([sys.executable, '-c', {STEPS!r}])")
    ),
    "fixture": Runaway(body="pass", fixture=NOTED_STEPS),
    "xdist worker, steps": Runaway(body=NOTED_STEPS, options=("-n1",)),
    "xdist worker, giant": Runaway(body="numpy.ones(3000 << 17)", options=("-n1",), over_mb=250, kills=True),
    "swallows MemoryError": Runaway(
        body="""
        x = []
        while True:
            try:
                x.append(b'1' * (10 << 20))
            except MemoryError:
                pass
        """
    ),
    "blocks all signals": Runaway(body="signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n" + NOTED_STEPS),
    "giant numpy": Runaway(body="numpy.ones(3000 << 17)", over_mb=250, kills=True),
    "giant bytes": Runaway(body="b'1' * (3000 << 20)", over_mb=250, kills=True),
    "giant numpy, hard": Runaway(body="numpy.ones(3000 << 17)", over_mb=0, options=("--amm-hard",)),
    "giant bytes, hard": Runaway(body="b'1' * (3000 << 20)", over_mb=0, options=("--amm-hard",)),
    "giant numpy, isolated": Runaway(body="numpy.ones(3000 << 17)", over_mb=0, options=("--amm-isolate",)),
    "giant bytes, isolated": Runaway(body="b'1' * (3000 << 20)", over_mb=0, options=("--amm-isolate",)),
}

INNOCENTS = {
    "100 idle threads": """
        stop = threading.Event()
        threads = [threading.Thread(target=stop.wait) for _ in range(100)]
        [t.start() for t in threads]; stop.set(); [t.join() for t in threads]
    """,
    "sparse np.empty of 3 GB": "x = numpy.empty(3000 << 17); x[::1 << 22] = 1",
    "private map of a big file": """
        with open('big', 'wb') as file: file.truncate(3 << 30)
        with open('big', 'r+b') as file:
            m = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE); m[0:3] = b'abc'
    """,
    "python child": CHILD.format(code="x = b'1' * (50 << 20)"),
    "threads, sparse, near it": """
        held = b'1' * (400 << 20); sparse = numpy.empty(1000 << 17); stop = threading.Event()
        threads = [threading.Thread(target=stop.wait) for _ in range(50)]
        [t.start() for t in threads]; stop.set(); [t.join() for t in threads]
    """,
    "node child": "subprocess.run(['node', '-e', 'const a = Buffer.alloc(50 << 20, 1)'], check=True)",
    "numpy": "numpy.linalg.svd(numpy.random.rand(300, 300))",
    "pyarrow": "import pyarrow; pyarrow.array(range(100000))",
}

SUITE = """
import gc, json, mmap, os, signal, subprocess, sys, threading, time
import pytest
try:
    import numpy
except ImportError:
    pass

def note():
    os.write(NOTES, b"%f " % time.monotonic())

NOTES = os.open("notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

@pytest.fixture
def before():
{fixture}

def test_runaway(before):
{body}

def test_after():
    assert sum(range(10)) == 45
"""


def suite(body: str, fixture: str = "") -> str:
    return SUITE.format(body=_indented(body), fixture=_indented(fixture or "pass"))


def _indented(code: str) -> str:
    return textwrap.indent(textwrap.dedent(code).strip(), "    ")
