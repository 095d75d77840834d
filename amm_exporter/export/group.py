"""What a family of processes shows together: each live worker's own series, and sums that never go back.

Pure. As a Prometheus user meets it:

- What describes a process (cpython_*, amm_*, process_* of the conventions) and every gauge is shown for each live
  worker, with the label `process_pid`: OpenTelemetry's name for it (process.pid), and not `pid`, which targets and
  applications use already.
- A counter or histogram of the application is shown once, summed over all workers that ever were: `rate()` over it is
  right across restarts, dashboards made for one process work unchanged, and a hundred workers cost no more series.
- Sums of what is shown for each worker are metrics of their own, `amm_group_*`: under the same name, `sum()` would
  count them twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from amm_exporter.export.exposition import COUNTER, GAUGE, HISTOGRAM, INFO, Buckets, Family, Labels, Value
from amm_exporter.export.names import GROUP_METRICS, METRICS, SUMMED_METRICS

WORKER_LABEL = "process_pid"
_KERNEL_PREFIXES = (
    *("process_context_switches", "process_cpu_", "process_disk_", "process_linux_", "process_memory_"),
    *("process_network_", "process_open_file_descriptor", "process_paging_", "process_runtime_"),
    *("process_signals_pending", "process_thread", "process_unix_", "process_uptime", "process_windows_"),
)
"""The semantic conventions' process.* (1.44) and system-metrics' process.runtime.*. Not all that begins with process_:
an application may count what it processes (process.payments)."""
_PROCESS_PREFIXES = (*_KERNEL_PREFIXES, "cpython_", "amm_")
_SUMMED = frozenset(METRICS[name].prometheus.removesuffix("_total") for name in SUMMED_METRICS)

Totals = dict[str, Family]
"""Sums by family name: of counters and histograms only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One live process as a scrape sees it: `rss_bytes` is of now, the families are `age_seconds` old."""

    pid: int
    families: tuple[Family, ...]
    age_seconds: float = 0.0
    rss_bytes: int | None = None


def by_worker(family: Family) -> bool:
    """Whether the family is shown for each worker."""
    return family.kind in (GAUGE, INFO) or describes_a_process(family.name)


def describes_a_process(name: str) -> bool:
    """Whether a family of that name is about the process, and not the application's own."""
    return name.startswith(_PROCESS_PREFIXES)


def summed(family: Family) -> bool:
    """Whether the family has a sum over the group, which outlives its workers."""
    return family.kind in (COUNTER, HISTOGRAM) and (family.name in _SUMMED or not by_worker(family))


def counts_anything(families: Iterable[Family]) -> bool:
    """Whether an application's counter has moved: what is worth keeping of a process that lived for milliseconds."""
    return any(
        value.counts if isinstance(value, Buckets) else value
        for family in families
        if summed(family) and not by_worker(family)
        for value in family.series.values()
    )


def add_to(totals: Totals, families: Iterable[Family]) -> None:
    """Add what is summed of one process to the totals. A family of another kind under the same name is left out."""
    for family in families:
        if not summed(family):
            continue
        total = totals.setdefault(family.name, Family(family.name, family.kind, family.help, family.unit))
        if total.kind == family.kind:
            for labels, value in family.series.items():
                total.series[labels] = plus(total.series.get(labels, 0), value)


def plus(left: Value, right: Value) -> Value:
    """Two numbers, or two histograms bucket by bucket (by bound, where the bounds differ)."""
    if not isinstance(left, Buckets) or not isinstance(right, Buckets):
        return right if isinstance(right, Buckets) else left if isinstance(left, Buckets) else left + right
    if left.bounds == right.bounds:
        counts = tuple(map(sum, zip(left.counts, right.counts, strict=True)))
        return Buckets(left.bounds, counts, left.sum + right.sum)
    merged: dict[float, int] = {}
    for buckets in (left, right):
        for bound, count in zip(buckets.bounds, buckets.counts, strict=False):
            merged[bound] = merged.get(bound, 0) + count
    bounds = tuple(sorted(merged))
    return Buckets(
        bounds, (*(merged[bound] for bound in bounds), left.counts[-1] + right.counts[-1]), left.sum + right.sum
    )


