"""`--amm-leaks` across tests, in real runs: what set-up leaves behind, told from warm-up and the gate's own calls."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.usefixtures("only_this_plugin")


# unittest's methods are not called again: the gate leaves them alone, and the run takes seconds
LEAKY = """
import unittest
kept = []
class TestOld(unittest.TestCase):
    def setUp(self):
        kept.append(bytearray(200_000))
for number in range({tests}):
    setattr(TestOld, f"test_{{number:03}}", lambda self: None)
"""
WARMING = """
import unittest
cache = {}
class TestOld(unittest.TestCase):
    def setUp(self):
        number = int(self._testMethodName[-3:])
        for key in range(6 * number):
            cache.setdefault(key % 90, bytearray(100_000))
for number in range(60):
    setattr(TestOld, f"test_{number:03}", lambda self: None)
"""


def growths(pytester: pytest.Pytester) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((pytester.path / "r.json").read_text())["suite_growth"]
    return found


def test_a_suite_that_leaks_fails_and_is_told_its_pace(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=LEAKY.format(tests=60))
    result = pytester.runpytest_subprocess("--amm-leaks", "--amm-json=r.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.parseoutcomes() == {"passed": 60}
    (growth,) = growths(pytester)
    assert (growth["decision"], growth["tests"], growth["worker"]) == ("leak", 60, "")
    assert 195_000 < growth["lower"] < growth["bytes_per_test"] < growth["upper"] < 215_000
    result.stdout.fnmatch_lines(
        ["across 60 tests: leaks * KiB a test (* to *, steady); most stayed after", "* KiB  test_it.py::TestOld::*"]
    )


def test_a_suite_that_warms_up_passes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=WARMING)
    result = pytester.runpytest_subprocess("--amm-leaks", "--amm-json=r.json")
    assert result.ret == pytest.ExitCode.OK
    (growth,) = growths(pytester)
    assert (growth["decision"], growth["kind"]) == ("clean", "warm-up")
    assert growth["kept_bytes"] > 8_000_000
    result.stdout.fnmatch_lines(["across 60 tests: warm-up, no leak: * MiB stayed in all"])


def test_each_worker_is_judged_by_itself(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=LEAKY.format(tests=120))
    result = pytester.runpytest_subprocess("--amm-leaks", "--amm-json=r.json", "-n2", "--maxschedchunk=1")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert {growth["worker"] for growth in growths(pytester)} == {"gw0", "gw1"}
    assert sum(growth["tests"] for growth in growths(pytester)) == 120
    assert "leak" in {growth["decision"] for growth in growths(pytester)}


def test_what_the_gates_own_calls_leave_behind_is_not_held_against_the_suite(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it="""
        import pytest
        kept = []
        @pytest.mark.parametrize("number", range(3))
        def test_leaky(number):
            kept.append(bytearray(30_000))
        """
    )
    pytester.runpytest_subprocess("--amm-leaks", "--amm-json=r.json").assert_outcomes(failed=3)
    (growth,) = growths(pytester)
    assert 30_000 < growth["kept_bytes"] < 1_000_000
