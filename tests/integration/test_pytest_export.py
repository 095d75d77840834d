"""`--amm-export` in real runs: what is sent, by whom, when the metrics library is loaded, and what a failure costs."""

from __future__ import annotations

import re

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.usefixtures("only_this_plugin")

TWO = "def test_a(): pass\ndef test_b(): assert 0\n"
EXPORTS = "a file ending in .prom, 'otlp', or the http(s) address of an OTLP receiver"
SAYS_WHAT_IS_LOADED = """
    def pytest_unconfigure(config):
        import sys

        who = getattr(config, "workerinput", {}).get("workerid", "controller")
        loaded = sorted({"opentelemetry", "prometheus_client", "amm_exporter.export"} & set(sys.modules))
        with open(config.rootpath / "who.txt", "a") as file:
            file.write(f"{who} {loaded}\\n")
"""


def warnings_in(result: pytest.RunResult) -> list[str]:
    return [line for line in result.outlines if "--amm-export" in line]


@pytest.mark.parametrize("source", ["flag", "variable", "ini"])
def test_the_results_are_in_the_textfile(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    pytester.makepyfile(test_it=TWO)
    if source == "variable":
        monkeypatch.setenv("AMM_EXPORT", "out.prom")
    if source == "ini":
        pytester.makeini("[pytest]\namm_export = out.prom\n")
    result = pytester.runpytest_subprocess(*(["--amm-export=out.prom"] if source == "flag" else []))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert warnings_in(result) == []
    text = (pytester.path / "out.prom").read_text()
    suite = pytester.path.name
    assert f'amm_test_results{{suite="{suite}",outcome="passed"}} 1\n' in text
    assert f'amm_test_results{{suite="{suite}",outcome="failed"}} 1\n' in text
    assert re.search(r'^amm_test_peak_bytes\{suite="[^"]+",test="test_it.py::test_a"\} [1-9]\d+$', text, re.MULTILINE)


@pytest.mark.parametrize("workers", [0, 2])
def test_only_the_process_that_reports_loads_a_metrics_library_and_sends(
    pytester: pytest.Pytester, workers: int
) -> None:
    pytester.makepyfile(test_it=TWO)
    pytester.makeconftest(SAYS_WHAT_IS_LOADED)
    pytester.runpytest_subprocess("--amm-export=out.prom", f"-n{workers}")
    seen = dict(line.split(" ", 1) for line in (pytester.path / "who.txt").read_text().splitlines())
    assert set(seen) == {"controller", *(f"gw{number}" for number in range(workers))}
    assert "opentelemetry" in seen.pop("controller")
    assert set(seen.values()) <= {"[]"}
    text = (pytester.path / "out.prom").read_text()
    assert len(re.findall(r"^amm_test_peak_bytes\{", text, re.MULTILINE)) == 2
    assert list(pytester.path.glob(".out.prom*")) == []


def test_reports_alone_load_no_metrics_library(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=TWO)
    pytester.makeconftest(SAYS_WHAT_IS_LOADED)
    pytester.runpytest_subprocess("--amm-peaks", "--amm-json=r.json", "--amm-html=r.html")
    assert (pytester.path / "who.txt").read_text() == "controller []\n"


def test_tests_run_before_the_metrics_library_is_loaded(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import sys\ndef test_it(): assert 'opentelemetry' not in sys.modules\n")
    pytester.runpytest_subprocess("--amm-export=out.prom").assert_outcomes(passed=1)


@pytest.mark.parametrize(("body", "status"), [("pass", 0), ("assert 0", 1)])
def test_a_path_that_cannot_be_written_is_one_warning(pytester: pytest.Pytester, body: str, status: int) -> None:
    pytester.makepyfile(f"def test_it(): {body}\n")
    result = pytester.runpytest_subprocess("--amm-export=absent/out.prom")
    assert result.ret == status
    path = pytester.path / "absent" / "out.prom"
    assert warnings_in(result) == [
        f"warning: --amm-export: export of test results: cannot write {path}: No such file or directory"
    ]


def test_a_receiver_that_is_not_there_is_one_warning(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass\n")
    result = pytester.runpytest_subprocess("--amm-export=http://127.0.0.1:1/v1/metrics", "--amm-json=r.json")
    assert result.ret == 0
    assert len(warnings_in(result)) == 1
    assert '"complete": true' in (pytester.path / "r.json").read_text()


def test_a_run_that_only_collects_leaves_the_results_of_the_last_one(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TWO)
    (pytester.path / "out.prom").write_text("of the last run\n")
    pytester.runpytest_subprocess("--amm-export=out.prom", "--collect-only")
    assert (pytester.path / "out.prom").read_text() == "of the last run\n"


def test_another_destination_is_a_usage_error_of_one_line(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--amm-export=results.txt")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.errlines if line] == [f"ERROR: --amm-export: got 'results.txt'; expected {EXPORTS}"]