def is_inherited(name: str) -> bool:
    """Whether a forked child goes on from its parent's count: the kernel and AMM begin anew."""
    return not name.startswith((*_KERNEL_PREFIXES, "amm_"))


class Baseline:
    """What a forked child inherited from its parent through the program's state, taken off what it shows.

    A value that is lower than what was inherited has been reset: from then on it is the child's own.
    """

    def __init__(self, families: Iterable[Family] = (), names: Iterable[str] = ()) -> None:
        wanted = frozenset(name for name in names if is_inherited(name))
        self._values = {
            (family.name, labels): value
            for family in families
            if family.kind == COUNTER and family.name in wanted
            for labels, value in family.series.items()
        }

    def take_off(self, families: list[Family]) -> list[Family]:
        return [self._own(family) for family in families] if self._values else families

    def _own(self, family: Family) -> Family:
        series = {labels: self._own_value(family.name, labels, value) for labels, value in family.series.items()}
        return Family(family.name, family.kind, family.help, family.unit, series)

    def _own_value(self, name: str, labels: Labels, value: Value) -> Value:
        inherited = self._values.get((name, labels))
        if inherited is None or isinstance(value, Buckets) or isinstance(inherited, Buckets):
            return value
        if value < inherited:
            del self._values[name, labels]
            return value
        return value - inherited


def together(
    workers: Sequence[Worker], exited: Mapping[str, Family], exited_count: int, *, labelled: bool
) -> list[Family]:
    """The families of one scrape of the whole group. Without `labelled` the only worker's series are as when alone."""
    shown: dict[str, Family] = {}
    totals: Totals = {}
    add_to(totals, exited.values())
    for worker in workers:
        for family in worker.families:
            if by_worker(family):
                _show(shown, family, _label_of(worker, labelled))
        add_to(totals, worker.families)
        _show_memory(shown, worker, _label_of(worker, labelled))
    for total in totals.values():
        name = group_name(total.name) if total.name in _SUMMED else total.name
        shown[name] = Family(name, total.kind, total.help, total.unit, total.series)
    for family in _about_the_group(workers, exited_count):
        shown[family.name] = family
    return list(shown.values())


def _label_of(worker: Worker, labelled: bool) -> Labels:
    return ((WORKER_LABEL, str(worker.pid)),) if labelled else ()


def _show(shown: dict[str, Family], family: Family, label: Labels) -> None:
    target = shown.setdefault(family.name, Family(family.name, family.kind, family.help, family.unit))
    if target.kind == family.kind:
        for labels, value in family.series.items():
            target.series[_with(labels, label)] = value


def _with(labels: Labels, label: Labels) -> Labels:
    return tuple(sorted((*(pair for pair in labels if pair[0] != WORKER_LABEL), *label))) if label else labels


def _show_memory(shown: dict[str, Family], worker: Worker, label: Labels) -> None:
    """The resident set as /proc says now, over whatever the worker itself said some time ago."""
    if worker.rss_bytes is not None:
        metric = METRICS["process.memory.usage"]
        family = shown.setdefault(metric.prometheus, Family(metric.prometheus, GAUGE, metric.help, "bytes"))
        family.series[label] = worker.rss_bytes


def group_name(name: str) -> str:
    """The name under which a group's sum of a metric is shown."""
    return "amm_group_" + name.removeprefix("amm_")


def _about_the_group(workers: Sequence[Worker], exited_count: int) -> list[Family]:
    rss = [worker.rss_bytes for worker in workers if worker.rss_bytes is not None]
    ages: dict[Labels, Value] = {_label_of(worker, True): round(worker.age_seconds, 3) for worker in workers}
    return [
        _of("amm.group.processes", {(): len(workers)}),
        _of("amm.group.exits", {(): exited_count}),
        _of("amm.group.memory.usage", {(): sum(rss)} if rss else {}),
        _of("amm.group.snapshot.age", ages),
    ]


def _of(name: str, series: dict[Labels, Value]) -> Family:
    metric = GROUP_METRICS[name]
    unit = {"By": "bytes", "s": "seconds"}.get(metric.unit, "")
    return Family(metric.prometheus.removesuffix("_total"), metric.kind, metric.help, unit, series)
