"""Builds a promtool unit test from metric names of the table, runs it twice on every promtool at hand.

AMM_PROMTOOLS names further promtools to the installed one, separated by colons; `make long` adds Debian trixie's. Times
are minutes, and one sample of a series is one minute: `"0.5x10 0.9x5"` is ten minutes at 0.5 and five at 0.9, `_x3`
three minutes of nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from amm_exporter.export.names import METRICS
from amm_exporter.export.promql import Pace, selector
from amm_exporter.export.rules import rule_files, rule_groups, runbook_page
from amm_exporter.policy import Policy, load_policy

TARGET = {"job": "api", "instance": "one:9464"}
SCOPE = {"otel_scope_name": "amm_exporter", "otel_scope_version": "1", "otel_scope_schema_url": ""}
TIERS = {"moderate": 0.6, "high": 0.7, "severe": 0.8, "critical": 0.85}


class Case:
    """One promtool test: feed series, then say what must hold at which minute."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        (self.rules,) = rule_files(policy).values()
        self.sample_minutes = 1
        self._series: list[dict[str, str]] = []
        self._alerts: list[dict[str, Any]] = []
        self._queries: list[dict[str, Any]] = []

    def feed(self, metric: str, values: str, part: str = "", **labels: str) -> None:
        """A series of a metric of the table (or `up`), from the target one:9464 unless the labels differ."""
        scope = SCOPE if metric.startswith("amm.") else {}
        row = METRICS.get(metric)
        name = f"{row.prometheus}{part}" if row else metric
        every = {**TARGET, **scope, **labels}
        self._series.append({"series": name + selector(every), "values": _expand(values)})

    def thresholds(self, minutes: int, *, leave_out: tuple[str, ...] = (), **labels: str) -> None:
        """What a healthy process exports of its policy."""
        for tier, ratio in TIERS.items():
            if tier not in leave_out:
                self.feed("amm.memory.tier.threshold_ratio", f"{ratio}x{minutes}", tier=tier, **labels)
        for key, value in (("deviations", 4), ("floor_ratio", 1.1), ("ceiling_ratio", 0.8)):
            if key not in leave_out:
                self.feed(f"amm.anomaly.{key}", f"{value}x{minutes}", **labels)

    def fires(self, alert: str, at: int, *says: str, **labels: str) -> None:
        """Exactly these alerts of that name fire at that minute: one for each description (and these labels)."""
        rule = next(rule for group in rule_groups(self.policy, Pace()) for rule in group.rules if rule.name == alert)
        expected = [
            {
                "exp_labels": {"severity": rule.severity, **TARGET, **labels},
                "exp_annotations": {
                    "summary": rule.summary,
                    "description": text,
                    "runbook_url": runbook_page(alert),
                },
            }
            for text in says
        ]
        self._alerts.append({"alertname": alert, "eval_time": f"{at}m", "exp_alerts": expected})

    def silent(self, alert: str, at: int) -> None:
        self.fires(alert, at)

    def firing(self, alert: str, at: int, count: int = 1) -> None:
        """So many alerts of that name fire, whatever they say."""
        found = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}}) or vector(0)'
        self.query(found, at, {"": count})

    def only_firing(self, at: int, *alerts: str) -> None:
        found = 'group by (alertname) (ALERTS{alertstate="firing"})'
        self.query(found, at, {selector({"alertname": name}): 1 for name in alerts})

    def query(self, expr: str, at: int, samples: dict[str, float]) -> None:
        """The query gives exactly these samples (labels with name: value) at that minute."""
        expected = [{"labels": labels, "value": value} for labels, value in samples.items()]
        self._queries.append({"expr": expr, "eval_time": f"{at}m", "exp_samples": expected})

    def value(self, record: str, at: int, value: float, within: float = 1e-9, **labels: str) -> None:
        """A recorded series of the target is this value, give or take (promtool compares exactly before 3.0)."""
        labels = {**TARGET, **labels}
        self.query(f"abs({record}{selector(labels)} - {value!r}) <= bool {within}", at, {selector(labels): 1})

    def absent(self, record: str, at: int) -> None:
        self.query(record, at, {})

    def document(self, rule_file: str) -> dict[str, Any]:
        test = {
            "interval": f"{self.sample_minutes}m",
            "input_series": self._series,
            "alert_rule_test": self._alerts,
            "promql_expr_test": self._queries,
        }
        order = [group.name for group in rule_groups(self.policy, Pace())]
        return {
            "rule_files": [rule_file],
            "evaluation_interval": f"{self.sample_minutes}m",
            "group_eval_order": order,
            "tests": [test],
        }


def _expand(values: str) -> str:
    def token(text: str) -> str:
        value, times, count = text.partition("x")
        if not times or value == "_" or "+" in value or "-" in value[1:]:
            return text
        return f"{value}+0x{int(count) - 1}"

    return " ".join(token(text) for text in values.split())


def _promtools() -> list[str]:
    named = [path for path in os.environ.get("AMM_PROMTOOLS", "").split(":") if path]
    return [*([shutil.which("promtool") or "promtool"]), *named]


@pytest.fixture(scope="session")
def default_policy() -> Policy:
    return load_policy({}, environ={})


@pytest.fixture(params=_promtools(), ids=lambda path: subprocess.getoutput(f"{path} --version").split()[2][:6])
def case(request: pytest.FixtureRequest, tmp_path: Path, default_policy: Policy) -> Any:
    """A case that is run, twice over, when the test function is done."""
    built = Case(default_policy)
    yield built
    (tmp_path / "rules.yml").write_text(built.rules)
    document = tmp_path / "test.yml"
    document.write_text(yaml.safe_dump(built.document("rules.yml"), sort_keys=False))
    command = [request.param, "test", "rules", str(document), str(document)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        pytest.fail(run.stdout + run.stderr, pytrace=False)
