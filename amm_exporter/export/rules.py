"""Writes the rules for a policy, as Prometheus rule files or a Kubernetes PrometheusRule, and an Alertmanager example.

What is in the rules: `recording`, `memory_alerts` and `upkeep_alerts`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import yaml

from amm_exporter.export.alerts import alert_groups
from amm_exporter.export.promql import Alert, Group, Pace, Record
from amm_exporter.export.recording import recording_groups
from amm_exporter.policy import Policy

HOME_PAGE = "https://github.com/amm-exporter/amm"
RUNBOOK_URL = HOME_PAGE + "/blob/main/runbooks/{alert}.md"
"""Where an alert's page is; `{alert}` stands for its name."""

_HEADER = "# Written by `amm rules`. Edit the policy, not this file.\n"


def rule_files(policy: Policy, *, runbook_url: str = RUNBOOK_URL, pace: Pace | None = None) -> dict[str, str]:
    """File name to YAML text, for Prometheus's `rule_files`.

    `runbook_url` is a template with `{alert}` (without, the page's file name is appended). `pace` above 1 shortens
    every window, to rehearse the alerts.
    """
    document = {"groups": [_group(each, runbook_url) for each in rule_groups(policy, pace or Pace())]}
    return {"amm.yml": _HEADER + _dump(document)}


def kubernetes_manifest(policy: Policy, *, runbook_url: str = RUNBOOK_URL) -> str:
    """The same rules as one PrometheusRule resource of the Prometheus Operator (monitoring.coreos.com/v1)."""
    manifest = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "amm-exporter", "labels": {"app.kubernetes.io/name": "amm-exporter"}},
        "spec": {"groups": [_group(each, runbook_url) for each in rule_groups(policy, Pace())]},
    }
    return _HEADER + _dump(manifest)


def alertmanager_example() -> str:
    """A configuration in which CRITICAL silences what the same process says besides, and SEVERE silences HIGH."""
    return _ALERTMANAGER


def rule_groups(policy: Policy, pace: Pace) -> tuple[Group, ...]:
    """Groups of one topic: what is recorded, then the alerts on it, which so see the values of the same instant."""
    alerts = {group.name: group.rules for group in alert_groups(policy, pace)}
    recorded = recording_groups(policy, pace)
    joined = tuple(replace(group, rules=group.rules + alerts.pop(group.name, ())) for group in recorded)
    return joined + tuple(Group(name=name, rules=rules) for name, rules in alerts.items())


def _group(group: Group, runbook_url: str) -> dict[str, Any]:
    head = {"name": group.name, **({"interval": group.interval} if group.interval else {})}
    return {**head, "rules": [_rule(rule, runbook_url) for rule in group.rules]}


def _rule(rule: Record | Alert, runbook_url: str) -> dict[str, Any]:
    if isinstance(rule, Record):
        labels = {"labels": dict(rule.labels)} if rule.labels else {}
        return {"record": rule.name, "expr": rule.expr, **labels}
    waits = {"for": rule.wait, "keep_firing_for": rule.keep}
    return {
        "alert": rule.name,
        "expr": rule.expr,
        **{key: value for key, value in waits.items() if value},
        "labels": {"severity": rule.severity},
        "annotations": {
            "summary": rule.summary,
            "description": rule.description,
            "runbook_url": runbook_page(rule.name, runbook_url),
        },
    }


def runbook_page(alert: str, runbook_url: str = RUNBOOK_URL) -> str:
    template = runbook_url if "{alert}" in runbook_url else runbook_url.rstrip("/") + "/{alert}.md"
    return template.replace("{alert}", alert)


class _Dumper(yaml.SafeDumper):
    """Queries of several lines as they are read, not as one quoted line; items indented under their key."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else ">" if len(text) > 90 else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _dump(document: dict[str, Any]) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


_ALERTMANAGER = """\
# Written by `amm rules --alertmanager`. Put your own receivers in; keep the inhibition.
route:
  receiver: default
  group_by: [alertname, job]
  group_wait: 10s
  group_interval: 1m
  repeat_interval: 4h
  routes:
    # what may end a process within seconds does not wait for company
    - receiver: pager
      matchers: [severity = "critical", alertname =~ "Amm.+"]
      group_by: [alertname, job, instance, process_pid]
      group_wait: 0s
      group_interval: 10s

inhibit_rules:
  # CRITICAL silences what the same process says besides; events that happened are still told
  - source_matchers: [alertname = "AmmMemoryCritical"]
    target_matchers: [alertname =~ "Amm.+", alertname !~ "AmmMemoryCritical|AmmEmergencyStop|AmmOomKill"]
    equal: [job, instance, process_pid]
  - source_matchers: [alertname = "AmmMemorySevere"]
    target_matchers: [alertname =~ "AmmMemoryHigh|AmmPressureAnomalous"]
    equal: [job, instance, process_pid]
  - source_matchers: [alertname = "AmmBudgetBurnFast"]
    target_matchers: [alertname = "AmmBudgetBurnSlow"]
    equal: [job, instance, process_pid]

receivers:
  - name: default
  - name: pager
    webhook_configs:
      - url: http://localhost:5001/
"""
