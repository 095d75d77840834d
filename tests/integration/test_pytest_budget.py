"""Budgets in real pytest runs: what fails, what it says, what it costs when off."""

from __future__ import annotations

import json
import re

import pytest

pytest_plugins = ["pytester"]

SIZES = "a size such as '512MB', '1.5 GiB' or a whole number of bytes (units: B KB MB GB TB, KiB MiB GiB TiB)"
SPIKES = """
    import pytest

    def test_small():
        pass

    def test_spike():
        bytearray(80 << 20)

    @pytest.fixture
    def spiking():
        bytearray(80 << 20)

    def test_fixture(spiking):
        pass

    def test_fails_and_spikes():
        bytearray(80 << 20)
        assert 1 == 2
"""


@pytest.fixture(autouse=True)
def judged_at_the_end(only_this_plugin: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMM_ON_BREACH", "fail")  # stopping is tested by itself


def outcomes(result: pytest.RunResult) -> dict[str, int]:
    return {name: count for name, count in result.parseoutcomes().items() if name in ("passed", "failed", "errors")}


def test_a_test_over_its_budget_fails_in_the_phase_that_grew(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=SPIKES)
    result = pytester.runpytest_subprocess("--amm-test-budget=64MB")
    assert outcomes(result) == {"passed": 1, "failed": 2, "errors": 1}
    result.stdout.fnmatch_lines_random(
        [
            "*ERROR at setup of test_fixture*",
            "*FAILED test_it.py::test_spike - OverBudget: grew * MiB in call, * MiB o*",
        ]
    )


def test_the_failure_says_budget_peak_over_by_where_and_what_next(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_spike(): bytearray(80 << 20)")
    result = pytester.runpytest_subprocess("--amm-test-budget=64MB", "-q")
    result.stdout.re_match_lines(
        [
            r"grew (79|80)[\d.]* MiB in call, 1[56][\d.]* MiB over 64 MiB",
            r"  budget   64 MiB of growth for this test \(--amm-test-budget\)",
            r"  peak     (79|80)[\d.]* MiB of growth, from [\d.]+ MiB at its start "
            r"\(exact, by the kernel's high-water mark\)",
            r"  over by  1[56][\d.]* MiB",
            r"  where    call of test_the_failure_says_.*\.py::test_spike",
            r"  phases   setup [\d.]+ MiB \(\+.*\); call [\d.]+ MiB \(\+(79|80)[\d.]* MiB\)",
            r'  next     if it needs this much, say so: @pytest.mark.amm_budget\("8[89]MB"\)',
        ]
    )


def test_a_test_that_fails_by_itself_reports_both(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=SPIKES)
    result = pytester.runpytest_subprocess("--amm-test-budget=64MB", "-k", "fails_and_spikes")
    result.stdout.fnmatch_lines(
        ["E       assert 1 == 2", "*- memory over budget -*", "grew * MiB in call, * MiB over 64 MiB"]
    )


def test_the_session_budget_is_held_against_the_absolute_peak(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=SPIKES)
    result = pytester.runpytest_subprocess("--amm-budget=100MB", "-k", "small or test_spike")
    assert outcomes(result) == {"passed": 1, "failed": 1}
    result.stdout.fnmatch_lines(
        [
            "peak * MiB in call, * MiB over 100 MiB",
            "  budget   100 MiB for the whole pytest process tree (--amm-budget)",
            "  next     see its own part: pytest 'test_it.py::test_spike' --amm-peaks --amm-on-breach=warn",
            "  next     if it needs this much: --amm-budget=*MB",
            "highest: * MiB in call of test_it.py::test_spike, 1*% of the budget of 100 MiB",
        ]
    )


def test_markers_override_on_function_class_module_and_parameter(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        pytestmark = pytest.mark.amm_budget("1GB")

        def test_module_is_generous(): bytearray(40 << 20)

        @pytest.mark.amm_budget("8MB")
        class TestTight:
            def test_of_class(self): bytearray(40 << 20)

            @pytest.mark.amm_budget(size="64MB")
            def test_own_is_wider(self): bytearray(40 << 20)

        @pytest.mark.parametrize("size", [8 << 20, pytest.param(48 << 20, marks=pytest.mark.amm_budget("9MB"))])
        def test_of_parameter(size): bytearray(size)

        @pytest.mark.amm_budget("9MB")
        @pytest.mark.parametrize("size", [8 << 20, pytest.param(49 << 20, marks=pytest.mark.amm_budget("64MB"))])
        def test_parameter_before_function(size): bytearray(size)
        """
    )
    result = pytester.runpytest_subprocess("--amm-test-budget=9MB", "--strict-markers", "-v")
    assert outcomes(result) == {"passed": 5, "failed": 2}
    result.stdout.fnmatch_lines_random(["*test_of_class FAILED*", "*test_of_parameter?50331648? FAILED*"])


def test_a_marker_holds_without_any_option(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.amm_budget("8MB")
        def test_it(): bytearray(40 << 20)
        """
    )
    assert outcomes(pytester.runpytest_subprocess()) == {"failed": 1}


def test_directories_have_their_own_budget_by_ini(pytester: pytest.Pytester) -> None:
    pytester.makeini(
        """
        [pytest]
        amm_budget_for =
            wide = 200MB
            wide/test_tight.py = 9MB
        """
    )
    pytester.mkdir("wide")
    pytester.path.joinpath("wide/test_a.py").write_text("def test_a(): bytearray(40 << 20)")
    pytester.path.joinpath("wide/test_tight.py").write_text("def test_b(): bytearray(40 << 20)")
    result = pytester.runpytest_subprocess()
    result.stdout.fnmatch_lines(["*of growth for this test (amm_budget_for wide/test_tight.py)"])
    assert outcomes(result) == {"passed": 1, "failed": 1}


def test_a_budget_for_a_directory_that_is_not_there_is_refused(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it="def test_it(): pass")
    result = pytester.runpytest_subprocess("--amm-budget-for=.=90MB", "--amm-budget-for=test_it.py=80MB")
    assert outcomes(result) == {"passed": 1}
    result = pytester.runpytest_subprocess("--amm-budget-for=tets=64MB")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: amm_budget_for: there is no 'tets' below the rootdir *"])


@pytest.mark.parametrize(
    ("ini", "variable", "flag", "failed"),
    [("9MB", None, None, 1), ("9MB", "1GB", None, 0), ("1GB", "9MB", None, 1), ("9MB", "9MB", "1GB", 0)],
)
def test_later_sources_win(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    ini: str,
    variable: str | None,
    flag: str | None,
    failed: int,
) -> None:
    pytester.makeini(f"[pytest]\namm_test_budget = {ini}\n")
    pytester.makepyfile("def test_it(): bytearray(40 << 20)")
    if variable:
        monkeypatch.setenv("AMM_TEST_BUDGET", variable)
    result = pytester.runpytest_subprocess(*([f"--amm-test-budget={flag}"] if flag else []))
    assert outcomes(result).get("failed", 0) == failed


def test_a_peak_during_collection_is_told_and_fails_the_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import time\nx = b'1' * (150 << 20)\ntime.sleep(0.3)\ndel x\ndef test_it(): pass")
    result = pytester.runpytest_subprocess("--amm-budget=100MB")
    assert outcomes(result) == {"passed": 1}
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["over budget outside of any test (collection, imports): the process tree reached * MiB, the budget is 100 MiB"]
    )


def test_warn_reports_and_passes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): bytearray(40 << 20)")
    result = pytester.runpytest_subprocess("--amm-test-budget=9MB", "--amm-on-breach=warn")
    assert outcomes(result) == {"passed": 1}
    result.stdout.fnmatch_lines(["*test_it (over budget)"])


