"""What the failure of a stopped test shows in a real run."""

from __future__ import annotations

import json

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.usefixtures("only_this_plugin")


def test_an_interrupt_between_lines_of_the_project_shows_no_insides_of_pytest(pytester: pytest.Pytester) -> None:
    """The last call of a test has just ended, or a doctest ran it: there is no line of the project to show."""
    pytester.makepyfile(
        test_it="""
        import pytest
        @pytest.fixture
        def big(): b'1' * (300 << 20)
        def test_last_call(): b'1' * (250 << 20)
        def test_fixture(big): pass
        def test_line():
            x = []
            while True: x.append(b'1' * (1 << 20))
        """,
        doc='"""\n>>> x = [b"1" * (1 << 20) for _ in range(400)]\n"""\n',
    )
    result = pytester.runpytest_subprocess("--amm-test-budget=100MB", "--doctest-modules", "doc.py", "test_it.py")
    assert result.parseoutcomes() == {"failed": 3, "errors": 1}
    result.stdout.no_re_match_line(r"(.*/_pytest/|.*/pluggy/|self = <pytest_amm)")
    result.stdout.fnmatch_lines(["grew * in call, * over 100 MiB", ">*while True: x.append*"])


def test_a_leak_is_told_as_one_within_the_budget_of_its_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it="""
        import pytest
        kept = []
        pytestmark = pytest.mark.amm_budget("64MB")

        @pytest.mark.amm_leak
        def test_marker(): kept.append(bytearray(5000))

        def test_fixture(amm): amm.leak_check(lambda: kept.append(bytearray(5000)))
        """
    )
    result = pytester.runpytest_subprocess("--amm-json=report.json")
    assert result.parseoutcomes() == {"failed": 2}
    assert len([line for line in result.outlines if line.startswith("leaks 4.9 KiB a call")]) == 2
    result.stdout.fnmatch_lines(['*this is meant to stay: @pytest.mark.amm_leak(max_per_call="...")'])
    result.stdout.fnmatch_lines(['*this is meant to stay: amm.leak_check(fn, max_per_call="...")'])
    assert all(test["breach"] is None for test in json.loads((pytester.path / "report.json").read_text())["tests"])
