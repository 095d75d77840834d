"""The rules as text: equal to what is committed, true to the metric table, moved by the policy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from amm_exporter.export.alerts import alert_names
from amm_exporter.export.names import SUMMED_METRICS
from amm_exporter.export.promql import TABLE, Alert, Pace, fold, of_group, series
from amm_exporter.export.recording import BASELINE, default_ratio, recorded_names
from amm_exporter.export.rules import alertmanager_example, kubernetes_manifest, rule_files, rule_groups, runbook_page
from amm_exporter.model import Tier
from amm_exporter.policy import load_policy

ROOT = Path(__file__).parents[2]
DEFAULT = load_policy({}, environ={})
PROMETHEUS_NAMES = {row.prometheus + part for row in TABLE.values() for part in ("", "_sum", "_count", "_bucket")}
PROMETHEUS_NAMES |= {of_group(name) for name in SUMMED_METRICS}


def rules(policy=DEFAULT, pace=None):
    return [rule for group in rule_groups(policy, pace or Pace()) for rule in group.rules]


def test_the_committed_files_are_those_of_the_default_policy():
    committed = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "rules").glob("*.yml")}
    assert committed == rule_files(DEFAULT)


def test_every_series_named_is_in_the_metric_table_or_recorded_here():
    known = PROMETHEUS_NAMES | recorded_names(DEFAULT)
    for rule in rules():
        names = re.findall(r"\b(?:amm|process|cpython)[_:][a-z0-9_:]+", rule.expr)
        assert set(names) - {"process_pid", "cpython_gc_generation"} <= known, rule.name
        assert names, rule.name


def test_every_recorded_series_is_read_by_an_alert_or_a_dashboard():
    used = " ".join(rule.expr for rule in rules())
    used += " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "dashboards").glob("*.json"))
    for name in recorded_names(DEFAULT):
        assert re.search(re.escape(name) + r"(?![a-z0-9_:])", used), name


def test_no_alert_reads_a_threshold_without_its_default():
    """A comparison with a series that is missing is silently empty."""
    exported = ("amm_memory_tier_threshold_ratio", "amm_anomaly_", "amm_memory_leak_slope_threshold")
    for rule in rules():
        if isinstance(rule, Alert) and rule.name != "AmmThresholdsMissing":
            assert not any(name in rule.expr for name in exported), rule.name


def test_no_join_can_meet_a_scope_label():
    """Raw series are folded before they are compared with others; recorded ones have been."""
    for rule in rules():
        if re.search(r"\b(and|or|unless|ignoring|on)\b", rule.expr):
            assert not PROMETHEUS_NAMES & set(re.findall(r"[a-z0-9_:]+", unfolded(rule.expr))), rule.name


def unfolded(expr):
    """The expression without its aggregations, from the innermost parenthesis outwards."""
    expr = re.sub(r" (without|by) \([^)]*\)", "", expr)
    while match := re.search(r"(\w*) ?\(([^()]*)\)", expr):
        kept = "" if match[1] in ("max", "min", "sum", "count", "group") else match[2]
        expr = expr[: match.start()] + kept + expr[match.end() :]
    return expr


@pytest.mark.parametrize("rule", [rule for rule in rules() if isinstance(rule, Alert)], ids=lambda rule: rule.name)
def test_an_alert_is_written_as_people_expect(rule):
    assert re.fullmatch(r"Amm([A-Z][a-z]+)+", rule.name)
    assert len(rule.name) <= 40
    assert rule.severity in ("critical", "warning", "info")
    assert re.fullmatch(r"[A-Z][^{]+\.", rule.summary)
    assert "{{ $labels." in rule.description
    assert rule.description.endswith(".")
    assert rule.description.count("{{") == rule.description.count("}}")


def test_alert_names_are_unique():
    assert len(set(alert_names(DEFAULT))) == len(alert_names(DEFAULT))


def test_defaults_follow_the_policy():
    policy = load_policy(
        {"tiers": {"high": "72%"}, "leak": {"min_slope": "3600MB/h"}, "anomaly": {"floor": 1.3}}, environ={}
    )
    (text,) = rule_files(policy).values()
    assert "amm:pressure_ratio:max * 0 + 0.72" in text
    assert "amm:pressure_ratio:max * 0 + 1.3" in text
    assert "amm:leak_slope_lower:bytes_per_second * 0 + 1048576" in text


def test_a_threshold_that_is_a_size_leaves_the_default_ratio_for_who_exports_none():
    policy = load_policy({"tiers": {"high": "72%", "severe": "820GB"}, "limit": "1000GB"}, environ={})
    assert default_ratio(policy, Tier.SEVERE) == 0.8
    assert default_ratio(policy, Tier.HIGH) == 0.72


def test_a_slow_sampler_is_given_ten_of_its_intervals():
    policy = load_policy({"interval": "1m"}, environ={})
    assert "> 600\n" in next(rule.expr for rule in rules(policy) if rule.name == "AmmSamplerStalled")
    assert "> 60\n" in next(rule.expr for rule in rules() if rule.name == "AmmSamplerStalled")


def test_the_kubernetes_resource_holds_the_same_groups():
    manifest = yaml.safe_load(kubernetes_manifest(DEFAULT))
    (text,) = rule_files(DEFAULT).values()
    assert (manifest["apiVersion"], manifest["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert manifest["spec"] == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("template", "page"),
    [
        ("https://wiki/{alert}", "https://wiki/AmmOomKill"),
        ("https://wiki/amm", "https://wiki/amm/AmmOomKill.md"),
        ("https://wiki/amm/", "https://wiki/amm/AmmOomKill.md"),
        ("https://wiki?page={alert}#{alert}", "https://wiki?page=AmmOomKill#AmmOomKill"),
    ],
)
def test_a_runbook_template_takes_the_name_of_the_alert(template, page):
    assert runbook_page("AmmOomKill", template) == page
    (text,) = rule_files(DEFAULT, runbook_url=template).values()
    pages = {rule["alert"]: rule["annotations"]["runbook_url"] for group in yaml.safe_load(text)["groups"]
             for rule in group["rules"] if "alert" in rule}  # fmt: skip
    assert pages["AmmOomKill"] == page


def test_the_alertmanager_example_names_alerts_and_labels_that_exist():
    config = yaml.safe_load(alertmanager_example())
    named = {name for rule in config["inhibit_rules"] for matcher in rule["source_matchers"] + rule["target_matchers"]
             for name in re.findall(r"Amm[A-Za-z]+", matcher)}  # fmt: skip
    assert named
    assert named <= set(alert_names(DEFAULT))
    assert all(rule["equal"] == ["job", "instance", "process_pid"] for rule in config["inhibit_rules"])


@pytest.mark.parametrize(("seconds", "speed", "text"), [(300, 1, "5m"), (90, 1, "90s"), (BASELINE, 1, "1d"),
                                                        (300, 60, "5s"), (1, 60, "1s"), (0.01, 1, "1s")])  # fmt: skip
def test_durations_are_whole_and_at_least_a_second(seconds, speed, text):
    assert Pace(speed=speed)(seconds) == text


def test_a_selector_refuses_what_the_table_does_not_have():
    assert series("amm.pool.requests", result="wait") == 'amm_pool_requests_total{result="wait"}'
    assert series("amm.memory.usage_ratio", scope="~tree|cgroup") == 'amm_memory_usage_ratio{scope=~"tree|cgroup"}'
    with pytest.raises(KeyError, match=r"amm\.memory\.usage_ratio has no label"):
        series("amm.memory.usage_ratio", tier="high")
    with pytest.raises(KeyError):
        series("amm.no.such.metric")
    with pytest.raises(KeyError, match="not summed over a group"):
        of_group("amm.memory.usage")


def test_folding_keeps_the_labels_of_the_target():
    assert fold("max", "x", "tier") == (
        "max without (tier, otel_scope_name, otel_scope_version, otel_scope_schema_url) (x)"
    )
