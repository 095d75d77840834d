"""From what a MeterProvider holds to Prometheus families, by OpenTelemetry's compatibility specification.

The names are those of opentelemetry-exporter-prometheus, and a test holds them against it. What differs, and why:

- Scope labels are left off. They would put the version of each instrumentation into every series, so that an upgrade
  breaks every series and every rule that matches on exact label sets; by OTLP they do not arrive either. Only where two
  scopes would write the very same series does the later one get `otel_scope_name`.
- An exponential histogram is written as a classic one with bounds at powers of two (or coarser), not refused.
- A metric that cannot be translated is left out and logged once; the others are written.
- What a resource says of the program's arguments and owner is left out: a page is read by more people than the program.

https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/
"""

from __future__ import annotations

import json
import logging
import math
import operator
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    Sum,
)

from amm_exporter.export.exposition import COUNTER, GAUGE, HISTOGRAM, INFO, Buckets, Family, Labels, Value

log = logging.getLogger("amm.export")

PRIVATE_RESOURCE_PREFIXES = ("process.command", "process.executable.path", "process.owner", "process.working_directory")
MAX_EXPONENTIAL_BUCKETS = 40

_UNITS = {
    "d": "days", "h": "hours", "min": "minutes", "s": "seconds", "ms": "milliseconds", "us": "microseconds",
    "ns": "nanoseconds", "By": "bytes", "KiBy": "kibibytes", "MiBy": "mebibytes", "GiBy": "gibibytes",
    "TiBy": "tibibytes", "KBy": "kilobytes", "MBy": "megabytes", "GBy": "gigabytes", "TBy": "terabytes",
    "m": "meters", "V": "volts", "A": "amperes", "J": "joules", "W": "watts", "g": "grams", "Cel": "celsius",
    "Hz": "hertz", "1": "", "%": "percent",
}  # fmt: skip
_PER_UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year"}
_ANNOTATION = re.compile(r"\{.*\}")
_NOT_IN_NAME = re.compile(r"[^a-zA-Z0-9:]+")
_NOT_IN_LABEL = re.compile(r"[^a-zA-Z0-9]+")

Point = NumberDataPoint | HistogramDataPoint | ExponentialHistogramDataPoint


class Translator:
    """Translates collection after collection; remembers only what it has already complained of."""

    def __init__(self) -> None:
        self._refused: set[str] = set()

    def families(self, data: MetricsData) -> list[Family]:
        """The families of one collection, in its order, with target_info first."""
        found: dict[str, Family] = {}
        for resource_metrics in data.resource_metrics:
            _add_target(found, resource_metrics.resource.attributes)
            for scope_metrics in resource_metrics.scope_metrics:
                for metric in scope_metrics.metrics:
                    self._add(found, metric, scope_metrics.scope.name)
        return list(found.values())

    def _add(self, found: dict[str, Family], metric: Metric, scope: str) -> None:
        try:
            _add_metric(found, metric, scope)
        except Exception as error:  # noqa: BLE001 - one metric must not cost the others
            if metric.name not in self._refused:
                self._refused.add(metric.name)
                log.warning("metric %r is left out of the scrape: %s", metric.name, error)


def _add_metric(found: dict[str, Family], metric: Metric, scope: str) -> None:
    made = family_of(metric)
    family = found.setdefault(made.name, made)
    if family.kind != made.kind:
        raise ValueError(f"it is a {made.kind}, and {family.kind} {made.name!r} is there already")
    bounded = made.kind == HISTOGRAM
    # All points are read before any is shown: half a metric misleads more than none.
    for labels, value in [(label_set(point.attributes), _value(point)) for point in metric.data.data_points]:
        if bounded and any(name == "le" for name, _ in labels):
            raise ValueError("the label 'le' of a histogram is that of its buckets")
        if labels in family.series:
            labels = tuple(sorted((*labels, ("otel_scope_name", scope))))
        family.series[labels] = value


def _add_target(found: dict[str, Family], attributes: Mapping[str, object]) -> None:
    public = {key: value for key, value in attributes.items() if not key.startswith(PRIVATE_RESOURCE_PREFIXES)}
    target = found.setdefault("target", Family("target", INFO, "Target metadata"))
    target.series.setdefault(label_set(public), 1)


def family_of(metric: Metric) -> Family:
    """The family a metric belongs to, without series."""
    kind, unit = _kind(metric), metric.unit or ""
    help_text = writable(metric.description or "")
    return Family(family_name(metric.name, unit, kind), kind, help_text, prometheus_unit(unit))


def family_name(name: str, unit: str, kind: str) -> str:
    """The name of an instrument's family: with its unit, and without the `_total` of a counter's series."""
    name, suffix = prometheus_name(name), prometheus_unit(unit)
    if kind == COUNTER:
        name = name.removesuffix("_total")
    return f"{name}_{suffix}" if suffix and not name.endswith(f"_{suffix}") else name


