"""In the company of pytest-benchmark, pytest-rerunfailures, subtests, programs that a test starts, and -x.

unittest, doctest, xdist and pytester are in test_pytest_toolkit, pytest-forked and pytest-asyncio in tests/e2e.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.usefixtures("only_this_plugin")


BENCHMARKS = """
kept = []
def test_clean(benchmark): benchmark.pedantic(lambda: len(b"1" * (30 << 20)), rounds=3)
def test_kept(benchmark): benchmark.pedantic(lambda: kept.append(b"1" * (2 << 20)), rounds=10)
"""


def test_benchmarks_carry_their_memory(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_amm.plugin,pytest_benchmark.plugin")
    pytester.makepyfile(BENCHMARKS)
    result = pytester.runpytest_subprocess("--amm-peaks", "--benchmark-json=b.json")
    assert result.ret == 0
    found = json.loads((pytester.path / "b.json").read_text())["benchmarks"]
    clean, kept = sorted(((each["name"], each["extra_info"]) for each in found), key=lambda pair: pair[0])
    assert 29 << 20 < clean[1]["amm_growth_bytes"] < 40 << 20
    assert clean[1]["amm_peak_bytes"] > clean[1]["amm_growth_bytes"]
    assert abs(clean[1]["amm_kept_per_round_bytes"]) < 1 << 20
    assert kept[1]["amm_kept_bytes"] > 19 << 20
    assert 1.9 * (1 << 20) < kept[1]["amm_kept_per_round_bytes"] < 2.5 * (1 << 20)
    result.stdout.fnmatch_lines(
        [
            "Name (time in*",  # below pytest-benchmark's own table
            "benchmark memory (growth: the most that a round needed at one time)",
            "* peak * growth * kept * kept/round * rounds  name",
            "* MiB * MiB *B * 3  test_clean",
            "* MiB * MiB * MiB * MiB * 10  test_kept",
        ]
    )


def test_benchmarks_that_are_disabled_have_no_rounds(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_amm.plugin,pytest_benchmark.plugin")
    pytester.makepyfile(BENCHMARKS)
    result = pytester.runpytest_subprocess("--amm-peaks", "--benchmark-disable")
    assert result.parseoutcomes() == {"passed": 2}
    result.stdout.no_fnmatch_line("*benchmark memory*")


def test_a_budget_holds_inside_a_benchmark(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_amm.plugin,pytest_benchmark.plugin")
    over = "def test_over(benchmark): benchmark.pedantic(lambda: bytearray(30 << 20), rounds=3)\n"
    pytester.makepyfile(over + "def test_after(benchmark): benchmark(len, 'x')")
    result = pytester.runpytest_subprocess("--amm-test-budget=8MB", "--benchmark-json=b.json")
    assert (result.ret, result.parseoutcomes()) == (pytest.ExitCode.TESTS_FAILED, {"passed": 1, "failed": 1})
    found = json.loads((pytester.path / "b.json").read_text())["benchmarks"]
    assert [each["name"] for each in found] == ["test_after"]  # one that was stopped may have no round to save


def test_a_rerun_is_judged_anew(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_amm.plugin,pytest_rerunfailures")
    pytester.makepyfile(
        """
        import os
        def test_it():
            if not os.path.exists("ran"):
                open("ran", "w").close()
                x = [b"1" * (1 << 20) for _ in range(60)]
        """
    )
    result = pytester.runpytest_subprocess("--amm-test-budget=16MB", "--reruns=1", "--amm-json=r.json")
    assert result.parseoutcomes() == {"passed": 1, "rerun": 1}
    runs = json.loads((pytester.path / "r.json").read_text())["tests"]
    assert [run["outcome"] for run in runs] == ["rerun", "passed"]
    assert ["over 16 MiB" in run["message"] for run in runs] == [True, False]


REPLACED = """
import pytest
from unittest import mock

@pytest.fixture(scope="module", autouse=True)
def broken():
    with mock.patch("{name}", side_effect=RuntimeError): yield

def test_one(): pass
def test_two(): pass
"""


@pytest.mark.parametrize("name", ["time.perf_counter", "time.monotonic", "os.pwrite", "builtins.open"])
def test_what_a_wider_fixture_replaces_is_not_used_between_tests(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_amm.plugin")
    pytester.makepyfile(REPLACED.replace("{name}", name))
    result = pytester.runpytest_subprocess("--amm-test-budget=64MB", "--amm-hard", "--amm-json=r.json")
    assert (result.ret, result.parseoutcomes()) == (0, {"passed": 2})


RERUNS = """
import pytest

class AsBefore16:
    def pytest_runtest_protocol(self, item, nextitem):
        from _pytest.runner import runtestprotocol

        for attempt in range(2):
            for report in runtestprotocol(item, nextitem=nextitem, log=False):
                if report.failed and attempt == 0:
                    report.outcome = "rerun"
                    item.ihook.pytest_runtest_logreport(report=report)
                    break
                item.ihook.pytest_runtest_logreport(report=report)
            else:
                break
        return True

def pytest_configure(config):
    config.pluginmanager.register(AsBefore16())
