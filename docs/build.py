"""Write docs/metrics.md from the metric table: python docs/build.py (a test holds that the file is up to date)."""

from __future__ import annotations

from pathlib import Path

from amm_exporter.export.names import METRICS, Metric

PAGE = Path(__file__).parent / "metrics.md"
HEAD = """# Metrics

Made by `python docs/build.py` from the one table, `amm_exporter/export/names.py`. The Prometheus name is the same by a
scrape and by OTLP. Names of the OpenTelemetry semantic conventions are marked *; their text is the conventions' own. A
series is absent where there is nothing to measure: absent is not zero. In a family of worker processes each series
carries `process_pid`, and the sums of the family stand beside it.

| Prometheus | OpenTelemetry | kind | labels | what to do with it |
|---|---|---|---|---|
"""


def row(metric: Metric) -> str:
    star = "*" if metric.semconv else ""
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    name = f"`{metric.name}`{star} ({metric.unit})"
    return f"| `{metric.prometheus}` | {name} | {metric.kind} | {labels} | {metric.help} |\n"


def page() -> str:
    return HEAD + "".join(row(metric) for metric in METRICS.values())


if __name__ == "__main__":
    PAGE.write_text(page())
