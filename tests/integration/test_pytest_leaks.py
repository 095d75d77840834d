"""The leak gate on tests: the marker and `--amm-leaks`, in real runs."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.usefixtures("only_this_plugin")

LEAKS = """
    import pytest
    kept = []

    @pytest.mark.amm_leak(max_per_call="100B", time_limit="5s")
    def test_leaky():
        kept.append(bytearray(400))

    @pytest.mark.amm_leak(max_per_call="100B", time_limit="5s")
    def test_clean():
        [bytearray(400) for _ in range(10)]

    @pytest.mark.amm_leak(time_limit="1ms")
    def test_undecided():
        sum(range(100_000))

    @pytest.mark.amm_leak
    @pytest.mark.parametrize("number", [1])
    def test_fails_by_itself(number):
        assert number == 2
"""


def test_the_marker_finds_the_leak_and_names_its_line(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=LEAKS)
    result = pytester.runpytest_subprocess("-rP")
    assert result.parseoutcomes() == {"failed": 2, "passed": 2}
    result.stdout.fnmatch_lines(
        [
            "leaks * B a call, 100 B allowed",
            "  what     test_it.py::test_leaky",
            "  bounds   * at 99% confidence, after * calls, of * memory",
            "  line     *test_it.py:6: * a call",  # KiB, where the list itself grew meanwhile
            "* calls were too few to tell; give it more time",
            "leak gate: 1 leak, 1 clean, 1 undecided",
        ]
    )
    result.stdout.fnmatch_lines(["E*assert 1 == 2"])


def test_a_whole_suite_is_checked_and_what_cannot_repeat_is_left_alone(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it="""
        import pytest, unittest
        kept, seen = [], []
        @pytest.fixture
        def shop(): return []
        def test_leaky(): kept.append(bytearray(9000))
        @pytest.mark.parametrize("size", [9000])
        def test_fills(shop, size): shop.append(bytearray(size))
        def test_clean(): pass
        def test_only_once():
            assert not seen
            seen.append(1)
        class TestOld(unittest.TestCase):
            def test_method(self): pass
        """
    )
    result = pytester.runpytest_subprocess("--amm-leaks")
    assert result.parseoutcomes() == {"failed": 2, "passed": 3}
    result.stdout.fnmatch_lines(["leak gate: 2 leak, 1 clean, 1 not repeatable", "  not repeatable: *test_only_once"])
    told = list(dict.fromkeys(line for line in result.outlines if line.startswith("  what ")))  # CI is told twice
    assert told == [
        "  what     test_it.py::test_leaky",
        "  what     test_it.py::test_fills[9000], with all it puts into its fixtures: shop",
    ]


def test_what_was_not_decided_is_told_with_what_to_type(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it="""
        import time
        seen = []
        def test_slow(): time.sleep(0.3)
        def test_only_once():
            assert not seen
            seen.append(1)
        """
    )
    result = pytester.runpytest_subprocess("--amm-leaks", "-rP")
    result.stdout.fnmatch_lines(
        [
            'give it longer: @pytest.mark.amm_leak(time_limit="*s")',
            "not checked: called again, it raised AssertionError: assert not *",
            "  undecided: test_it.py::test_slow",
            '  next: -rP says what was measured; @pytest.mark.amm_leak(time_limit="1m") gives a test longer',
        ]
    )
    assert max(map(len, result.outlines)) < 130


def test_a_leak_found_by_few_calls_says_what_to_type_where_a_cache_fills(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it="""
        import pytest, time
        kept = []
        @pytest.mark.amm_leak(time_limit="2s")
        def test_slow():
            time.sleep(0.006)
            kept.append(bytearray(50_000))
        @pytest.mark.amm_leak
        def test_quick(): kept.append(bytearray(5_000))
        """
    )
    result = pytester.runpytest_subprocess("-rN")  # under CI the summary repeats it
    assert result.parseoutcomes() == {"failed": 2}
    told = "  next     if only a cache fills, in so few calls: @pytest.mark.amm_leak(warmup=1400)"
    assert result.outlines.count(told) == 1


@pytest.mark.parametrize("capture", ["fd", "sys"])
def test_what_pytest_keeps_of_each_call_is_no_leak(pytester: pytest.Pytester, capture: str) -> None:
    pytester.makepyfile(
        test_it="""
        import logging, warnings
        def test_logs(): logging.getLogger("x").warning("%s", "x" * 2000)
        def test_prints(): print("x" * 9000)
        def test_captures(capsys): print("x" * 9000)
        def test_warns(): warnings.warn("x" * 2000, DeprecationWarning)
        def test_looks_at_its_log(caplog):
            logging.getLogger("x").warning("once")
            assert len(caplog.records) == 1
        def test_has_parts(subtests):
            with subtests.test(): pass
        """
    )
    result = pytester.runpytest_subprocess("--amm-leaks", f"--capture={capture}", "-rP")
    assert result.parseoutcomes() == {"passed": 6, "warnings": 1}
    assert "leak gate: 5 clean" in result.outlines
    assert sum(line.startswith("xxxx") for line in result.outlines) == 2  # what is printed by the first call


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("max_per_cal='1KB'", "got 'max_per_cal'; expected an argument of amm_leak; did you mean 'max_per_call'?"),
        ("'1KB'", "got 1 positional arguments; write amm_leak(max_per_call='1KB')"),
        ("warmup='many'", "got 'many'; expected a whole number of calls from 0 to 1000000"),
        ("confidence='100%'", "got '100%'; expected a confidence between 50% and 100%, as '99%'"),
        ("time_limit='0s'", "got '0s'; expected a duration such as '500ms', '1s', '5m' or '2h' (units: ms s m h d), "
            "more than zero and at most 100 years"),
    ],
)  # fmt: skip
def test_a_wrong_leak_marker_is_one_line(pytester: pytest.Pytester, marker: str, message: str) -> None:
    pytester.makepyfile(test_it=f"import pytest\n@pytest.mark.amm_leak({marker})\ndef test_it(): pass\n")
    result = pytester.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: test_it.py::test_it: @pytest.mark.amm_leak: {message}" in result.stderr.lines


def test_the_leak_marker_on_a_unittest_method_says_what_to_do(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it="""
        import pytest, unittest
        class TestOld(unittest.TestCase):
            @pytest.mark.amm_leak
            def test_it(self): pass
        """
    )
    result = pytester.runpytest_inprocess()
    assert (
        "ERROR: test_it.py::TestOld::test_it: @pytest.mark.amm_leak: works on plain test functions; elsewhere call the "
        "fixture: amm.leak_check(fn)"
    ) in result.stderr.lines
