"""Pieces of PromQL and of rule files: selectors from the metric table, durations, groups. What is asked is in
`recording`, `memory_alerts` and `upkeep_alerts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from amm_exporter.export.names import GROUP_METRICS, METRICS, SUMMED_METRICS

SCOPE_LABELS = ("otel_scope_name", "otel_scope_version", "otel_scope_schema_url")
"""What the OpenTelemetry Prometheus reader adds to every series and others do not: never part of a join."""

TABLE = {**METRICS, **GROUP_METRICS}
"""Every metric that may be named: of a process, and of a prefork family as a whole."""

CRITICAL, WARNING, INFO = "critical", "warning", "info"
"""The severities that mixins use: page, look into it today, know of it."""

WHO = "{{ $labels.job }} at {{ $labels.instance }}{{ with $labels.process_pid }} (pid {{ . }}){{ end }}"
"""The process, as an alert's description names it."""

_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A recording rule."""

    name: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alerting rule. `wait` and `keep` are durations (`for`, `keep_firing_for`), empty where there is none."""

    name: str
    expr: str
    severity: str
    summary: str
    description: str
    wait: str = ""
    keep: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A rule group. `interval` is empty where the server's evaluation interval serves."""

    name: str
    rules: tuple[Record | Alert, ...]
    interval: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast the rules live: 1 for production, 60 to see in a second what takes a minute (rehearsals and tests)."""

    speed: float = 1.0

    def __call__(self, seconds: float) -> str:
        """A PromQL duration of `seconds` at this pace, at least one second: `5m`, `1d`, `90s`."""
        whole = max(1, round(self.seconds(seconds)))
        unit, factor = next((unit, factor) for unit, factor in _UNITS if whole % factor == 0)
        return f"{whole // factor}{unit}"

    def seconds(self, seconds: float) -> float:
        return seconds / self.speed


def series(metric: str, part: str = "", /, **labels: str) -> str:
    """The selector of a metric of the table; `part` is a histogram's `sum`, `count` or `bucket`.

    A label value that starts with `~` is a regular expression. Raises KeyError for a metric or label the table lacks.
    """
    row = TABLE[metric]
    if unknown := set(labels) - set(row.labels):
        raise KeyError(f"{metric} has no label {sorted(unknown)}; it has {row.labels}")
    name = f"{row.prometheus}_{part}" if part else row.prometheus
    return name + selector(labels)


def of_group(metric: str) -> str:
    """The name under which a prefork family sums the metric over all its processes, also those that have ended."""
    if metric not in SUMMED_METRICS:
        raise KeyError(f"{metric} is not summed over a group")
    return "amm_group_" + METRICS[metric].prometheus.removeprefix("amm_")


def selector(labels: Mapping[str, str]) -> str:
    """`{tier="high"}`, or nothing without labels."""
    if not labels:
        return ""
    matchers = (
        f'{key}=~"{value[1:]}"' if value.startswith("~") else f'{key}="{value}"' for key, value in labels.items()
    )
    return "{" + ", ".join(matchers) + "}"


def fold(operation: str, expr: str, *labels: str) -> str:
    """Aggregate the scope labels and `labels` away. All that says which target it is stays, whatever it is called."""
    return f"{operation} without ({', '.join((*labels, *SCOPE_LABELS))}) ({expr})"
