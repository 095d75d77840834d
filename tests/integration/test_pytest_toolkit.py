"""The fixture `amm`, hooks, and the company of other plugins, in real runs."""

from __future__ import annotations

import inspect
import json
import textwrap

import pytest

from pytest_amm import hookspecs

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.usefixtures("only_this_plugin")


def test_the_fixture_works_without_any_option(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        MB = 1 << 20

        def test_measure(amm):
            with amm.measure() as seen:
                bytearray(80 * MB)
            assert abs(seen.growth_bytes - 80 * MB) < MB
            assert seen.kept_bytes < MB

        def test_leak(amm):
            kept = []
            with pytest.raises(BaseException, match="leaks"):
                amm.leak_check(lambda: kept.append(bytearray(5000)), max_per_call="1KB")
            assert amm.leak_check(lambda: None).decision == "clean"

        def test_remedy(amm):
            kept = []
            effect = amm.before_after(lambda: kept.append(bytearray(40 * MB)), kept.clear)
            assert effect.effective
            assert effect.score_ratio > 0.9
            nothing = amm.before_after(lambda: kept.append(bytearray(4 * MB)), lambda: None)
            assert not nothing.effective

        def test_stress(amm):
            assert amm.stress(lambda: [bytearray(1000) for _ in range(10000)], cycles=12).stable
            kept = []
            assert not amm.stress(lambda: kept.append(bytearray(MB)), cycles=12).stable

        def test_batches(amm):
            chunks = list(amm.batches(range(120)))
            assert [x for chunk in chunks for x in chunk] == list(range(120))
            assert max(map(len, chunks)) <= 50
            assert 1 <= amm.threads <= 8
        """
    )
    result = pytester.runpytest_subprocess()
    assert result.parseoutcomes() == {"passed": 5}


def test_a_measured_block_does_not_hide_the_tests_own_peak(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it="""
        def test_outer(amm):
            bytearray(90 << 20)
            with amm.measure():
                bytearray(10 << 20)
        """
    )
    pytester.runpytest_subprocess("--amm-json=r.json")
    (test,) = json.loads((pytester.path / "r.json").read_text())["tests"]
    assert test["growth_bytes"] > 85 << 20


def test_hooks_are_called_with_what_they_promise(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        def pytest_amm_sample(item, phase):
            print("SAMPLE", item.name, phase.name, phase.peak_bytes >= phase.start_bytes)
        def pytest_amm_breach(item, breach):
            print("BREACH", item.name, breach.over_bytes > 0)
        def pytest_amm_report(document):
            document["session"]["commit"] = "abc"
        """
    )
    pytester.makepyfile("def test_it(): bytearray(40 << 20)")
    result = pytester.runpytest_subprocess("--amm-test-budget=1MB", "--amm-on-breach=fail", "--amm-json=r.json", "-s")
    result.stdout.fnmatch_lines_random(
        ["*SAMPLE test_it setup True", "*SAMPLE test_it call True", "*BREACH test_it True"]
    )
    assert json.loads((pytester.path / "r.json").read_text())["session"]["commit"] == "abc"