"""


def test_a_rerun_of_which_no_teardown_is_told_has_its_record(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does pytest-rerunfailures before 16.2, the newest for pytest 7."""
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_amm.plugin")
    pytester.makeconftest(RERUNS)
    pytester.makepyfile(
        """
        ran = []
        def test_it():
            ran.append(1)
            assert not [b"1" * (1 << 20) for _ in range(60)] or len(ran) > 1
        """
    )
    pytester.runpytest_subprocess("--amm-test-budget=16MB", "--amm-on-breach=fail", "--amm-json=r.json")
    runs = json.loads((pytester.path / "r.json").read_text())["tests"]
    assert [run["outcome"] for run in runs] == ["rerun", "failed"]
    assert ["assert not" in run["message"] for run in runs] == [True, False]
    assert all(run["breach"] for run in runs)


def test_subtests_share_the_budget_of_their_test(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_amm.plugin")
    pytester.makepyfile(
        test_it="""
        def test_parts(subtests):
            kept = []
            for number in range(4):
                with subtests.test(number=number):
                    kept.append(b"1" * (10 << 20))
                    assert number != 1
        def test_after(subtests):
            with subtests.test("small"): pass
        """
    )
    result = pytester.runpytest_subprocess("--amm-test-budget=30MB", "--amm-on-breach=fail", "--amm-json=r.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    parts, after = json.loads((pytester.path / "r.json").read_text())["tests"]
    assert 39 << 20 < parts["growth_bytes"] < 46 << 20
    assert (parts["breach"]["scope"], after["breach"]) == ("test", None)
    result.stdout.fnmatch_lines(["*assert 1 != 1*"])


def test_a_program_that_a_test_starts_is_counted(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_amm.plugin")
    pytester.makepyfile(
        test_it="""
        import subprocess, sys
        def test_it():
            program = "import time; x = b'1' * (60 << 20); time.sleep(0.05)"
            subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True)
        """
    )
    pytester.runpytest_subprocess("--amm-json=r.json").assert_outcomes(passed=1)
    (test,) = json.loads((pytester.path / "r.json").read_text())["tests"]
    assert 60 << 20 < max(phase["children_bytes"] for phase in test["phases"]) < 80 << 20
    assert test["growth_bytes"] > 55 << 20


def test_first_failure_ends_the_run_with_x(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_amm.plugin")
    pytester.makepyfile("def test_it(): bytearray(60 << 20)\ndef test_never(): pass")
    result = pytester.runpytest_subprocess("--amm-test-budget=16MB", "-x")
    assert result.parseoutcomes() == {"failed": 1}


def test_no_child_of_ours_is_met_by_tests_that_look_for_theirs(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_amm.plugin")
    pytester.makepyfile(
        """
        import os, pathlib, pytest, threading
        def test_children():
            pid = os.getpid()
            assert pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text() == ""
            with pytest.raises(ChildProcessError):
                os.wait()
            assert threading.active_count() == 1
        """
    )
    assert pytester.runpytest_subprocess("--amm-budget=1GB").parseoutcomes() == {"passed": 1}


STATE = """
import os, resource, signal, pytest

def state():
    handlers = [signal.getsignal(number) for number in sorted(signal.valid_signals())]
    limits = [resource.getrlimit(which) for which in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    return len(os.listdir("/proc/self/fd")), handlers, limits

pytest.main(["-q", "-p", "no:cacheprovider", "inner.py"])
before = state()
options = ["-p", "pytest_amm.plugin", "--amm-budget=1GB", "--amm-hard", "--amm-json=r.json"]
assert pytest.main(["-q", "-p", "no:cacheprovider", *options, "inner.py"]) == 0
assert state() == before, (before, state())
"""


def test_a_run_gives_back_descriptors_handlers_and_limits(tmp_path: Path) -> None:
    (tmp_path / "inner.py").write_text("def test_inner(): pass")
    result = subprocess.run([sys.executable, "-c", STATE], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_what_the_caller_of_pytest_had_started_is_never_ended(tmp_path: Path) -> None:
    """Not when it grows most, nor when the run is killed; what conftest.py starts is."""
    (tmp_path / "conftest.py").write_text(
        "import subprocess\n"
        "ours = subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL)\n"
        "print('ours', ours.pid, flush=True)\n"
    )
    (tmp_path / "test_it.py").write_text(
        "import os, time\n"
        "def test_fill(): open('fill', 'w').close(); time.sleep(20)\n"
        "def test_dies(): os.kill(os.getpid(), 9)\n"
    )
    server = (
        "import os, time\nwhile not os.path.exists('fill'): time.sleep(0.01)\nx = b'1' * (150 << 20)\ntime.sleep(60)"
    )
    caller = (
        "import pytest, subprocess, sys\n"
        f"theirs = subprocess.Popen([sys.executable, '-c', {server!r}], stdout=subprocess.DEVNULL)\n"
        "print('theirs', theirs.pid, flush=True)\n"
        "quiet = ['--amm-emergency=off', '--amm-emergency-stall=off', '-p', 'no:cacheprovider']\n"
        "pytest.main(['-s', '-v', '--amm-test-budget=100MB', *quiet])\n"
    )
    with (tmp_path / "errors").open("w") as errors:
        command = [sys.executable, "-c", caller]
        told = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=errors, text=True).stdout
    pids = dict(line.split() for line in told.splitlines() if line.startswith(("ours ", "theirs ")))
    try:
        assert "test_fill FAILED" in told
        assert "test_dies" in told
        deadline = time.monotonic() + 20
        while runs(pids["ours"]):
            assert time.monotonic() < deadline, (tmp_path / "errors").read_text()
            time.sleep(0.02)
        assert runs(pids["theirs"])
    finally:
        os.kill(int(pids["theirs"]), 9)


def runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