def test_an_expected_failure_does_not_excuse_a_breach(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.xfail
        def test_it():
            bytearray(40 << 20)
            assert 0
        """
    )
    assert outcomes(pytester.runpytest_subprocess("--amm-test-budget=9MB")) == {"failed": 1}


def test_quiet_shows_no_section_when_nothing_is_wrong(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    assert "memory" not in pytester.runpytest_subprocess("--amm-peaks", "-q").stdout.str()
    assert "= memory =" in pytester.runpytest_subprocess("--amm-peaks").stdout.str()


def test_the_ten_heaviest_are_shown_and_all_with_vv(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.parametrize("n", range(14))
        def test_it(n): pass
        """
    )

    def rows(*arguments: str) -> int:
        lines = pytester.runpytest_subprocess("--amm-peaks", *arguments).stdout.str().partition("= memory =")[2]
        return sum("test_it[" in line for line in lines.splitlines() if not line.startswith("highest"))

    assert rows() == 10
    assert rows("-vv") == 14
    assert rows("--amm-top=3") == 3


def test_workers_of_xdist_measure_and_the_controller_tells(pytester: pytest.Pytester) -> None:
    clock = "\nimport time\ndef test_clock(record_property): record_property('now', time.time())\n"
    pytester.makepyfile(test_it=SPIKES, test_that=clock)
    result = pytester.runpytest_subprocess("--amm-test-budget=64MB", "-n2", "--amm-json=r.json", "--junitxml=j.xml")
    assert outcomes(result) == {"passed": 2, "failed": 2, "errors": 1}
    result.stdout.fnmatch_lines(["* MiB *test_it.py::test_spike (over budget)"])
    report = json.loads((pytester.path / "r.json").read_text())
    (test,) = (test for test in report["tests"] if test["nodeid"].endswith("test_clock"))
    now = float(re.findall('name="now" value="([^"]+)"', (pytester.path / "j.xml").read_text())[0])
    since_start = now - report["session"]["started_unix_seconds"]  # of the run, not of the worker
    assert test["start_seconds"] - 0.05 < since_start < test["start_seconds"] + test["seconds"] + 0.05


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("'1 MBananas'", f"got '1 MBananas'; expected {SIZES}; unknown unit 'MBananas'"),
        ("0", f"got 0; expected {SIZES}, more than zero"),
        ("1.5", f"got 1.5; expected {SIZES}"),
        ("", "got 0 arguments; expected one size, as amm_budget('64MB')"),
        ("'1MB', '2MB'", "got 2 arguments; expected one size, as amm_budget('64MB')"),
        ("limit='1MB'", "unknown argument 'limit'; expected one size, as amm_budget('64MB')"),
    ],
)
def test_a_wrong_marker_ends_the_run_before_the_first_test(
    pytester: pytest.Pytester, marker: str, message: str
) -> None:
    pytester.makepyfile(
        test_it=f"""
        import pytest
        def test_first(): print("first did run")
        @pytest.mark.amm_budget({marker})
        def test_wrong(): pass
        """
    )
    result = pytester.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: test_it.py::test_wrong: @pytest.mark.amm_budget: {message}" in result.stderr.lines
    assert "first did run" not in result.stdout.str()


