"""The alerts on what stands beside memory: the collector, caches and pools, the exporter itself, and test runs."""

from __future__ import annotations

import math

from amm_exporter.export import recording
from amm_exporter.export.promql import CRITICAL, INFO, WARNING, WHO, Alert, Group, Pace, fold, series
from amm_exporter.policy import Policy

GC_SHARE_LIMIT = 0.10
CACHE_LOSS_FACTOR = 0.7
"""A cache is worse than its own past below this share of its median hit ratio."""
CACHE_MIN_RATE = 0.1
"""Look-ups a second below which a hit ratio says nothing."""
CACHE_LEARNED_SAMPLES = 60
"""Hit ratios, one a minute, that a cache's own past needs before it may accuse."""
STALL_SECONDS = 60.0
RUN_SECONDS = 86400
"""How long the results of a test run are worth an alert. What is sent by OTLP is one sample, so it is looked for so far
back: an instant query forgets it after five minutes."""


def upkeep_alerts(policy: Policy, pace: Pace) -> tuple[Group, ...]:
    return (
        Group(name="amm.efficiency", rules=_efficiency(pace)),
        Group(name="amm.exporter", rules=_exporter(policy, pace)),
        Group(name="amm.tests", rules=_tests(pace)),
    )


def _efficiency(pace: Pace) -> tuple[Alert, ...]:
    uncollectable = f"increase({series('cpython.gc.uncollectable_objects')}[{pace(3600)}])"
    waits = f"increase({series('amm.pool.requests', result='wait')}[{pace(300)}])"
    return (
        Alert(
            name="AmmGcTimeHigh",
            expr=f"{recording.GC_SHARE} > {GC_SHARE_LIMIT}",
            severity=WARNING,
            wait=pace(600),
            keep=pace(300),
            summary="The garbage collector takes much of the program's time.",
            description=f"{WHO} spends {{{{ $value | humanizePercentage }}}} of its time in garbage collection.",
        ),
        Alert(
            name="AmmGarbageUncollectable",
            expr=f"{fold('sum', uncollectable, 'cpython_gc_generation')} > 0",
            severity=WARNING,
            summary="The garbage collector found objects it cannot free.",
            description=f"{WHO}: {{{{ $value | humanize }}}} objects became uncollectable within an hour.",
        ),
        Alert(
            name="AmmCacheHitRatioLow",
            expr=(
                f"(\n  {recording.CACHE_HITS} < {recording.CACHE_HITS_MEDIAN} * {CACHE_LOSS_FACTOR}\n"
                f"  and\n  {recording.CACHE_REQUESTS} > {CACHE_MIN_RATE}\n)\n"
                f"and\n{recording.CACHE_HITS_COUNT} >= {CACHE_LEARNED_SAMPLES}"
            ),
            severity=INFO,
            wait=pace(900),
            keep=pace(300),
            summary="A cache hits far less often than it used to.",
            description=(
                f"{WHO}: cache {{{{ $labels.name }}}} hits {{{{ $value | humanizePercentage }}}} of the time,"
                " far below its own median of the last day."
            ),
        ),
        Alert(
            name="AmmPoolExhausted",
            expr=f"{fold('sum', waits, 'result')} > 0",
            severity=WARNING,
            wait=pace(300),
            summary="Callers wait for a pool that has nothing left.",
            description=(
                f"{WHO}: {{{{ $value | humanize }}}} acquisitions of pool {{{{ $labels.name }}}} had to wait"
                " within five minutes."
            ),
        ),
    )


def _exporter(policy: Policy, pace: Pace) -> tuple[Alert, ...]:
    patience = math.ceil(max(pace.seconds(STALL_SECONDS), 10 * policy.interval_seconds))
    stamp = fold("max", series("amm.last_sample.timestamp"))
    moved = fold("max", f"changes({series('amm.last_sample.timestamp')}[{Pace()(patience)}])")
    return (
        Alert(
            name="AmmTargetDown",
            expr=f"up == 0\nand on (job, instance)\n{recording.TARGET_SEEN}",
            severity=CRITICAL,
            wait=pace(120),
            summary="A target that exported memory metrics no longer answers.",
            description=f"{WHO} cannot be scraped: it ended, hangs, or its port is not reachable.",
        ),
        Alert(
            name="AmmSamplerStalled",
            # `unless it moved` keeps a clock that differs from the server's from raising this
            expr=f"time() - {stamp} > {patience}\nunless\n{moved} > 0",
            severity=WARNING,
            wait=pace(60),
            summary="The memory sampler has stopped although the process still answers.",
            description=f"The last sample of {WHO} is {{{{ $value | humanizeDuration }}}} old; its figures are stale.",
        ),
        Alert(
            name="AmmThresholdsMissing",
            expr=_missing(),
            severity=WARNING,
            wait=pace(300),
            summary="A process exports no thresholds, so defaults judge it.",
            description=f"{WHO} lacks tier, anomaly or leak thresholds: the defaults of the rules judge it.",
        ),
    )


def _missing() -> str:
    thresholds = fold("max", series("amm.memory.tier.threshold_ratio"))
    parts = [f"{recording.PRESSURE} unless count without (tier) ({thresholds}) == 4"]
    for metric in ("amm.anomaly.deviations", "amm.anomaly.floor_ratio", "amm.anomaly.ceiling_ratio"):
        parts.append(f"{recording.PRESSURE} unless {fold('max', series(metric))}")
    leak = fold("max", series("amm.memory.leak.slope.threshold"), "series")
    parts.append(f"max without (series) ({recording.LEAK_LOWER}) unless {leak}")
    return "\nor\n".join(f"({part})" for part in parts)


def _tests(pace: Pace) -> tuple[Alert, ...]:
    finished = fold("max", _last("amm.test.run.timestamp", pace))
    recent = f"(time() - {finished} < {pace.seconds(RUN_SECONDS):g})"
    suite = "the last run of {{ $labels.suite }}"
    return (
        Alert(
            name="AmmTestBudgetBreached",
            expr=f"{fold('max', _last('amm.test.breaches', pace))} > 0\nand ignoring (kind)\n{recent}",
            severity=WARNING,
            summary="Tests of the last run exceeded a memory budget.",
            description=f"Breaches of the {{{{ $labels.kind }}}} budget in {suite}: {{{{ $value }}}}.",
        ),
        Alert(
            name="AmmTestLeakFound",
            expr=f"{fold('max', _last('amm.test.leaks', pace, verdict='leak'), 'verdict')} > 0\nand\n{recent}",
            severity=WARNING,
            summary="A leak gate of the last test run found a leak.",
            description=f"Leaks found by the leak gates of {suite}: {{{{ $value }}}}.",
        ),
    )


def _last(metric: str, pace: Pace, **labels: str) -> str:
    return f"last_over_time({series(metric, **labels)}[{pace(RUN_SECONDS)}])"
