"""Stopping a runaway: each layer of the ladder in a real run, with a test after it that must pass."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_amm.remains import VARIABLE

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.usefixtures("only_this_plugin")

HEAD = """
import multiprocessing, os, signal, subprocess, sys, threading, time
import pytest

STEPS = "x = []\\nfor _ in range(200): x.append(b'1' * (10 << 20))"
"""
AFTER = """

def test_after():
    resource = __import__("resource")
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == -1
    mmap = __import__("mmap")
    mmap.mmap(-1, 100 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()  # no limit is left lowered
"""
DAEMON = """
import os, subprocess, sys, time
import pytest

def daemon(*command, env=os.environ):
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writing, str(os.getpid()).encode())
            if command:
                os.execvpe(command[0], command, env)
            time.sleep(60)
        os._exit(0)
    os.wait()
    return os.read(reading, 20).decode()

"""


def report(pytester: pytest.Pytester, code: str, *arguments: str) -> dict[str, dict[str, object]]:
    """Run the code as one test file; the JSON records by test name."""
    pytester.makepyfile(test_it=HEAD + code + AFTER)
    target = pytester.path / "report.json"
    pytester.runpytest_subprocess("--amm-budget=200MB", f"--amm-json={target}", *arguments)
    return {test["nodeid"].rpartition("::")[2]: test for test in json.loads(target.read_text())["tests"]}


@pytest.mark.parametrize(
    "body",
    [
        "exec(STEPS)",
        "list(range(50_000_000))",
        "t = threading.Thread(target=exec, args=(STEPS, {})); t.start(); t.join()",
        "subprocess.run([sys.executable, '-c', STEPS])",
        "subprocess.run([sys.executable, '-c', 'import subprocess, sys; subprocess.run([sys.executable, \"-c\", '"
        " + repr(STEPS) + '])'])",
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); exec(STEPS)",
        "with multiprocessing.get_context('fork').Pool(2) as pool: pool.apply(exec, (STEPS, {}))",
    ],
    ids=["steps", "C loop", "thread", "child", "grandchild", "signals blocked", "pool"],
)
def test_a_runaway_is_stopped_and_the_session_goes_on(pytester: pytest.Pytester, body: str) -> None:
    tests = report(pytester, f"def test_it():\n    {body}\n")
    breach = tests["test_it"]["breach"]
    assert tests["test_it"]["outcome"] == "failed"
    assert isinstance(breach, dict)
    assert breach["stopped"]
    assert breach["peak_bytes"] < 260 << 20
    assert tests["test_after"]["outcome"] == "passed"
    kept = tests["test_it"]["kept_bytes"]
    assert isinstance(kept, int)
    assert kept < 8 << 20


def test_a_thread_that_the_lowered_limit_ends_is_neither_told_of_nor_kept(pytester: pytest.Pytester) -> None:
    """pytest would keep the MemoryError with all the thread's variables, and fail where it has no memory for it."""
    code = """
def test_it():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # only the limit ends it
    thread = threading.Thread(target=exec, args=(STEPS, {}))
    thread.start()
    thread.join()
"""
    pytester.makepyfile(test_it=HEAD + code + AFTER)
    result = pytester.runpytest_subprocess("--amm-budget=200MB", "-W", "error")
    result.assert_outcomes(failed=1, passed=1)
    assert "MemoryError" not in result.stdout.str()


CLOSURES = {
    "lambda": "sorted(range(1000), key=lambda number: x.append(grown()) or number)",
    "nested function": """
    def fill():
        while True:
            x.append(grown())
    fill()
""",
    "cause": """
    def fill():
        try:
            while True:
                x.append(grown())
        except BaseException as error:
            raise ValueError("in other words") from error
    fill()
""",
}


