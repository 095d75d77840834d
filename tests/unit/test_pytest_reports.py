"""JSON file, suggestions, annotations and the page, as functions of values."""

from __future__ import annotations

import dataclasses
import io
import json
import ntpath
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pytest_amm import suggest
from pytest_amm.annotations import annotation, folder_in
from pytest_amm.breach import Breach
from pytest_amm.jsonfile import SCHEMA, JsonReport, ReportError, load, summary
from pytest_amm.page import page, ticks
from pytest_amm.records import Phase, Record, to_data

MB = 1 << 20
BREACH = Breach(scope="test", budget_bytes=MB, peak_bytes=3 * MB, phase="call", source="marker")


def record(name: str, growth_mb: int, breach: Breach | None = None, *, leak: str = "") -> Record:
    phase = Phase("call", 10 * MB, (10 + growth_mb) * MB, 10 * MB, (10 + growth_mb) * MB)
    return Record(
        nodeid=name,
        outcome="failed" if breach or leak == "leak" else "passed",
        start_seconds=1.0,
        seconds=0.5,
        phases=(phase,),
        location=("t.py", 7),
        breach=breach,
        leak=leak,
    )


def document(*records: Record) -> dict[str, object]:
    tests = [{**to_data(each), "message": ""} for each in records]
    session = {"python": "3.11", "pytest": "9", "amm": "1"}
    return {"schema": SCHEMA, "session": session, "summary": summary(tests, 100 * MB), "tests": tests}


