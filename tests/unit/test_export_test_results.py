"""What a report of a test run becomes, and that nothing unbounded or half written leaves."""

from __future__ import annotations

import pytest

from amm_exporter.errors import AMMError
from amm_exporter.export.names import METRICS
from amm_exporter.export.test_results import TOP_TESTS, export_results, prometheus_text, results_of, write_textfile


def a_test(number=0, **changes):
    test = {"nodeid": f"tests/test_a.py::test_{number}", "outcome": "passed", "peak_bytes": 1000 + number,
            "growth_bytes": 300, "kept_bytes": 100, "breach": None}  # fmt: skip
    return {**test, **changes}


def report(*tests, **session):
    return {"session": {"started_unix_seconds": 1000.0, "budget_bytes": 5000, "test_budget_bytes": None, **session},
            "tests": list(tests)}  # fmt: skip


def values(document, metric, key=None):
    found = [
        (attributes, value)
        for name, value, attributes in results_of(document, suite="unit", now=1060.0)
        if name == metric
    ]
    return {attributes.get(key): value for attributes, value in found}


def test_peaks_growth_and_what_came_back():
    document = report(a_test(1), a_test(2, kept_bytes=-50), a_test(3, growth_bytes=0, kept_bytes=40))
    assert values(document, "amm.test.peak", "test")["tests/test_a.py::test_2"] == 1002
    assert values(document, "amm.test.growth", "test")["tests/test_a.py::test_1"] == 300
    assert values(document, "amm.test.run.peak") == {None: 1003}
    assert values(document, "amm.test.freed") == {None: 200 + 300 + 0}


def test_budgets_that_are_set_are_sent_and_others_not():
    assert values(report(), "amm.test.budget", "kind") == {"session": 5000}
    assert values(report(budget_bytes=None), "amm.test.budget", "kind") == {}
    assert values(report(test_budget_bytes=7), "amm.test.budget", "kind") == {"session": 5000, "test": 7}


def test_a_stopped_test_is_stopped_and_not_failed():
    stopped = a_test(1, outcome="failed", breach={"scope": "session", "stopped": True})
    warned = a_test(2, breach={"scope": "test", "stopped": False})
    document = report(stopped, warned, a_test(3, outcome="skipped"))
    assert values(document, "amm.test.results", "outcome") == {"passed": 1, "failed": 0, "skipped": 1, "stopped": 1}
    assert values(document, "amm.test.breaches", "kind") == {"session": 1, "test": 1, "emergency": 0}


def test_leak_verdicts_appear_only_where_a_gate_ran():
    assert values(report(a_test(leak="")), "amm.test.leaks", "verdict") == {}
    gated = report(a_test(1, leak="leak"), a_test(2, leak="clean"))
    assert values(gated, "amm.test.leaks", "verdict") == {
        "leak": 1,
        "clean": 1,
        "undecided": 0,
        "not repeatable": 0,
    }


@pytest.mark.parametrize("count", [0, TOP_TESTS - 1, TOP_TESTS, TOP_TESTS + 1, 5000])
def test_the_number_of_series_is_bounded(count):
    results = list(results_of(report(*map(a_test, range(count))), suite="unit"))
    named = [attributes["test"] for name, _, attributes in results if name == "amm.test.peak"]
    assert len(named) == min(count, TOP_TESTS)
    assert len(results) <= 2 * TOP_TESTS + 20
    if count:
        assert named[0] == f"tests/test_a.py::test_{count - 1}"


def test_a_long_name_keeps_its_end():
    (named,) = values(report(a_test(nodeid="x" * 500 + "::end")), "amm.test.peak", "test")
    assert len(named) == 160
    assert named.endswith("x::end")


def test_every_value_is_of_a_metric_and_labels_of_the_table():
    document = report(a_test(leak="leak"), test_budget_bytes=1)
    results = list(results_of(document, suite="unit"))
    assert {name for name, _, _ in results} == {name for name in METRICS if name.startswith("amm.test.")}
    assert all(set(attributes) == set(METRICS[name].attributes) for name, _, attributes in results)


def test_an_interrupted_run_with_nothing_in_it_is_no_error():
    assert values({"session": {}, "tests": []}, "amm.test.run.timestamp") == {None: 1060.0}


def test_text_escapes_what_a_parametrized_name_may_hold():
    results = [("amm.test.peak", 1.5, {"suite": "a", "test": 'x["q"\\\n]'})]
    assert 'test="x[\\"q\\"\\\\\\n]"} 1.5' in prometheus_text(results)


def test_a_file_is_replaced_in_one_step_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "amm.prom"
    path.write_text("old")
    write_textfile(path, [("amm.test.duration", 2.0, {"suite": "a"})])
    assert 'amm_test_duration_seconds{suite="a"} 2' in path.read_text()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("destination", ["results.txt", "", "otlp://x", "ftp://x/y.pro"])
def test_another_destination_is_refused_with_what_is_accepted(destination):
    with pytest.raises(AMMError, match=r"expected a file ending in \.prom, 'otlp'"):
        export_results(report(), destination, suite="unit")


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(AMMError, match=r"cannot write .*x/a\.prom: No such file"):
        export_results(report(), str(tmp_path / "x" / "a.prom"), suite="unit")