@pytest.mark.parametrize("filling", CLOSURES.values(), ids=CLOSURES)
def test_what_a_stopped_test_has_in_a_closure_is_given_back(pytester: pytest.Pytester, filling: str) -> None:
    """Also where others keep the error: pytest-rerunfailures does, where it is installed."""
    tests = report(pytester, f"def grown(): return b'1' * (10 << 20)\n\ndef test_it():\n    x = []\n    {filling}\n")
    kept = tests["test_it"]["kept_bytes"]
    assert isinstance(kept, int)
    assert kept < 8 << 20


def test_a_giant_call_in_a_thread_is_killed_also_when_its_test_has_ended(pytester: pytest.Pytester) -> None:
    code = """
import ctypes, mmap

def test_it():
    pages = mmap.mmap(-1, 1200 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    first = ctypes.c_char.from_buffer(pages)
    threading.Thread(target=lambda: ctypes.memset(ctypes.byref(first), 1, 1200 << 20)).start()
    time.sleep(60)
"""
    report(pytester, code)
    (test,) = wait_for_report(pytester.path / "report.json", count=1)
    breach = test["breach"]
    assert isinstance(breach, dict)
    assert (test["outcome"], breach["phase"]) == ("killed", "call")
    assert breach["peak_bytes"] < 400 << 20


def test_the_failure_shows_what_the_test_was_doing_and_what_it_had(pytester: pytest.Pytester) -> None:
    code = """
def fill():
    exec(STEPS)

def test_it():
    fill()

def test_child():
    subprocess.run([sys.executable, '-c', STEPS])
"""
    pytester.makepyfile(test_it=HEAD + code)
    command = ["-X", "tracemalloc", "-m", "pytest", "--amm-budget=200MB"]
    result = pytester.run(sys.executable, *command)
    result.stdout.re_match_lines(
        [
            r"  stack    <module> \(<string>:2\) < fill \(test_it.py:\d+\) < test_it \(test_it.py:\d+\)",
            r"  mapped   1[0-9]{2}[\d.]* MiB anonymous memory, \d+ mappings",
            r"  held     1[0-9]{2}[\d.]* MiB <string>:2 \(tracemalloc\)",
            r"  next     see all that it takes: pytest 'test_it.py::test_it' --amm-peaks",
            r"  child    1[0-9]{2}[\d.]* MiB python[\d.]* \(pid \d+\)",
        ]
    )


def test_c_code_that_does_not_answer_is_told_by_the_watchdog(pytester: pytest.Pytester) -> None:
    tests = report(pytester, "def test_it():\n    list(range(50_000_000))\n")
    message = str(tests["test_it"]["message"])
    assert "  stack    test_it (test_it.py:" in message
    assert "  mapped   " in message


def test_a_method_of_unittest_is_interrupted_like_a_function(pytester: pytest.Pytester) -> None:
    """Not only refused memory: one that swallows MemoryError or only waits would go on."""
    body = "x = b'1' * (210 << 20); time.sleep(30)"
    code = f"import unittest\nclass TestIt(unittest.TestCase):\n    def test_it(self): {body}\n"
    message = str(report(pytester, code)["test_it"]["message"])
    assert "OverBudget: stopped: the process tree reached" in message


def test_a_runaway_in_a_fixture_is_an_error_of_its_setup(pytester: pytest.Pytester) -> None:
    tests = report(pytester, "@pytest.fixture\ndef big(): exec(STEPS)\ndef test_it(big): pass\n")
    breach = tests["test_it"]["breach"]
    assert isinstance(breach, dict)
    assert breach["phase"] == "setup"
    assert tests["test_after"]["outcome"] == "passed"


