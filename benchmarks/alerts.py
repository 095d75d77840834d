"""What the alert rules cost and how the adaptive threshold behaves: `python benchmarks/alerts.py [--processes 1000]`.

First, what four ways of learning make of recurring spikes. Then a real Prometheus with the rules and a fleet of
processes behind one address: how long each group of rules takes, and each query of the dashboards. Needs `prometheus`.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "fixtures"))

from monitoring import Prometheus, TableExporter, filled, get, wait_until

from amm_exporter.export.dashboards import dashboard_files
from amm_exporter.export.names import GROUP_METRICS
from amm_exporter.export.promql import Pace
from amm_exporter.export.rules import rule_files
from amm_exporter.policy import load_policy

CALM, SPIKE, ANOMALY, MODERATE = 0.30, 0.90, 0.45, 0.60
CALM_SAMPLES, SPIKE_SAMPLES, SPIKES = 60, 6, 8


def mean_and_deviations(samples: Sequence[float]) -> float:
    return statistics.fmean(samples) + 3 * statistics.pstdev(samples)


def median_and_mad(samples: Sequence[float]) -> float:
    median = statistics.median(samples)
    mad = statistics.median(abs(sample - median) for sample in samples)
    return min(0.80, max(1.10 * median, median + 4 * mad))


LEARNERS: dict[str, tuple[Callable[[Sequence[float]], float], bool]] = {
    "mean + 3 sigma, all samples": (mean_and_deviations, False),
    "mean + 3 sigma, calm samples": (mean_and_deviations, True),
    "median + 4 MAD, all samples": (median_and_mad, False),
    "median + 4 MAD, calm samples (the rules)": (median_and_mad, True),
}


def learning(seed: int = 1) -> None:
    noise = random.Random(seed)

    def calm(count: int) -> list[float]:
        return [CALM + noise.gauss(0, 0.01) for _ in range(count)]

    before = calm(CALM_SAMPLES)
    after = list(before)
    for _ in range(SPIKES):
        after += [SPIKE] * SPIKE_SAMPLES + calm(CALM_SAMPLES // 3)
    print(f"threshold after {SPIKES} spikes to {SPIKE:.0%}; then an anomaly at {ANOMALY:.0%}")
    for name, (threshold, calm_only) in LEARNERS.items():
        first, last = (
            threshold([sample for sample in samples if sample < MODERATE or not calm_only])
            for samples in (before, after)
        )
        verdict = "caught" if last < ANOMALY else "MISSED"
        print(f"  {name:<42} {first:.3f} -> {last:.3f} ({last / first - 1:+.0%})  {verdict}")


class Fleet(TableExporter):
    """One address that shows the whole table for each of many processes."""

    def __init__(self, processes: int) -> None:
        super().__init__(skip=frozenset(GROUP_METRICS))
        one = super().page().splitlines()
        self._text = "\n".join(sorted(_labelled(line, pid) for line in one for pid in range(processes))) + "\n"

    def page(self) -> str:
        return getattr(self, "_text", "")


def _labelled(line: str, pid: int) -> str:
    series, _, value = line.rpartition(" ")
    name, brace, labels = series.partition("{")
    return f'{name}{{process_pid="{pid}"{"," + labels if brace else "}"} {value}'


def fleet(processes: int, seconds: float) -> None:
    exporter = Fleet(processes)
    (rules,) = rule_files(load_policy({}, environ={}), pace=Pace(speed=12)).values()
    with tempfile.TemporaryDirectory() as folder:
        server = Prometheus(Path(folder), {"api": [exporter.port]}, rules=rules, scrape_seconds=5)
        try:
            wait_until(lambda: server.value("count(amm:adaptive_threshold_ratio:bounded)") == processes, 120)
            time.sleep(seconds)
            series = server.value('count({job="api"})')
            print(f"{processes} processes, {series:.0f} series, one Prometheus")
            groups = json.loads(get(server.port, "/api/v1/rules"))["data"]["groups"]
            for group in groups:
                print(f"  group {group['name']:<16} {group['evaluationTime'] * 1000:8.1f} ms")
            spans = sorted(_query_spans(server))
            print(f"  {len(spans)} dashboard queries over 5 minutes")
            p95 = statistics.quantiles(spans, n=20)[-1]
            for name, span in (("median", statistics.median(spans)), ("p95", p95), ("worst", spans[-1])):
                print(f"  {name:<22} {span * 1000:8.1f} ms")
        finally:
            server.stop()
            exporter.stop()


def _query_spans(server: Prometheus) -> list[float]:
    spans = []
    for text in dashboard_files().values():
        for panel in json.loads(text)["panels"]:
            for target in panel.get("targets", ()):
                expr = filled(target["expr"], rate="20s", whole="5m")
                before = time.perf_counter()
                server.range(expr, 300, step=15)
                spans.append(time.perf_counter() - before)
    return spans


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=30)
    arguments = parser.parse_args()
    learning()
    fleet(arguments.processes, arguments.seconds)


if __name__ == "__main__":
    main()
