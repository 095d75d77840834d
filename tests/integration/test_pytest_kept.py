"""What a test kept, where fixtures hold memory."""

from __future__ import annotations

import json

import pytest

pytest_plugins = ["pytester"]

MB = 1 << 20

FIXTURES = """
import mmap

import pytest

class Table:
    def __init__(self):
        self.pages = mmap.mmap(-1, 30 * 2**20)
        for at in range(0, 30 * 2**20, 4096):
            self.pages[at] = 1

@pytest.fixture
def table():
    return Table()

@pytest.fixture(scope="module")
def shared():
    return Table()

def test_own(table):
    pass

def test_shared(shared):
    pass
"""

LOOKS = """
import pytest

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "teardown":
        assert item.funcargs
    return report
"""


def test_what_a_fixture_returned_is_kept_only_where_the_fixture_stays(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=FIXTURES + "\ndef test_other(shared): pass\n")
    result = pytester.runpytest_subprocess("--amm-json=report.json", "test_it.py")
    result.assert_outcomes(passed=3)
    tests = json.loads((pytester.path / "report.json").read_text())["tests"]
    assert [round(test["kept_bytes"] / MB / 10) * 10 for test in tests[:2]] == [0, 30]


def test_values_of_fixtures_stay_for_a_conftest_that_looks_at_them(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=FIXTURES)
    pytester.makeconftest(LOOKS)
    pytester.runpytest_subprocess("--amm-peaks", "test_it.py").assert_outcomes(passed=2)