def test_what_waits_over_its_budget_is_interrupted_whoever_called_it(pytester: pytest.Pytester) -> None:
    """By a plugin that runs coroutines, as a finalizer, in a hook: else it would be killed, and the run with it."""
    pytester.makeconftest(
        """
        import time

        def waits():
            x = b"1" * (210 << 20)
            time.sleep(30)

        def pytest_pyfunc_call(pyfuncitem):
            if pyfuncitem.name == "test_coroutine":
                pyfuncitem.obj().send(None)
                return True

        def pytest_runtest_setup(item):
            if item.name == "test_hook":
                waits()
        """
    )
    code = """
from conftest import waits
async def test_coroutine(): waits()
def test_finalizer(request): request.addfinalizer(waits)
def test_hook(): pass
"""
    tests = report(pytester, code)
    outcomes = {name: (test["outcome"], test["breach"]["phase"]) for name, test in tests.items() if test["breach"]}
    assert outcomes == {
        "test_coroutine": ("failed", "call"),
        "test_finalizer": ("failed", "teardown"),
        "test_hook": ("failed", "setup"),
    }
    assert tests["test_after"]["outcome"] == "passed"
    assert max(test["kept_bytes"] for test in tests.values()) < 8 << 20
    assert tests["test_hook"]["phases"][-1]["peak_bytes"] < 100 << 20  # its teardown begins with what is left


def test_a_test_file_that_runs_away_when_it_is_imported_is_an_error_of_its_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_big=HEAD + "exec(STEPS)\ndef test_big(): pass\n")
    tests = report(pytester, "", "--continue-on-collection-errors")
    assert list(tests) == ["test_after"]
    assert tests["test_after"]["outcome"] == "passed"
    result = pytester.runpytest_subprocess("--amm-budget=200MB")
    result.stdout.fnmatch_lines(["peak 2* MiB in collection, * over 200 MiB", "  where * collection of test_big.py"])
    assert result.ret == pytest.ExitCode.INTERRUPTED


def test_a_test_may_change_its_process_and_the_next_ones_are_stopped_and_told(pytester: pytest.Pytester) -> None:
    code = """
def test_open(monkeypatch):
    monkeypatch.setattr("builtins.open", None)
    monkeypatch.setattr("time.monotonic", lambda: 0.0)
    exec(STEPS)
def test_signals():
    for number in {*range(1, 65)} - {signal.SIGKILL, signal.SIGSTOP, 32, 33}:
        signal.signal(number, signal.SIG_DFL)
    exec(STEPS)
def test_handler_is_back():
    x = b'1' * (210 << 20)
    time.sleep(30)
def test_closes(): os.closerange(3, 4096)
def test_it(): exec(STEPS)
"""
    tests = report(pytester, code, "-s")
    stopped = [name for name, test in tests.items() if test["breach"]]
    assert stopped == ["test_open", "test_signals", "test_handler_is_back", "test_it"]
    assert tests["test_closes"]["outcome"] == tests["test_after"]["outcome"] == "passed"


def test_swallowing_what_stops_it_does_not_help(pytester: pytest.Pytester) -> None:
    code = """
def test_it():
    x = []
    for _ in range(400):
        try:
            x.append(b'1' * (10 << 20))
        except MemoryError:
            pass
"""
    tests = report(pytester, code)
    assert tests["test_it"]["outcome"] == "failed"
    assert tests["test_after"]["outcome"] == "passed"


def test_hard_refuses_a_giant_allocation_at_its_line(pytester: pytest.Pytester) -> None:
    tests = report(pytester, "def test_it():\n    b'1' * (2000 << 20)\n", "--amm-hard")
    breach = tests["test_it"]["breach"]
    assert isinstance(breach, dict)
    assert breach["refused"]
    assert isinstance(tests["test_it"]["peak_bytes"], int)
    assert tests["test_it"]["peak_bytes"] < 200 << 20
    assert "MemoryError" in str(tests["test_it"]["message"])
    assert tests["test_after"]["outcome"] == "passed"


