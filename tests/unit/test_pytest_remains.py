"""What a killed run has left: found among real processes, ended, and nobody else's."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from pytest_amm.mark import RLIMIT_LOCKS, new_id
from pytest_amm.proctree import stat_fields
from pytest_amm.remains import VARIABLE, Remains

pytest_plugins = ["pytester"]
Start = Callable[..., "subprocess.Popen[str]"]

SLEEP = ("sleep", "60")
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
TIDY = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: exit(7)); print(flush=True); time.sleep(60)"

DAEMON = """
import os, sys, time
from pytest_amm.board import Board

board = Board.create(sys.argv[1])
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(60)
    os._exit(0)
os.wait()
"""


@pytest.fixture
def run_id() -> str:
    return new_id()


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a program with only this id in its environment."""
    started: list[subprocess.Popen[str]] = []

    def start(run_id: str | None, *command: str, leads: bool = False) -> subprocess.Popen[str]:
        given = {"PATH": os.environ["PATH"], **({VARIABLE: run_id} if run_id else {})}
        process = subprocess.Popen(
            command or SLEEP, env=given, stdout=subprocess.PIPE, text=True, start_new_session=leads
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def test_what_carries_the_id_ends_and_nothing_else(start: Start, run_id: str) -> None:
    """Also a run inside, which has both ids; not the run around it, a run beside it, nor what has none."""
    ours, inside = start(run_id), start(f"{os.urandom(12).hex()}:{run_id}")
    others = [start(os.urandom(12).hex()), start(None)]
    Remains(run_id, own_start(), []).end()
    assert [ours.wait(5), inside.wait(5)] == [-signal.SIGTERM, -signal.SIGTERM]
    assert [other.poll() for other in others] == [None, None]


def test_the_run_around_outlives_the_one_inside(start: Start, run_id: str) -> None:
    around = start(run_id)
    inner = os.urandom(12).hex()
    inside = start(f"{inner}:{run_id}")
    Remains(inner, own_start(), []).end()
    assert inside.wait(5) == -signal.SIGTERM
    assert around.poll() is None


def test_a_forked_copy_is_known_by_the_board_that_it_has_mapped(start: Start, run_id: str) -> None:
    run = start(None, sys.executable, "-c", DAEMON, run_id)
    assert run.stdout is not None
    daemon = int(run.stdout.readline())
    assert run.wait(5) == 0
    Remains(os.urandom(12).hex(), own_start(), []).end()
    assert alive(daemon)
    Remains(run_id, own_start(), []).end()
    assert not alive(daemon)


def test_a_daemon_is_known_by_its_limit_whatever_it_was_given(start: Start, run_id: str) -> None:
    """Started by what had left the tree already, with an empty environment, in a session of its own."""
    ours, other = (
        start(None, "prlimit", f"--locks={number}:", "sh", "-c", "env -i setsid sh -c 'echo $$; exec sleep 60' & wait")
        for number in (run_id, new_id())
    )
    daemons = [int(run.stdout.readline()) for run in (ours, other) if run.stdout is not None]
    ours.kill()
    ours.wait()
    Remains(run_id, own_start(), []).end()
    assert list(map(alive, daemons)) == [False, True]
    os.kill(daemons[1], signal.SIGKILL)


def test_a_run_hands_its_limit_on_and_takes_it_back(pytester: pytest.Pytester) -> None:
    before = resource.getrlimit(RLIMIT_LOCKS)
    pytester.makeconftest("import resource; at_import = resource.getrlimit(10)[0]")
    pytester.makepyfile(
        """
        import conftest, subprocess
        def test_it():
            limits = subprocess.run(["cat", "/proc/self/limits"], env={}, capture_output=True, text=True).stdout
            assert 10**18 < conftest.at_import < 2**63
            assert str(conftest.at_import) in limits
        """
    )
    assert pytester.runpytest_inprocess("--amm-peaks").parseoutcomes() == {"passed": 1}
    assert resource.getrlimit(RLIMIT_LOCKS) == before


def test_what_was_seen_needs_no_id_but_must_be_the_same_process(start: Start, run_id: str) -> None:
    seen, reused = start(None), start(None)
    started = [int(stat_fields(process.pid)[19]) for process in (seen, reused)]
    Remains(run_id, own_start(), [(seen.pid, started[0]), (reused.pid, started[1] - 1)]).end()
    assert seen.wait(5) == -signal.SIGTERM
    assert reused.poll() is None


def test_its_children_and_its_session_are_the_runs_too(start: Start, run_id: str) -> None:
    """Without the id and started after the last look."""
    sleeps = "env -i sh -c 'echo $$; exec sleep 60' &"
    leader = start(run_id, "sh", "-c", f"{sleeps} ({sleeps}) && echo; wait", leads=True)
    assert leader.stdout is not None
    lines = [leader.stdout.readline().strip() for _ in range(3)]  # two pids, and that the one between them is gone
    family = {int(line or leader.pid) for line in lines}
    assert {left.pid for left in Remains(run_id, own_start(), []).look()} == family
    Remains(run_id, own_start(), []).end()
    assert not any(map(alive, family))


def test_what_is_older_than_the_run_is_left_alone(start: Start, run_id: str) -> None:
    older = start(run_id)
    Remains(run_id, int(stat_fields(older.pid)[19]) + 1, []).end()
    assert older.poll() is None


def test_it_may_tidy_up(start: Start, run_id: str) -> None:
    tidy = start(run_id, sys.executable, "-c", TIDY)
    wait_for_line(tidy)
    Remains(run_id, own_start(), [], grace_seconds=20).end()
    assert tidy.wait(5) == 7


def test_what_stays_is_killed(start: Start, run_id: str) -> None:
    stubborn = start(run_id, sys.executable, "-c", STUBBORN)
    wait_for_line(stubborn)
    before = time.monotonic()
    Remains(run_id, own_start(), [], grace_seconds=0.2).end()
    assert stubborn.wait(5) == -signal.SIGKILL
    assert time.monotonic() - before >= 0.2


def wait_for_line(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    process.stdout.readline()


def test_what_is_given_to_another_parent_is_asked_only_once(start: Start, run_id: str) -> None:
    """Its own one ends at the first SIGTERM."""
    busy = (
        "import os, signal, time\n"
        "if os.fork(): os.wait()\n"
        "def asked(*_):\n"
        "    os.write(1, b'asked\\n')\n"  # print may not be entered again: the signal may come inside the one below
        "    signal.setitimer(signal.ITIMER_REAL, 0.2)\n"  # its end, many looks later
        "signal.signal(signal.SIGTERM, asked)\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = start(run_id, sys.executable, "-c", busy)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    Remains(run_id, own_start(), [], grace_seconds=20).end()
    assert parent.stdout.read() == "asked\n"


def own_start() -> int:
    return int(stat_fields(os.getpid())[19])


def alive(pid: int) -> bool:
    try:
        return stat_fields(pid)[0] not in b"ZX"
    except OSError:
        return False
