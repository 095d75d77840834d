"""Judging a budget, and which budget a test has."""

from __future__ import annotations

import pytest

from pytest_amm.breach import Breach, judge
from pytest_amm.budget import Budgets, DirectoryBudget, TestBudget
from pytest_amm.markers import markers_in_use

pytest_plugins = ["pytester"]
MB = 1 << 20


def judged(**changes: object) -> Breach | None:
    values: dict[str, object] = {
        "phase": "call",
        "tree_peak_bytes": 0,
        "growth_bytes": 0,
        "session_budget_bytes": None,
        "test_budget": None,
    }
    return judge(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(("peak", "over"), [(MB - 1, None), (MB, None), (MB + 1, 1)])
def test_session_budget_may_be_reached_but_not_passed(peak: int, over: int | None) -> None:
    breach = judged(tree_peak_bytes=peak, session_budget_bytes=MB)
    assert (breach.over_bytes if breach else None) == over


@pytest.mark.parametrize(("growth", "over"), [(MB - 1, None), (MB, None), (MB + 1, 1)])
def test_test_budget_is_held_against_growth(growth: int, over: int | None) -> None:
    budget = TestBudget(size_bytes=MB, source="a marker")
    breach = judged(growth_bytes=growth, tree_peak_bytes=900 * MB, test_budget=budget)
    assert (breach.over_bytes if breach else None) == over
    assert breach is None or (breach.scope, breach.source) == ("test", "a marker")


def test_the_session_breach_is_told_before_the_tests_own() -> None:
    budget = TestBudget(size_bytes=MB, source="a marker")
    breach = judged(growth_bytes=3 * MB, tree_peak_bytes=9 * MB, session_budget_bytes=8 * MB, test_budget=budget)
    assert breach is not None
    assert breach.scope == "session"


@pytest.mark.parametrize(
    ("path", "nodeid", "covered"),
    [
        ("tests/unit", "tests/unit/test_a.py::test_x", True),
        ("tests/unit", "tests/unittest/test_a.py::test_x", False),
        ("tests/test_a.py", "tests/test_a.py::test_x", True),
        ("tests/test_a.py", "tests/test_a.pyx::test_x", False),
        (".", "anything.py::test_x", True),
    ],
)
def test_a_directory_covers_what_lies_in_it(path: str, nodeid: str, covered: bool) -> None:
    assert DirectoryBudget(path=path, size_bytes=1).covers(nodeid) is covered


@pytest.mark.parametrize(
    ("source", "used"),
    [
        ("@pytest.mark.amm_leak\n@pytest.mark.skipif(False, reason='')\ndef test_it(): pass", {"amm_leak"}),
        ("pytestmark = pytest.mark.amm_budget('1MB')\ndef test_it(): pass", {"amm_budget"}),
        ("@pytest.mark.amm_isolate\nclass TestIt:\n    def test_it(self): pass", {"amm_isolate"}),
        ("@pytest.mark.usefixtures('tmp_path')\ndef test_it(): pass", set()),
    ],
)
def test_markers_in_use_are_found_on_tests_and_on_what_holds_them(
    pytester: pytest.Pytester, source: str, used: set[str]
) -> None:
    assert markers_in_use(pytester.getitems("import pytest\n" + source)) == used


def test_the_nearest_marker_then_the_longest_directory_then_the_common_budget(pytester: pytest.Pytester) -> None:
    source = "import pytest\n@pytest.mark.amm_budget('3MB')\ndef test_own(): pass\ndef test_other(): pass"
    own, other = pytester.getitems(source)
    path = other.nodeid.partition("::")[0]
    directories = [DirectoryBudget(path=".", size_bytes=1), DirectoryBudget(path=path, size_bytes=2)]
    budgets = Budgets(4, directories)
    budgets.read([own, other], marked=True)
    assert budgets.of(own.nodeid) == TestBudget(size_bytes=3 * MB, source="@pytest.mark.amm_budget")
    assert budgets.of(other.nodeid) == TestBudget(size_bytes=2, source=f"amm_budget_for {path}")
    assert budgets.of("elsewhere.py::test_it") == TestBudget(size_bytes=4, source="--amm-test-budget")
    assert Budgets(None, []).of(own.nodeid) is None