@pytest.mark.parametrize("big", ["b'1' * (2000 << 20)", "numpy.ones(2000 << 17)"])
def test_hard_fails_a_test_that_catches_the_refusal_and_goes_on(pytester: pytest.Pytester, big: str) -> None:
    code = f"""
import numpy

def test_it():
    try:
        {big}
    except MemoryError:
        pass

def test_own_error():
    with pytest.raises(MemoryError):
        raise MemoryError("simulated")
"""
    tests = report(pytester, code, "--amm-hard")
    breach = tests["test_it"]["breach"]
    assert isinstance(breach, dict)
    assert breach["refused"]
    assert tests["test_it"]["outcome"] == "failed"
    assert "refused at " in str(tests["test_it"]["message"])
    assert tests["test_own_error"]["outcome"] == "passed"
    assert tests["test_after"]["outcome"] == "passed"


def test_signals_that_come_late_together_do_no_harm(pytester: pytest.Pytester) -> None:
    """As to a process that got no CPU for a while: handlers that nest would overrun their stack."""
    code = """
def test_it():
    from pytest_amm.board import DUMP_SIGNAL, SIGNAL

    signal.pthread_sigmask(signal.SIG_BLOCK, [SIGNAL, DUMP_SIGNAL])
    for number in 16 * [SIGNAL, DUMP_SIGNAL]:
        os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [SIGNAL, DUMP_SIGNAL])
"""
    tests = report(pytester, code)
    assert [test["outcome"] for test in tests.values()] == ["passed", "passed"]


def test_an_isolated_giant_costs_its_own_test_only(pytester: pytest.Pytester) -> None:
    code = "@pytest.mark.amm_isolate\ndef test_it():\n    b'1' * (2000 << 20)\n"
    tests = report(pytester, code)
    assert tests["test_it"]["outcome"] == "failed"
    assert tests["test_after"]["outcome"] == "passed"


