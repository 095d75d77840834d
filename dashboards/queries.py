"""The pieces of the dashboards' queries: selectors of the chosen job and instance, one series a process."""

from __future__ import annotations

from amm_exporter.export.promql import TABLE, selector
from amm_exporter.export.promql import series as table_series

PROCESS = "job, instance, process_pid"
"""The labels that say which process; those of scopes and targets are summed away."""
WHO = "{{instance}} {{process_pid}}"
EVERY = {"job": "~$job", "instance": "~$instance"}
RATE = "[$__rate_interval]"


def of(metric: str, part: str = "", /, **labels: str) -> str:
    """The selector of a metric of the table, for the chosen jobs and instances."""
    table_series(metric, part, **labels)  # refuses a label the metric does not have
    row = TABLE[metric]
    return (f"{row.prometheus}_{part}" if part else row.prometheus) + selector({**EVERY, **labels})


def recorded(name: str, /, **labels: str) -> str:
    """The selector of a recorded series, or of ALERTS, for the chosen jobs and instances."""
    return name + selector({**EVERY, **labels})


def rate(metric: str, part: str = "", /, **labels: str) -> str:
    return f"rate({of(metric, part, **labels)}{RATE})"


def increase(metric: str, /, **labels: str) -> str:
    return f"increase({of(metric, **labels)}{RATE})"


def each(operation: str, expr: str, *labels: str) -> str:
    """Aggregated to one series a process (and value of `labels`)."""
    return f"{operation} by ({', '.join((PROCESS, *labels))}) ({expr})"