def test_the_example_of_each_hook_runs(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them at once, as they stand in the docstrings."""
    names = [name for name in vars(hookspecs) if name.startswith("pytest_amm_")]
    examples = [(inspect.getdoc(getattr(hookspecs, name)) or "").partition("::\n")[2] for name in names]
    assert len(names) == len(list(filter(None, examples))) == 3
    prelude = "import os\ndef dump_heap(name): print('DUMPED', name)\n"
    pytester.makeconftest(prelude + "\n".join(textwrap.dedent(example) for example in examples))
    pytester.makepyfile("def test_it(): kept = b'1' * (140 << 20)")
    monkeypatch.setenv("GIT_COMMIT", "abc")
    result = pytester.runpytest_subprocess("--amm-test-budget=1MB", "--amm-on-breach=fail", "--amm-json=r.json", "-s")
    result.stdout.fnmatch_lines(["*::test_it [0-9]*", "*DUMPED test_it*"])
    assert json.loads((pytester.path / "r.json").read_text())["session"]["commit"] == "abc"


@pytest.mark.parametrize(
    "body", ["raise ValueError('its own')", "document['mine'] = {1}", "document['mine'] = float('nan')",
        "document['tests'] = None", "document['tests'][0].clear()"],
)  # fmt: skip
def test_a_broken_hook_costs_nobody_the_reports(pytester: pytest.Pytester, body: str) -> None:
    pytester.makeconftest(
        f"def pytest_amm_report(document): {body}\ndef pytest_amm_breach(item, breach): raise KeyError('of mine')\n"
    )
    pytester.makepyfile(
        """
        import mmap  # not of the heap: this process may have so much free in it that nothing would grow
        def test_it():
            held = mmap.mmap(-1, 40 << 20)
            for at in range(0, len(held), mmap.PAGESIZE):
                held[at] = 1
        def test_after(): pass
        """
    )
    options = ("--amm-test-budget=16MB", "--amm-on-breach=fail", "--amm-json=r.json", "--amm-html=r.html")
    result = pytester.runpytest_inprocess(*options)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["pytest_amm_breach: KeyError: 'of mine'", "warning: pytest_amm_report: *Error: *"])
    report = json.loads((pytester.path / "r.json").read_text())
    assert report["complete"]
    assert [len(test["phases"]) for test in report["tests"]] == [3, 3]
    assert "test_after" in (pytester.path / "r.html").read_text()


def test_junit_properties_comparison_page_and_annotations(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pytester.makepyfile(test_it="def test_it(): bytearray(10 << 20)\ndef test_over(): pass")
    pytester.runpytest_subprocess("--amm-json=base.json", "--junitxml=j.xml")
    assert 'name="amm_growth_bytes"' in (pytester.path / "j.xml").read_text()
    assert pytester.runpytest_subprocess("--amm-compare=base.json", "--amm-fail-growth=10%").ret == 0

    path.write_text("def test_it(): bytearray(40 << 20)\ndef test_over(): bytearray(60 << 20)")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    result = pytester.runpytest_subprocess(
        "--amm-compare=base.json", "--amm-fail-growth=10%", "--amm-html=r.html", "--amm-test-budget=50MB"
    )
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "*= memory compared with base.json =*",
            "* MiB * MiB * MiB * KiB  test_it.py::test_it (more than 10%)",
            "this fails the run: 1 test grew by more than 10% and more than the noise",
            "not compared: 1 that did not pass in both",
            "::error file=test_it.py,line=2,title=Memory budget::test_it.py::test_over: grew *",
            "::error file=test_it.py,line=1,title=Memory growth::test_it.py::test_it: grows by * MiB, it was * MiB",
        ]
    )
    assert "test_it.py::test_it" in (pytester.path / "r.html").read_text()


def test_the_reports_tell_every_failure_of_a_test_whatever_its_text(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        r"""
        import pytest
        @pytest.fixture
        def broken():
            yield
            pytest.fail("at its end")
        @pytest.mark.amm_budget("1MB")
        def test_it(broken):
            kept = b"1" * (20 << 20)
            pytest.fail("no text: \ud800", pytrace=False)
        """
    )
    options = ("--amm-on-breach=fail", "--amm-json=r.json", "--amm-html=r.html")
    pytester.runpytest_subprocess(*options).assert_outcomes(failed=1, errors=1)
    (test,) = json.loads((pytester.path / "r.json").read_text())["tests"]
    for text in ("no text: \ud800", "MiB over 1 MiB", "at its end"):
        assert text in test["message"]
    assert r"no text: \ud800" in (pytester.path / "r.html").read_text()


def test_a_comparison_with_another_file_is_refused(pytester: pytest.Pytester) -> None:
    (pytester.path / "other.json").write_text("{}")
    result = pytester.runpytest_inprocess("--amm-compare=other.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert (
        "ERROR: --amm-compare: other.json: not a JSON report of --amm-json (no schema 'amm-pytest/1')"
        in result.stderr.lines
    )


def test_a_report_may_replace_the_one_it_is_compared_with(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    pytester.runpytest_inprocess("--amm-json=last.json")
    result = pytester.runpytest_inprocess("--amm-json=last.json", "--amm-compare=last.json")
    result.stdout.fnmatch_lines(["no test differs by more than the noise (* here) among 1 in both runs"])


def test_unittest_doctest_and_subtests_are_measured(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it='''
        import unittest
        class TestOld(unittest.TestCase):
            def setUp(self): bytearray(40 << 20)
            def test_one(self):
                with self.subTest("a"): pass
                with self.subTest("b"): bytearray(60 << 20)
        def doctested():
            """
            >>> len(bytearray(50 << 20))
            52428800
            """
        '''
    )
    pytester.runpytest_subprocess("--doctest-modules", "--amm-json=r.json")
    tests = {
        test["nodeid"].rpartition("::")[2]: test for test in json.loads((pytester.path / "r.json").read_text())["tests"]
    }
    assert tests["test_one"]["growth_bytes"] > 55 << 20
    assert tests["test_it.doctested"]["growth_bytes"] > 45 << 20


def test_an_asynchronous_test_is_stopped_too(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import asyncio, inspect, pytest
        @pytest.hookimpl(tryfirst=True)
        def pytest_pyfunc_call(pyfuncitem):
            if inspect.iscoroutinefunction(pyfuncitem.obj):
                asyncio.run(pyfuncitem.obj())
                return True
        """
    )
    pytester.makepyfile(
        test_it="""
        import asyncio
        async def test_grows():
            kept = []
            for _ in range(100):
                kept.append(b"1" * (10 << 20))
                await asyncio.sleep(0)
        def test_after(): pass
        """
    )
    result = pytester.runpytest_subprocess("--amm-budget=200MB")
    assert result.parseoutcomes() == {"failed": 1, "passed": 1}


def test_one_session_budget_for_all_workers(pytester: pytest.Pytester) -> None:
    """Two workers that hold 150 MB each break a budget of 300 MB that neither breaks alone."""
    pytester.makepyfile(
        test_it="""
        import time, pytest
        @pytest.mark.parametrize("number", [1, 2])
        def test_half(number):
            kept = b"1" * (150 << 20)
            time.sleep(3)
        """
    )
    result = pytester.runpytest_subprocess("--amm-budget=300MB", "-n2", "--amm-json=r.json")
    tests = json.loads((pytester.path / "r.json").read_text())["tests"]
    assert result.parseoutcomes()["failed"] >= 1
    assert {test["worker"] for test in tests} == {"gw0", "gw1"}


def test_a_run_within_a_run_leaves_the_outer_one_measuring(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_outer="""
        pytest_plugins = "pytester"
        def test_outer(pytester):
            bytearray(60 << 20)
            pytester.makepyfile(test_inner="def test_inner(): bytearray(10 << 20)")
            pytester.runpytest_inprocess("--amm-budget=2GB", "--amm-json=inner.json").assert_outcomes(passed=1)
        """
    )
    result = pytester.runpytest_subprocess("--amm-budget=2GB", "--amm-json=outer.json")
    result.assert_outcomes(passed=1)
    (test,) = json.loads((pytester.path / "outer.json").read_text())["tests"]
    assert test["growth_bytes"] > 55 << 20
