"""All alerts, by rule group. A page in runbooks/ stands beside every name."""

from __future__ import annotations

from amm_exporter.export.memory_alerts import memory_alerts
from amm_exporter.export.promql import Group, Pace
from amm_exporter.export.upkeep_alerts import upkeep_alerts
from amm_exporter.policy import Policy


def alert_groups(policy: Policy, pace: Pace) -> tuple[Group, ...]:
    return memory_alerts(pace) + upkeep_alerts(policy, pace)


def alert_names(policy: Policy) -> tuple[str, ...]:
    return tuple(rule.name for group in alert_groups(policy, Pace()) for rule in group.rules)