def _kind(metric: Metric) -> str:
    data = metric.data
    if isinstance(data, Sum):
        monotonic = data.is_monotonic or data.aggregation_temporality != AggregationTemporality.CUMULATIVE
        return COUNTER if monotonic else GAUGE
    if isinstance(data, Gauge):
        return GAUGE
    if isinstance(data, (Histogram, ExponentialHistogram)):
        return HISTOGRAM
    raise TypeError(f"data of type {type(data).__name__} has no Prometheus form")


def prometheus_name(name: str) -> str:
    """`http.server.requests` as `http_server_requests`; a leading digit becomes `_`."""
    return _NOT_IN_NAME.sub("_", f"_{name[1:]}" if name[:1].isdigit() else name)


def prometheus_label(key: str) -> str:
    """An attribute key as a label name; a leading digit becomes `_`."""
    return _NOT_IN_LABEL.sub("_", f"_{key[1:]}" if key[:1].isdigit() else key)


def prometheus_unit(unit: str) -> str:
    """A UCUM unit in words: `By/s` is `bytes_per_second`, an annotation such as `{request}` is nothing."""
    unit = _ANNOTATION.sub("", unit)
    if unit in _UNITS:
        return _UNITS[unit]
    top, _, bottom = unit.partition("/")
    if bottom := _NOT_IN_NAME.sub("_", bottom):
        top = _NOT_IN_NAME.sub("_", top)
        words = f"{_UNITS.get(top, top)}_per_{_PER_UNITS.get(bottom, bottom)}"
        return words.removeprefix("_")
    return _NOT_IN_NAME.sub("_", unit).strip("_")


def label_set(attributes: Mapping[str, object] | None) -> Labels:
    """Attributes as labels, sorted by name. Keys that become the same label are joined by `;`, as specified."""
    labels: dict[str, str] = {}
    for key, value in sorted((attributes or {}).items()):
        name, text = prometheus_label(key), value if isinstance(value, str) else json.dumps(value, default=str)
        text = writable(text)
        labels[name] = f"{labels[name]};{text}" if name in labels else text
    return tuple(sorted(labels.items()))


def writable(text: str) -> str:
    """As UTF-8 can write it. A file may have a name that is no text: os.fsdecode makes surrogates of its bytes."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def _value(point: Point) -> Value:
    if isinstance(point, HistogramDataPoint):
        return Buckets(tuple(map(float, point.explicit_bounds)), tuple(point.bucket_counts), _number(point.sum))
    if isinstance(point, ExponentialHistogramDataPoint):
        return exponential_buckets(point)
    return _number(point.value)


def _number(value: Any) -> int | float:
    """A plain one: the numbers of numpy say another name with themselves (`np.float64(0.5)`), and JSON refuses some."""
    if type(value) in (int, float):
        return value  # type: ignore[no-any-return]  # one of the two
    return operator.index(value) if hasattr(value, "__index__") else float(value)


def exponential_buckets(point: ExponentialHistogramDataPoint) -> Buckets:
    """The counts between powers of two, so that the bounds stay the same while the SDK changes its scale.

    A bucket of scale s and index i covers (2**(i/2**s), 2**((i+1)/2**s)]; from there to a smaller scale is a shift.
    https://opentelemetry.io/docs/specs/otel/metrics/data-model/#exponentialhistogram
    """
    positive = _halved(point.positive.offset, point.positive.bucket_counts, max(0, point.scale))
    negative = _halved(point.negative.offset, point.negative.bucket_counts, max(0, point.scale))
    scale = min(0, point.scale)
    while len(positive) + len(negative) > MAX_EXPONENTIAL_BUCKETS:
        positive, negative, scale = _merged(positive.items(), 1), _merged(negative.items(), 1), scale - 1
    counts = dict(_bounded(positive, negative, point.zero_count, 2**-scale))
    bounds = sorted(bound for bound in counts if math.isfinite(bound))
    return Buckets(tuple(bounds), (*(counts[bound] for bound in bounds), counts.get(math.inf, 0)), _number(point.sum))


def _halved(offset: int, counts: Sequence[int], shift: int) -> dict[int, int]:
    return _merged(((offset + step, count) for step, count in enumerate(counts) if count), shift)


def _merged(indexed: Iterable[tuple[int, int]], shift: int) -> dict[int, int]:
    merged: dict[int, int] = {}
    for index, count in indexed:
        merged[index >> shift] = merged.get(index >> shift, 0) + count
    return merged


def _bounded(
    positive: Mapping[int, int], negative: Mapping[int, int], zeros: int, width: int
) -> Iterator[tuple[float, int]]:
    for index, count in negative.items():
        yield -_power_of_two(index * width), count
    if zeros or negative:
        yield 0.0, zeros
    for index, count in positive.items():
        yield _power_of_two((index + 1) * width), count


def _power_of_two(exponent: int) -> float:
    return math.ldexp(1.0, exponent) if exponent < 1024 else math.inf