def test_isolated_tests_report_output_outcome_and_fixtures_as_others(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import os, pytest
        made = []

        @pytest.fixture(scope="module")
        def shared():
            made.append(os.getpid())
            yield made
            assert made[0] == os.getpid()

        def test_first(shared): assert shared == [os.getpid()]

        @pytest.mark.amm_isolate
        def test_isolated(shared):
            assert shared[0] == os.getppid()
            print("from the child")
            assert 0

        @pytest.mark.amm_isolate
        def test_skipped(): pytest.skip("because")

        def test_last(shared): assert shared == [os.getpid()]
        """
    )
    result = pytester.runpytest_subprocess("-rs")
    assert result.parseoutcomes() == {"passed": 2, "failed": 1, "skipped": 1}
    result.stdout.fnmatch_lines(["from the child", "SKIPPED*because"])


def test_a_giant_in_an_xdist_worker_costs_the_worker_only(pytester: pytest.Pytester) -> None:
    tests = report(pytester, "def test_it():\n    b'1' * (2000 << 20)\n", "-n1", "--junitxml=junit.xml")
    breach = tests["test_it"]["breach"]
    assert isinstance(breach, dict)
    assert breach["peak_bytes"] < 300 << 20
    phase: dict[str, int] = tests["test_it"]["phases"][0]  # type: ignore[index]
    assert 20 << 20 < phase["start_bytes"] < phase["peak_bytes"] < breach["peak_bytes"] - (10 << 20)  # the controller's
    assert (tests["test_it"]["worker"], tests["test_it"]["kept_bytes"]) == ("gw0", 0)
    assert 0 < float(str(tests["test_it"]["seconds"])) < float(str(tests["test_after"]["start_seconds"]))
    assert f'name="amm_peak_bytes" value="{phase["peak_bytes"]}"' in (pytester.path / "junit.xml").read_text()
    assert "  stack    test_it (test_it.py:" in str(tests["test_it"]["message"])
    assert tests["test_after"]["outcome"] == "passed"


@pytest.mark.parametrize(
    "body",
    ["exec(STEPS)", "list(range(20_000_000))", "b'1' * (700 << 20)", "x = b'1' * (90 << 20)"],
    ids=["steps", "C loop", "one giant call", "a little over"],
)
def test_a_test_over_its_own_budget_alone_fails_and_never_costs_the_session(
    pytester: pytest.Pytester, body: str
) -> None:
    """A giant call of its own cannot be interrupted: it ends by itself, and the test fails then.

    The stop comes when the next call has ended; one long sleep after the giant call would be slept out before.
    """
    wait = "for _ in range(100): time.sleep(0.05)"
    pytester.makepyfile(
        test_it=HEAD + f"def test_it():\n    {body}\n    {wait}\n    open('ended', 'w').close()\n" + AFTER
    )
    result = pytester.runpytest_subprocess("--amm-test-budget=64MB", "--amm-json=report.json")
    assert result.ret == 1
    tests = {test["nodeid"]: test for test in json.loads((pytester.path / "report.json").read_text())["tests"]}
    breach = tests["test_it.py::test_it"]["breach"]
    assert breach["scope"] == "test"
    assert breach["stopped"]
    assert not (pytester.path / "ended").exists()
    assert tests["test_it.py::test_after"]["outcome"] == "passed"


def test_a_marker_alone_stops_its_test(pytester: pytest.Pytester) -> None:
    code = "@pytest.mark.amm_budget('32MB')\ndef test_it():\n    exec(STEPS)\n    open('ended', 'w').close()\n"
    pytester.makepyfile(test_it=HEAD + code + AFTER)
    result = pytester.runpytest_subprocess()
    assert result.parseoutcomes() == {"failed": 1, "passed": 1}
    assert not (pytester.path / "ended").exists()


def test_a_giant_without_a_way_out_ends_the_run_with_complete_reports(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it="def test_fine(): pass\n\ndef test_it():\n    b'1' * (2000 << 20)\n")
    result = pytester.runpytest_subprocess(
        "--amm-budget=200MB", "--amm-json=report.json", "--junitxml=junit.xml", "-p", "no:cacheprovider"
    )
    assert result.ret == -signal.SIGKILL
    tests = {test["nodeid"]: test for test in wait_for_report(pytester.path / "report.json", count=2)}
    assert tests["test_it.py::test_fine"]["outcome"] == "passed"
    assert tests["test_it.py::test_it"]["outcome"] == "killed"
    wait_until((pytester.path / "junit.xml").exists)
    cases = {case.get("name"): case for case in ET.parse(pytester.path / "junit.xml").iter("testcase")}
    assert cases["test_fine"].find("failure") is None
    failure = cases["test_it"].find("failure")
    assert failure is not None
    assert "the budget is 200 MiB" in str(failure.get("message"))


@pytest.mark.parametrize(
    "workers",
    [(), ("-n2",), ("--amm-isolate",), ("-n2", "--amm-isolate")],
    ids=["alone", "xdist", "isolated", "isolated in xdist"],
)
def test_kill_9_leaves_a_readable_report_and_no_process(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    """Daemons left the tree before the watchdog saw them there, as copies of the run and as programs of their own: with
    an empty environment too, and while conftest.py was imported, when there was no watchdog yet."""
    pytester.makeconftest(DAEMON + "open('early', 'a').write(f\"{daemon()} {daemon('sleep', '60', env={})} \")")
    pytester.makepyfile(
        test_it=DAEMON
        + """
SLEEPS = "import time; time.sleep(60)"
STARTS = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {SLEEPS!r}]); print(p.pid)"
def test_fine(): pass
def test_long():
    daemons = f"{daemon()} {daemon('sleep', '60')} {daemon('sleep', '60', env={})}"
    command = [sys.executable, "-uc", f"{STARTS}; p.wait()"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    grandchild = child.stdout.readline().strip()
    open("pids", "w").write(f"{daemons} {grandchild} {child.pid} {os.getpid()}")
    time.sleep(60)
"""
    )
    command = [sys.executable, "-m", "pytest", "--amm-budget=2GB", "--amm-json=report.json", "test_it.py", *workers]
    process = subprocess.Popen(command, cwd=pytester.path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pids = pytester.path / "pids"
    wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 6)
    wait_for_report(pytester.path / "report.json", count=1)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        process.kill()
        process.wait()
        tests = wait_for_report(pytester.path / "report.json", count=2)
        assert [test["outcome"] for test in tests] == ["passed", "killed"]
        started = [*pids.read_text().split(), *(pytester.path / "early").read_text().split()]
        assert len(started) >= 8
        wait_until(lambda: not any(alive(int(pid)) for pid in started))
        wait_until(lambda: not watchdogs_of(process.pid))
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize(
    ("marker", "arguments"),
    [("", ("--amm-budget=2GB",)), ("@pytest.mark.amm_budget('1GB')", ("-n1",))],
    ids=["by an option", "by a marker in xdist"],
)
def test_an_orderly_end_leaves_daemons_alone(
    pytester: pytest.Pytester, marker: str, arguments: tuple[str, ...]
) -> None:
    body = "open('pids', 'w').write(f'{daemon(\"sleep\", \"60\")} {os.getpid()}')"
    pytester.makepyfile(test_it=f"{DAEMON}{marker}\ndef test_it():\n    {body}\n")
    result = pytester.runpytest_subprocess(*arguments)
    daemon, watched = map(int, (pytester.path / "pids").read_text().split())
    result.assert_outcomes(passed=1)
    wait_until(lambda: not watchdogs_of(watched))
    assert alive(daemon)
    os.kill(daemon, signal.SIGKILL)
    assert "killed" not in result.stderr.str()


def test_a_run_inside_adds_its_id_to_the_environment_and_takes_it_away(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "around")
    pytester.makepyfile(f"import os\ndef test_it(): assert os.environ['{VARIABLE}'].partition(':')[2] == 'around'")
    assert pytester.runpytest_inprocess("--amm-budget=2GB").parseoutcomes() == {"passed": 1}
    assert os.environ[VARIABLE] == "around"


def test_no_watchdog_outlives_an_orderly_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    command = [sys.executable, "-m", "pytest", "--amm-budget=2GB"]
    process = subprocess.Popen(command, cwd=pytester.path, stdout=subprocess.DEVNULL)
    assert process.wait() == 0
    assert not watchdogs_of(process.pid)


@pytest.mark.parametrize("mode", ["fail", "warn"])
def test_without_stop_nothing_is_interrupted(pytester: pytest.Pytester, mode: str) -> None:
    code = "def test_it():\n    x = [b'1' * (10 << 20) for _ in range(40)]\n    open('ended', 'w').close()\n"
    tests = report(pytester, code, f"--amm-on-breach={mode}")
    assert (pytester.path / "ended").exists()
    breach = tests["test_it"]["breach"]
    assert isinstance(breach, dict)
    assert not breach["stopped"]


def test_children_are_in_the_peak(pytester: pytest.Pytester) -> None:
    code = "def test_it(): subprocess.run([sys.executable, '-c', 'x = b\"1\" * (80 << 20)'])\n"
    tests = report(pytester, code)
    phase = next(phase for phase in tests["test_it"]["phases"] if phase["name"] == "call")  # type: ignore[attr-defined]
    assert 80 << 20 < phase["children_bytes"] < 110 << 20
    assert phase["tree_peak_bytes"] >= phase["children_bytes"] + phase["start_bytes"] - (1 << 20)


def wait_for_report(path: Path, count: int) -> list[dict[str, object]]:
    """The watchdog writes it after pytest has gone."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        tests: list[dict[str, object]] = json.loads(path.read_text())["tests"]
        if len(tests) >= count:
            time.sleep(0.2)
            return tests
        time.sleep(0.05)
    raise AssertionError(f"no {count} tests in {path.read_text()}")


def wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def watchdogs_of(pid: int) -> list[int]:
    """Watchdogs of the run with this pid that are still there after half a second."""
    time.sleep(0.5)
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(b"pytest_amm.watchdog" in word for word in words) and str(pid).encode() in words:
                found.append(int(entry.name))
    return found