@pytest.mark.parametrize(
    ("source", "shown"),
    [("flag", "--amm-budget"), ("variable", "AMM_BUDGET"), ("ini", "amm_budget (tox.ini)")],
)
def test_a_wrong_option_is_one_line_that_names_its_source(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, source: str, shown: str
) -> None:
    arguments = ["--amm-budget=13MBs"] if source == "flag" else []
    if source == "variable":
        monkeypatch.setenv("AMM_BUDGET", "13MBs")
    if source == "ini":
        pytester.makeini("[pytest]\namm_budget = 13MBs\n")
    result = pytester.runpytest_inprocess(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in result.stderr.lines if line]
    assert lines == [f"ERROR: {shown}: got '13MBs'; expected {SIZES}; unknown unit 'MBs', did you mean 'MB'?"]


def test_a_native_toml_number_is_refused_in_words(pytester: pytest.Pytester) -> None:
    pytester.makepyprojecttoml("[tool.pytest]\namm_budget = 1536\n")
    result = pytester.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "config option 'amm_budget' expects a string, got int: 1536" in result.stderr.str()


def test_unused_it_adds_no_thread_no_descriptor_and_loads_nothing(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(
        """
        import os, sys, threading

        def test_it():
            heavy = ("psutil", "yaml", "opentelemetry", "prometheus_client", "amm_exporter",
                     "pytest_amm.settings", "pytest_amm.budget", "pytest_amm.measure", "pytest_amm.meter")
            print("LOADED", sorted(set(heavy) & set(sys.modules)))
            print("THREADS", threading.active_count())
            print("OPEN", len(os.listdir("/proc/self/fd")))
        """
    )
    monkeypatch.delenv("AMM_ON_BREACH")
    with_it = pytester.runpytest_subprocess("-s").stdout.lines
    monkeypatch.setenv("PYTEST_PLUGINS", "xdist.plugin")
    without = pytester.runpytest_subprocess("-s").stdout.lines
    shown = [
        [line for line in lines if "LOADED" in line or line.startswith(("THREADS", "OPEN"))]
        for lines in (with_it, without)
    ]
    assert shown[0] == shown[1]
    assert any("LOADED []" in line for line in shown[0])


@pytest.mark.parametrize("style", ["long", "short"])
def test_a_failing_fixture_is_shown_without_frames_of_ours(pytester: pytest.Pytester, style: str) -> None:
    pytester.makeconftest("import pytest\n@pytest.fixture\ndef broken():\n    raise ValueError('mine')\n")
    pytester.makepyfile(test_it="def test_it(broken): pass\n")
    result = pytester.runpytest_subprocess("--amm-peaks", f"--tb={style}")
    assert result.parseoutcomes() == {"errors": 1}
    assert "mine" in result.stdout.str()
    assert "pytest_amm" not in "".join(line for line in result.outlines if not line.startswith("plugins:"))