def test_the_file_is_valid_json_after_every_test(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    report = JsonReport(str(path), {"python": "3"})
    assert json.loads(path.read_text())["tests"] == []
    for number in range(3):
        report.add(to_data(record(f"t{number}", number)))
        read = json.loads(path.read_text())
        assert [test["nodeid"] for test in read["tests"]] == [f"t{each}" for each in range(number + 1)]
        assert read["complete"] is False
    report.complete({"tests": [to_data(record("only", 1))]})
    assert load(str(path))["complete"] is True
    assert [each.name for each in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "r.json: not a JSON report of --amm-json (no schema 'amm-pytest/1')"),
        ("[]", "r.json: not a JSON report of --amm-json (no schema 'amm-pytest/1')"),
        ("{", "r.json: not a JSON report of --amm-json (Expecting property name enclosed in double quotes: "
            "line 1 column 2 (char 1))"),
        ('{"schema": "amm-pytest/1"}', "r.json: not a JSON report of --amm-json (its tests are not as documented)"),
        ('{"schema": "amm-pytest/1", "tests": [{"nodeid": "t.py::t", "outcome": "passed", "growth_bytes": "9"}]}',
            "r.json: not a JSON report of --amm-json (its tests are not as documented)"),
    ],
)  # fmt: skip
def test_another_file_is_refused_in_words(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(ReportError) as caught:
        load(str(path))
    assert str(caught.value) == message


def test_a_file_that_nests_too_deep_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text("[" * 100_000)
    with pytest.raises(ReportError, match=r"^r\.json: not a JSON report of --amm-json"):
        load(str(path))


def suggested(tmp_path: Path, *options: str) -> str:
    path = tmp_path / "r.json"
    path.write_text(json.dumps(document(*(record(f"a.py::t{n}", 2) for n in range(30)), record("b.py::big", 80))))
    out = io.StringIO()
    assert suggest.main([str(path), *options], out) == 0
    return out.getvalue()


def test_suggested_markers_leave_headroom(tmp_path: Path) -> None:
    assert suggested(tmp_path) == (
        'pytest --amm-budget=113MB --amm-test-budget=16MB\n\n@pytest.mark.amm_budget("100MB")  # b.py::big\n'
    )


@pytest.mark.parametrize(("summary", "session_mib"), [({"tree_peak_bytes": 200 * MB}, 250), ({}, 50), (None, 50)])
def test_the_session_budget_has_room_for_all_workers(summary: object, session_mib: int) -> None:
    report = {"tests": [to_data(record("t.py::t", 30))], "summary": summary}
    assert suggest.suggestions([report], headroom_ratio=0.25, least_bytes=MB)[0] == session_mib


def test_a_function_with_parameters_gets_one_marker() -> None:
    special = {"t.py::f[1]": 20, "t.py::f[2]": 30, "t.py::g": 25}
    assert suggest.as_markers(100, 16, special)[2:] == [
        '@pytest.mark.amm_budget("30MB")  # t.py::f[2]',
        '@pytest.mark.amm_budget("25MB")  # t.py::g',
    ]


def test_nothing_is_suggested_from_a_run_without_tests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "empty.json"
    path.write_text(json.dumps({"schema": SCHEMA, "tests": []}))
    with pytest.raises(SystemExit):
        suggest.main([str(path)], io.StringIO())
    assert "error: no test stands in what was given" in capsys.readouterr().err


def test_what_a_stopped_test_needs_is_not_known_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pasted back, the suggestion would stop it again."""
    tests = [to_data(record("t.py::fine", 3)), to_data(record("t.py::stopped", 3, BREACH))]
    path, out = tmp_path / "report.json", io.StringIO()
    path.write_text(json.dumps({"schema": SCHEMA, "complete": False, "tests": tests}))
    suggest.main([str(path)], out)
    told = capsys.readouterr().err.splitlines()
    assert "note" not in out.getvalue()
    assert told == [
        "note: not counted, as they failed or were stopped: t.py::stopped; see all with --amm-on-breach=warn",
        "note: a run was killed before its end: tests after that are not in its report",
    ]


def test_a_test_that_passed_in_another_report_is_known() -> None:
    stopped, fine = ({"tests": [to_data(record("t.py::t", 3, breach))]} for breach in (BREACH, None))
    assert list(suggest.notes([stopped])) != []
    assert list(suggest.notes([stopped, fine])) == []


def test_suggested_ini_is_by_file_and_reads_back(tmp_path: Path) -> None:
    text = suggested(tmp_path, "--ini", "--headroom=50%", "--least=1MB")
    assert text == ("[pytest]\namm_budget = 135MB\namm_test_budget = 3MB\namm_budget_for =\n    b.py = 120MB\n")


def test_an_annotation_names_file_and_line_and_escapes() -> None:
    assert annotation(record("t.py::x[50%,\n]", 3, BREACH)) == (
        "::error file=t.py,line=7,title=Memory budget::t.py::x[50%25,%0A]: grew 3 MiB in call, 2 MiB over 1 MiB"
    )
    assert annotation(record("t.py::x", 3)) is None


def test_a_leak_is_an_annotation_too() -> None:
    text = annotation(record("t.py::x", 3, leak="leak"))
    assert text is not None
    assert text.startswith("::error file=t.py,line=7,title=Memory leak::t.py::x: each call leaves memory behind")
    assert annotation(record("t.py::x", 3, leak="clean")) is None


@pytest.mark.parametrize("outcome", ["passed", "skipped"])
def test_a_breach_that_only_warns_is_a_warning_there_too(outcome: str) -> None:
    """Also of a test that fails as expected."""
    text = annotation(dataclasses.replace(record("t.py::x", 3, BREACH), outcome=outcome))
    assert text is not None
    assert text.startswith("::warning file=t.py,")


@pytest.mark.parametrize(
    ("workspace", "rootdir", "path"),
    [
        (None, "/repo", "t.py"),
        ("/repo", "/repo", "t.py"),
        ("/repo", "/repo/python/lib", "python/lib/t.py"),
        ("/repo", "/elsewhere", "t.py"),
    ],
)
def test_an_annotation_finds_its_file_from_the_top_of_the_repository(
    workspace: str | None, rootdir: str, path: str
) -> None:
    text = annotation(record("t.py::x", 3, BREACH), folder=folder_in(workspace, rootdir))
    assert text is not None
    assert text.startswith(f"::error file={path},line=7,")


def test_on_another_drive_a_rootdir_is_in_no_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as windows:
        windows.setattr(os, "path", ntpath)
        folders = [folder_in(r"D:\a\shop", root) for root in (r"C:\elsewhere", r"D:\a\shop\python")]
    assert folders == ["", "python"]


class Balance(HTMLParser):
    """Counts tags that were not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "input", "line", "rect", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "rect", "polyline"):
            if tag == "title" and self.open[-1] != "title":
                return
            assert self.open.pop() == tag


