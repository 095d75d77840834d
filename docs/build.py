"""Write docs/metrics.md from the metric table: python docs/build.py (a test holds that the file is up to date)."""

from __future__ import annotations

from pathlib import Path

from amm_exporter.export.group import group_name
from amm_exporter.export.names import GROUP_METRICS, METRICS, SUMMED_METRICS, Metric

PAGE = Path(__file__).parent / "metrics.md"
HEAD = """# Metrics

Made by `python docs/build.py` from the one table, `amm_exporter/export/names.py`. The Prometheus name is the same by a
scrape and by OTLP. Names of the OpenTelemetry semantic conventions are marked *; their text is the conventions' own. A
series is absent where there is nothing to measure: absent is not zero. In a family of worker processes each series
carries `process_pid`, and what the family shows together stands [at the end](#a-family-of-processes).

| Prometheus | OpenTelemetry | kind | labels | what to do with it |
|---|---|---|---|---|
"""


FAMILY = """
## A family of processes

Prefork workers and other processes that share an address show this as well, by a scrape only: by OTLP each is an
instance of its own, and the receiver sums.

| Prometheus | kind | labels | what to do with it |
|---|---|---|---|
"""
SUMS = """
Sums over all its processes, those that have ended among them, with the labels and the meaning of what they sum:
"""


def row(metric: Metric) -> str:
    star = "*" if metric.semconv else ""
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    name = f"`{metric.name}`{star} ({metric.unit})"
    return f"| `{metric.prometheus}` | {name} | {metric.kind} | {labels} | {metric.help} |\n"


def family_row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.prometheus}` | {metric.kind} | {labels} | {metric.help} |\n"


def page() -> str:
    metrics = "".join(map(row, METRICS.values()))
    family = "".join(map(family_row, GROUP_METRICS.values()))
    sums = "".join(f"\n- `{group_name(METRICS[name].prometheus)}`" for name in SUMMED_METRICS)
    return f"{HEAD}{metrics}{FAMILY}{family}{SUMS}{sums}\n"


if __name__ == "__main__":
    PAGE.write_text(page())
