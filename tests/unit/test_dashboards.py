"""The dashboards as files: equal to what builds them, complete, and linked to each other and to the runbooks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from amm_exporter.errors import AMMError
from amm_exporter.export import dashboards
from amm_exporter.export.promql import TABLE
from amm_exporter.export.recording import recorded_names
from amm_exporter.export.rules import HOME_PAGE, RUNBOOK_URL
from amm_exporter.model import Tier
from amm_exporter.policy import load_policy

ROOT = Path(__file__).parents[2]
BOARDS = {name: json.loads(text) for name, text in dashboards.dashboard_files().items()}
CHECKER = ROOT.parent / "shared" / "tools" / "check_dashboards.py"

each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)


def panels(board):
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries(board):
    return [target["expr"] for panel in panels(board) for target in panel["targets"]]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="grafana-foundation-sdk needs Python 3.11")
def test_the_committed_files_are_what_builds_them():
    code = "import json, build; print(json.dumps(build.dashboards()))"
    environment = {"PYTHONPATH": str(ROOT / "dashboards"), "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=ROOT, env=environment)
    assert json.loads(run.stdout) == dashboards.dashboard_files()


@each_board
def test_every_panel_has_title_description_unit_and_query(board):
    for panel in panels(board):
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]


@each_board
def test_every_selector_follows_the_chosen_job_and_instance(board):
    for expr in queries(board):
        selectors = re.findall(r"\{([^}]*)\}", expr)
        assert selectors, expr
        assert all('job=~"$job", instance=~"$instance"' in each for each in selectors), expr


@each_board
def test_every_series_named_exists(board):
    known = {row.prometheus + part for row in TABLE.values() for part in ("", "_sum", "_count", "_bucket")}
    known |= recorded_names(load_policy({}, environ={})) | {"up", "ALERTS"}
    for expr in queries(board):
        assert set(re.findall(r"[\w:]+(?=\{)", expr)) <= known, expr


def test_every_metric_is_on_a_dashboard():
    shown = " ".join(expr for board in BOARDS.values() for expr in queries(board))
    (text,) = [path.read_text(encoding="utf-8") for path in (ROOT / "rules").glob("*.yml")]
    rules = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"] if "record" in rule]
    shown += " ".join(rule["expr"] for rule in rules if rule["record"] in shown)
    missing = [row.name for row in TABLE.values() if not re.search(rf"\b{row.prometheus}(_bucket|_sum)?\b", shown)]
    assert missing == []


@each_board
def test_division_cannot_give_nan(board):
    for expr in queries(board):
        if "/" in expr:
            assert re.search(r"> 0\)$", expr), expr
        if "histogram_quantile" in expr:
            assert " and " in expr, expr


def test_tier_names_are_mapped_wherever_a_tier_is_shown():
    raw = re.compile(r"^\w+ by \([^)]*\) \(amm_memory_tier\{[^}]*\}\)$")
    shown = [panel for board in BOARDS.values() for panel in panels(board) if raw.match(panel["targets"][0]["expr"])]
    assert {panel["type"] for panel in shown} == {"stat", "state-timeline", "table"}
    names = {str(int(tier)): tier.name for tier in Tier}
    for panel in shown:
        field = panel["fieldConfig"]
        found = list(field["defaults"].get("mappings") or [])
        for override in field["overrides"]:
            found += [
                mapping for each in override["properties"] if each["id"] == "mappings" for mapping in each["value"]
            ]
        (mapping,) = found
        assert {value: option["text"] for value, option in mapping["options"].items()} == names, panel["title"]


@each_board
def test_it_links_to_the_others_and_the_runbooks(board):
    urls = {link["url"] for link in board["links"]}
    others = {f"/d/{other['uid']}" for other in BOARDS.values()} - {f"/d/{board['uid']}"}
    assert urls == others | {f"{HOME_PAGE}/tree/main/runbooks"}


def test_the_alert_table_links_each_alert_to_its_page():
    (table,) = [panel for panel in panels(BOARDS["amm-fleet.json"]) if panel["title"] == "Alerts"]
    links = json.dumps(table["fieldConfig"]["overrides"])
    assert RUNBOOK_URL.replace("{alert}", "${__value.raw}") in links


@each_board
def test_panels_are_numbered(board):
    assert [panel["id"] for panel in board["panels"]] == list(range(1, len(board["panels"]) + 1))


@each_board
def test_panels_do_not_overlap_and_fit_the_grid(board):
    taken = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


def test_an_installation_without_them_says_so(tmp_path):
    with pytest.raises(AMMError, match="incomplete"):
        dashboards.dashboard_files((tmp_path,))


if CHECKER.is_file():

    def test_the_schema_and_lint_checks_find_nothing():
        files = [*sorted((ROOT / "dashboards").glob("*.json")), *sorted((ROOT / "rules").glob("*.yml"))]
        run = subprocess.run([sys.executable, CHECKER, *files], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr
