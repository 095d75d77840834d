"""Prometheus text: the families of one scrape and how they are written, classic (0.0.4) and OpenMetrics (1.0.0).

Pure: what the families hold comes from translate.py, who asks for them is server.py's matter. prometheus_client could
write the same text, but to import it costs more CPU and memory than all the rest of AMM.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

COUNTER = "counter"
GAUGE = "gauge"
HISTOGRAM = "histogram"
INFO = "info"

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

Labels = tuple[tuple[str, str], ...]
"""Names and values of one series, sorted by name."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """A classic histogram: `counts[i]` is the i-th bucket alone, not cumulative; the last one is above all bounds."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float


Value = int | float | Buckets


@dataclass(slots=True)
class Family:
    """One metric and its series. `name` carries the unit but not `_total` or `_info`, as OpenMetrics names families."""

    name: str
    kind: str
    help: str = ""
    unit: str = ""
    series: dict[Labels, Value] = field(default_factory=dict)


def negotiate(accept: str) -> str:
    """The content type to answer with: OpenMetrics where the client names it, else classic text."""
    for choice in accept.split(","):
        media, *parameters = (part.strip() for part in choice.split(";"))
        if media.lower() == "application/openmetrics-text" and "q=0" not in parameters:
            return OPENMETRICS
    return TEXT


def render(families: Iterable[Family], content_type: str = TEXT) -> bytes:
    """The families as text. A family without series is left out."""
    openmetrics = content_type == OPENMETRICS
    lines: list[str] = []
    for family in families:
        if family.series:
            lines.extend(_header(family, openmetrics))
            lines.extend(_lines(family))
    if openmetrics:
        lines.append("# EOF")
    return ("\n".join(lines) + "\n").encode() if lines else b""


def _header(family: Family, openmetrics: bool) -> Iterator[str]:
    if openmetrics:
        yield f"# HELP {family.name} {_escape(family.help)}"
        yield f"# TYPE {family.name} {family.kind}"
        if family.unit:
            yield f"# UNIT {family.name} {family.unit}"
        return
    name = family.name + _SUFFIXES.get(family.kind, "")
    yield f"# HELP {name} {_escape(family.help, quotes=False)}"
    yield f"# TYPE {name} {GAUGE if family.kind == INFO else family.kind}"


def _lines(family: Family) -> Iterator[str]:
    name = family.name + _SUFFIXES.get(family.kind, "")
    for labels, value in family.series.items():
        written = ",".join([f'{key}="{_escape(text)}"' for key, text in labels])
        if isinstance(value, Buckets):
            yield from _histogram_lines(family.name, written, value)
        else:
            yield f"{name}{{{written}}} {_number(value)}" if written else f"{name} {_number(value)}"


def _histogram_lines(name: str, written: str, value: Buckets) -> Iterator[str]:
    prefix = f"{written}," if written else ""
    total = 0
    for bound, count in zip((*value.bounds, math.inf), value.counts, strict=True):
        total += count
        yield f'{name}_bucket{{{prefix}le="{_number(float(bound))}"}} {total}'
    labels = f"{{{written}}}" if written else ""
    yield f"{name}_count{labels} {total}"
    yield f"{name}_sum{labels} {_number(value.sum)}"


_SUFFIXES = {COUNTER: "_total", INFO: "_info"}


def _number(value: int | float) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return repr(value)


def _escape(text: str, quotes: bool = True) -> str:
    if "\\" in text:
        text = text.replace("\\", r"\\")
    if "\n" in text:
        text = text.replace("\n", r"\n")
    return text.replace('"', r"\"") if quotes and '"' in text else text