def test_the_page_is_whole_asks_for_nothing_and_escapes() -> None:
    text = page(document(record("t.py::a[<script>]", 5), record("t.py::b", 9, BREACH)), [(0.0, MB), (1.0, 9 * MB)])
    balance = Balance()
    balance.feed(text)
    assert balance.open == []
    assert "<script>]" not in text
    assert not re.search(r"(src|href)=|url\(|https?:", text)
    assert "budget 100 MiB" in text
    assert text.index("t.py::b", text.index("<tbody>")) < text.index("t.py::a", text.index("<tbody>"))


def test_the_page_tells_leaks_of_tests_and_across_them() -> None:
    leaking = document(record("t.py::leaky", 5, leak="leak"), record("t.py::fine", 5, leak="clean"))
    growth = {"decision": "leak", "worker": "gw1", "bytes_per_test": 200 * 1024, "tests": 60}
    text = page({**leaking, "suite_growth": [growth, {**growth, "decision": "clean"}]})
    assert "<h2>Leaks</h2>" in text
    assert text.count("t.py::leaky: leaks") == 1
    assert "t.py::fine: leaks" not in text
    assert '<span class="bad">1 leak</span>' in text
    assert text.count("gw1 leaks 200 KiB a test across 60 tests") == 1


@pytest.mark.parametrize("worker", ["", "[gw0] linux -- Python 3.11.7 /usr/bin/python3\n"])
def test_the_page_says_how_much_a_test_leaks(worker: str) -> None:
    leaking = document(record("t.py::leaky", 5, leak="leak"))
    leaking["tests"][0]["message"] = worker + "leaks 5 KiB a call, 1 KiB allowed\n  what  t.py::leaky"
    assert "t.py::leaky: leaks 5 KiB a call, 1 KiB allowed</summary>" in page(leaking)


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (210, [0, 50, 100, 150, 200]),
        (38, [0, 10, 20, 30]),
        (1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.003, [0, 1e-3, 2e-3, 3e-3]),
    ],
)
def test_the_axes_have_round_figures(most: float, expected: list[float]) -> None:
    assert ticks(most * MB, MB) == pytest.approx([each * MB for each in expected])


def test_the_page_draws_no_bar_for_a_test_whose_process_was_killed() -> None:
    killed = dataclasses.replace(record("t.py::killed", 5, BREACH), start_seconds=0.0, seconds=0.0)
    drawn = page(document(record("t.py::other", 5), killed)).partition("</svg>")[0]
    assert ("t.py::other" in drawn, "t.py::killed" in drawn) == (True, False)


def test_the_page_draws_a_breach_above_all_that_held() -> None:
    """A test of a millisecond among thousands was hidden beneath its neighbours."""
    drawn = page(document(record("t.py::over", 5, BREACH), record("t.py::fine", 5))).partition("</svg>")[0]
    assert drawn.index("t.py::over") > drawn.index("t.py::fine")


def test_the_page_of_a_run_in_which_the_clock_was_set_back() -> None:
    early = dataclasses.replace(record("t.py::early", 5), start_seconds=-3600.0)
    assert "t.py::early" in page(document(early))


def test_the_page_of_an_empty_run() -> None:
    assert "Memory of 0 tests" in page(document(), [])


def test_the_page_holds_against_the_budget_what_all_processes_had() -> None:
    """Each worker of xdist was below the budget, together they broke it."""
    run = document(record("t.py::a", 60))
    run["summary"] = {**summary(run["tests"], 100 * MB), "tree_peak_bytes": 110 * MB}
    assert "highest test 70 MiB · all processes 110 MiB · 110% of the budget of 100 MiB" in page(run)
    run["summary"]["tree_peak_bytes"] = 70 * MB + 1
    assert "highest test 70 MiB · 70% of" in page(run)  # not the same figure twice
