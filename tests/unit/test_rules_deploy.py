"""The files that docs/deploy.md speaks of fit together and fit what the commands write."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from amm_exporter.cli import COMMANDS
from amm_exporter.export.alerts import alert_groups
from amm_exporter.export.dashboards import NAMES
from amm_exporter.export.promql import Pace
from amm_exporter.export.rules import kubernetes_manifest, rule_files
from amm_exporter.policy import load_policy

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "examples" / "deploy"
POLICY = load_policy({}, environ={})
PAGES = [ROOT / "docs" / "deploy.md", ROOT / "docs" / "alerting.md"]


def parsed(name):
    return list(yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8")))


def test_prometheus_loads_the_rules_under_the_name_they_are_written_to():
    (config,) = parsed("prometheus.yml")
    assert [Path(name).name for name in config["rule_files"]] == list(rule_files(POLICY))


def test_compose_mounts_what_prometheus_and_grafana_read():
    (compose,) = parsed("compose.yaml")
    services = compose["services"]
    assert "./rules:/etc/prometheus/rules:ro" in services["prometheus"]["volumes"]
    (provider,) = parsed("grafana/provisioning/dashboards/amm.yml")
    folder = provider["providers"][0]["options"]["path"]
    assert f"./dashboards:{folder}:ro" in services["grafana"]["volumes"]
    (config,) = parsed("prometheus.yml")
    named = [target for job in config["scrape_configs"] for target in job["static_configs"][0]["targets"]]
    named += config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    assert {name.partition(":")[0] for name in named} <= set(services)


def test_compose_and_kubernetes_start_the_program_on_the_port_that_is_scraped():
    (compose,) = parsed("compose.yaml")
    deployment, service = parsed("kubernetes/application.yaml")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    for command in (compose["services"]["api"]["command"], container["command"]):
        assert command[:2] == ["amm", "run"]
        assert command[command.index("--port") + 1] == "9464"
    assert container["ports"] == [{"name": "amm", "containerPort": 9464}]
    (monitor,) = parsed("kubernetes/servicemonitor.yaml")
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()


def test_the_image_is_built_of_files_that_are_here():
    (compose,) = parsed("compose.yaml")
    build = compose["services"]["api"]["build"]
    context = (DEPLOY / build["context"]).resolve()
    assert context == ROOT
    copies = re.findall(r"^COPY (.+) \S+$", (context / build["dockerfile"]).read_text(encoding="utf-8"), re.MULTILINE)
    sources = {name for line in copies for name in line.split()}
    assert all((ROOT / name).exists() for name in sources)
    needed = {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "amm_exporter",
        "pytest_amm",
        "dashboards",
    }  # what a wheel takes
    assert needed <= sources
    assert Path(compose["services"]["api"]["command"][-2]).name in {Path(name).name for name in sources}


def test_monitor_and_rules_carry_the_same_label():
    (monitor,) = parsed("kubernetes/servicemonitor.yaml")
    assert yaml.safe_load(kubernetes_manifest(POLICY))["metadata"]["labels"] == monitor["metadata"]["labels"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_links_to_files_that_exist(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_gives_commands_that_exist(page):
    blocks = "".join(re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL))
    for line in blocks.splitlines():
        if line.startswith("amm "):
            assert shlex.split(line)[1] in COMMANDS, line


def test_the_page_on_alerting_lists_every_alert_as_it_is():
    rows = re.findall(
        r"^\| \[(\w+)\]\(.*\) \| (\w+) \| (.*) \|$", PAGES[1].read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    alerts = [rule for group in alert_groups(POLICY, Pace()) for rule in group.rules]
    assert rows == [(rule.name, rule.severity, rule.summary) for rule in alerts]


def test_the_dashboards_have_the_names_the_page_tells():
    assert NAMES == ("amm-fleet.json", "amm-process.json", "amm-tests.json")
