"""Tests in forked children: what the watchdog did about one is not told of the next, which has the same slot."""

from __future__ import annotations

import json
import sys

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.usefixtures("only_this_plugin")

SUITE = """
import subprocess, sys

def test_before(): pass

def test_child():
    subprocess.run([sys.executable, "-c", "x = []\\nwhile True: x.append(b'1' * (10 << 20))"])

def test_after(): pass

def test_small_child():
    subprocess.run([sys.executable, "-c", "x = b'1' * (20 << 20)"], check=True)
"""


def test_a_stop_is_told_of_its_own_test_only(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=SUITE)
    result = pytester.runpytest_subprocess("--amm-budget=200MB", "--amm-isolate", "--amm-json=report.json")
    assert result.parseoutcomes() == {"passed": 3, "failed": 1}
    tests = json.loads((pytester.path / "report.json").read_text())["tests"]
    assert [test["nodeid"].partition("::")[2] for test in tests if test["breach"]] == ["test_child"]
    after = next(test for test in tests if test["nodeid"].endswith("test_after"))
    assert after["phases"][1]["children_bytes"] == 0


@pytest.mark.parametrize("option", ["--amm-hard", "--amm-isolate"])
def test_who_catches_each_refusal_and_goes_on_is_ended(pytester: pytest.Pytester, option: str) -> None:
    """It never grows beyond its budget, so that nobody else would."""
    pytester.makepyfile(
        test_it="""
        def test_goes_on():
            kept = []
            while True:
                try:
                    kept.append(b"1" * (20 << 20))
                except MemoryError:
                    pass

        def test_after(): pass
        """
    )
    result = pytester.runpytest_subprocess("--amm-budget=200MB", option, "--amm-json=report.json", timeout=60)
    assert result.parseoutcomes() == {"passed": 1, "failed": 1}
    first = json.loads((pytester.path / "report.json").read_text())["tests"][0]
    assert first["breach"]["refused"]


def test_an_absurd_allocation_is_its_tests_breach_without_hard_limits(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it="""
        import pytest

        def test_absurd(): bytearray(100 << 30)

        def test_own_error(): raise MemoryError("simulated")

        def test_expected():
            with pytest.raises(MemoryError):
                bytearray(100 << 30)
        """
    )
    result = pytester.runpytest_subprocess("--amm-budget=200MB", "--amm-json=report.json")
    assert result.parseoutcomes() == {"passed": 1, "failed": 2}
    tests = json.loads((pytester.path / "report.json").read_text())["tests"]
    refused = [test["nodeid"].partition("::")[2] for test in tests if test["breach"] and test["breach"]["refused"]]
    assert refused == ["test_absurd"]


def test_a_python_without_memory_files_holds_budgets_and_isolates(pytester: pytest.Pytester) -> None:
    """As uv's and conda's: they are built against an old glibc."""
    pytester.makeconftest("import os; vars(os).pop('memfd_create', None)")
    pytester.makepyfile(
        test_it="""
        import pytest

        def test_grows(): x = [b"1" * (10 << 20) for _ in range(1000)]

        @pytest.mark.amm_isolate
        def test_apart(): pass
        """
    )
    result = pytester.runpytest_subprocess("-p", "conftest", "--amm-budget=200MB")
    assert result.parseoutcomes() == {"passed": 1, "failed": 1}
    result.stdout.fnmatch_lines(["*stopped: the process tree reached*"])


SWALLOWED = """
import contextlib, pytest, threading

def swallow():
    with contextlib.suppress(MemoryError):
        bytearray(2000 << 20)

def test_swallowed(): swallow()

def test_by_a_thread():
    thread = threading.Thread(target=swallow)
    thread.start()
    thread.join()

def test_own_error():
    with pytest.raises(MemoryError):
        raise MemoryError("simulated")

@pytest.mark.amm_budget("64MB")
def test_fits(): bytearray(10 << 20)
"""


def test_a_swallowed_refusal_fails_its_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=SWALLOWED)
    result = pytester.runpytest_subprocess("--amm-budget=200MB", "--amm-isolate", "--amm-json=report.json")
    assert result.parseoutcomes() == {"passed": 2, "failed": 2}
    tests = json.loads((pytester.path / "report.json").read_text())["tests"]
    refused = [test["nodeid"].partition("::")[2] for test in tests if test["breach"] and test["breach"]["refused"]]
    assert refused == ["test_swallowed", "test_by_a_thread"]
    result.stdout.fnmatch_lines(2 * ["*refused at *test_it.py:5, whether or not the MemoryError was caught*"])


def test_where_another_tracer_hides_refusals_the_end_says_so(pytester: pytest.Pytester) -> None:
    """As coverage and debuggers do; from Python 3.12 on nobody's tracer is in the way."""
    pytester.makepyfile(test_it=SWALLOWED)
    pytester.makeconftest("import sys, threading\nsys.settrace(lambda *_: None)\nthreading.settrace(sys.gettrace())\n")
    result = pytester.runpytest_subprocess("--amm-budget=200MB", "--amm-isolate")
    hidden = "a caught MemoryError was not looked for: a debugger or coverage traces calls, before Python 3.12"
    if sys.version_info >= (3, 12):
        assert result.parseoutcomes() == {"passed": 2, "failed": 2}
        result.stdout.no_fnmatch_line(f"*{hidden}*")
    else:
        assert result.parseoutcomes() == {"passed": 4}
        result.stdout.fnmatch_lines([hidden])


EXITS = """
import pytest

@pytest.fixture
def tidy():
    yield
    print("was torn down")

def test_before(): pass

def test_exits(tidy): {}

def test_after(): pass
"""


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("pytest.exit('enough', returncode=9)", 9, "*Exit: enough*"),
        ("raise KeyboardInterrupt", 2, "*KeyboardInterrupt*"),
    ],
)
def test_who_ends_the_session_ends_it_from_an_isolated_test_too(
    pytester: pytest.Pytester, how: str, code: int, said: str
) -> None:
    pytester.makepyfile(test_it=EXITS.format(how))
    result = pytester.runpytest_subprocess("--amm-budget=200MB", "--amm-isolate", "-s")
    assert (result.ret, result.parseoutcomes()) == (code, {"passed": 1})
    result.stdout.fnmatch_lines(["*was torn down*", said])


WARNS = """
import os, warnings

class Own(UserWarning):
    def __init__(self, one, two): super().__init__(f"{one} and {two}")

def test_warns():
    class Local(UserWarning): pass
    warnings.warn("an old name", DeprecationWarning)
    warnings.warn(Own(1, 2))
    warnings.warn("of a local class", Local)
    with warnings.catch_warnings(record=True):
        warnings.warn("caught by the test")

def test_raises_it():
    warnings.warn("for good", FutureWarning)
"""


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["alone", "xdist"])
def test_warnings_stand_in_the_summary_as_without_a_child(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    pytester.makepyfile(test_it=WARNS)
    result = pytester.runpytest_subprocess("--amm-isolate", "--amm-peaks", "-W", "error::FutureWarning", *workers)
    assert result.parseoutcomes() == {"passed": 1, "failed": 1, "warnings": 3}
    result.stdout.fnmatch_lines(["*test_it.py:8: DeprecationWarning: an old name", "*test_it.py:9: Own: 1 and 2"])
    result.stdout.fnmatch_lines(["*test_it.py:10: UserWarning: Local: of a local class"])
    result.stdout.no_fnmatch_line("*caught by the test*")


def test_what_an_isolated_test_kept_is_not_charged_to_the_next_one(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it="""
        import pytest
        kept = []
        @pytest.mark.amm_isolate
        def test_keeps(): kept.append(b"1" * (100 << 20))
        @pytest.mark.amm_budget("20MB")
        def test_light(): pass
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=2)
