"""The alerts. Each compares what a process does with what it exports as its own policy; the constants here are those
that no policy has. A page in runbooks/ stands beside every name.
"""

from __future__ import annotations

import math

from amm_exporter.export import recording
from amm_exporter.export.promql import Alert, Group, Pace, fold, of_group, series
from amm_exporter.policy import Policy

LEARNED_SAMPLES = 60
"""Samples a baseline needs before it may accuse: an hour."""
MATERIAL_RATIO = 0.02
"""An anomaly is at least two points of the limit: ten percent of next to nothing is no news."""
EXHAUSTION_SECONDS = 3600
GC_SHARE_LIMIT = 0.10
STALL_SHARE_LIMIT = 0.10
CACHE_LOSS_FACTOR = 0.7
"""A cache is worse than its own past below this share of its median hit ratio."""
CACHE_MIN_RATE = 0.1
"""Look-ups a second below which a hit ratio says nothing."""
FAST_BURN, SLOW_BURN = 14.4, 6.0
"""Google SRE workbook, chapter 5: 2 % of a month's allowance in an hour, 5 % in six."""
STALL_SECONDS = 60.0

CRITICAL, WARNING, INFO = "critical", "warning", "info"

_WHO = "{{ $labels.job }} at {{ $labels.instance }}{{ with $labels.process_pid }} (pid {{ . }}){{ end }}"


def alert_groups(policy: Policy, pace: Pace) -> tuple[Group, ...]:
    return (
        Group(name="amm.pressure", rules=_pressure(pace)),
        Group(name="amm.growth", rules=_growth(pace)),
        Group(name="amm.budget", rules=_budget(pace)),
        Group(name="amm.efficiency", rules=_efficiency(pace)),
        Group(name="amm.incidents", rules=_incidents(pace)),
        Group(name="amm.exporter", rules=_exporter(policy, pace)),
        Group(name="amm.tests", rules=_tests(pace)),
    )


def alert_names(policy: Policy) -> tuple[str, ...]:
    return tuple(rule.name for group in alert_groups(policy, Pace()) for rule in group.rules)


def _pressure(pace: Pace) -> tuple[Alert, ...]:
    return (
        _tier("critical", CRITICAL, "the kernel or a limit may end the process at any moment"),
        _tier("severe", WARNING, "shed load and drop caches now", pace(60), pace(60)),
        _tier("high", WARNING, "reclaim before it grows further", pace(300), pace(120)),
        Alert(
            name="AmmPressureAnomalous",
            expr=(
                f"(\n  {recording.PRESSURE} > {recording.ADAPTIVE_THRESHOLD}\n"
                f"  and\n  {recording.PRESSURE} - {recording.CALM_MEDIAN} > {MATERIAL_RATIO}\n)\n"
                f"and\n{recording.CALM_COUNT} >= {LEARNED_SAMPLES}"
            ),
            severity=WARNING,
            wait=pace(120),
            keep=pace(120),
            summary="Memory use is far above this process's own calm level.",
            description=(
                f"{_WHO} uses {{{{ $value | humanizePercentage }}}} of its limit, above the adaptive threshold learned"
                " from its calm day (median and deviations as its policy says)."
            ),
        ),
        Alert(
            name="AmmMemoryThrashing",
            expr=fold("max", f"rate({series('amm.memory.pressure.stall', kind='some')}[{pace(300)}])", "kind")
            + f" > {STALL_SHARE_LIMIT}",
            severity=WARNING,
            wait=pace(300),
            summary="Tasks stand still waiting for memory.",
            description=(
                f"Around {_WHO}, tasks of the {{{{ $labels.scope }}}} stood still for want of memory"
                " {{ $value | humanizePercentage }} of the time."
            ),
        ),
    )


def _tier(tier: str, severity: str, meaning: str, wait: str = "", keep: str = "") -> Alert:
    return Alert(
        name=f"AmmMemory{tier.capitalize()}",
        expr=f'{recording.PRESSURE}\n>= ignoring (tier)\n{recording.TIER_THRESHOLD}{{tier="{tier}"}}',
        severity=severity,
        wait=wait,
        keep=keep,
        summary=f"Memory use is in the {tier.upper()} tier.",
        description=f"{_WHO} uses {{{{ $value | humanizePercentage }}}} of its limit: {meaning}.",
    )


def _growth(pace: Pace) -> tuple[Alert, ...]:
    exhaustion = fold("min", series("amm.memory.exhaustion"))
    moderate = f'{recording.TIER_THRESHOLD}{{tier="moderate"}}'
    detected = fold("max", series("amm.memory.leak.detected"))
    return (
        Alert(
            name="AmmExhaustionPredicted",
            # above MODERATE only: every start-up, drawn as a line, reaches the limit soon
            expr=f"{exhaustion} < {EXHAUSTION_SECONDS}\nand\n({recording.PRESSURE} >= ignoring (tier) {moderate})",
            severity=CRITICAL,
            wait=pace(120),
            summary="Memory reaches its limit within the hour at the present growth.",
            description=f"{_WHO} reaches its memory limit in {{{{ $value | humanizeDuration }}}}.",
        ),
        Alert(
            name="AmmLeakSuspected",
            # the confidence bound, and memory that is really not given back, and not what the exporter, which compares
            # shapes, has judged to be a warm-up or a filling cache
            expr=(
                f"(\n  {recording.LEAK_LOWER} > {recording.LEAK_THRESHOLD}\n"
                f"  unless\n  {detected} == 0\n)\n"
                f"and ignoring (series)\n"
                f"({recording.RSS_FLOOR} > {recording.RSS_FLOOR} offset {pace(900)})"
            ),
            severity=WARNING,
            wait=pace(600),
            keep=pace(1800),
            summary="Memory grows steadily and is not given back.",
            description=(
                f"{_WHO}: {{{{ $labels.series }}}} grows by at least {{{{ $value | humanize1024 }}}}B/s (lower"
                " confidence bound), more than the policy's smallest leak, and the lowest resident memory rises too."
            ),
        ),
    )


def _budget(pace: Pace) -> tuple[Alert, ...]:
    return (
        _burn("Fast", CRITICAL, FAST_BURN, "1h", "5m", pace(120)),
        _burn("Slow", WARNING, SLOW_BURN, "6h", "30m", pace(900)),
    )


def _burn(speed: str, severity: str, rate: float, long: str, short: str, wait: str) -> Alert:
    return Alert(
        name=f"AmmBudgetBurn{speed}",
        # the long window says that it matters, the short one that it still goes on
        expr=f"{recording.BURN}{long} > {rate:g}\nand\n{recording.BURN}{short} > {rate:g}",
        severity=severity,
        wait=wait,
        summary=f"Time over the memory budget is being used up {speed.lower()}.",
        description=(
            f"{_WHO} was over its memory budget {{{{ $value | humanize }}}} times as long as allowed over {long}"
            f" ({recording.ALLOWED_SHARE:.0%} of the time is)."
        ),
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
            description=f"{_WHO} spends {{{{ $value | humanizePercentage }}}} of its time in garbage collection.",
        ),
        Alert(
            name="AmmGarbageUncollectable",
            expr=f"{fold('sum', uncollectable, 'cpython_gc_generation')} > 0",
            severity=WARNING,
            summary="The garbage collector found objects it cannot free.",
            description=f"{_WHO}: {{{{ $value | humanize }}}} objects became uncollectable within an hour.",
        ),
        Alert(
            name="AmmCacheHitRatioLow",
            expr=(
                f"(\n  {recording.CACHE_HITS} < {recording.CACHE_HITS_MEDIAN} * {CACHE_LOSS_FACTOR}\n"
                f"  and\n  {recording.CACHE_REQUESTS} > {CACHE_MIN_RATE}\n)\n"
                f"and\n{recording.CACHE_HITS_COUNT} >= {LEARNED_SAMPLES}"
            ),
            severity=INFO,
            wait=pace(900),
            keep=pace(300),
            summary="A cache hits far less often than it used to.",
            description=(
                f"{_WHO}: cache {{{{ $labels.name }}}} hits {{{{ $value | humanizePercentage }}}} of the time,"
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
                f"{_WHO}: {{{{ $value | humanize }}}} acquisitions of pool {{{{ $labels.name }}}} had to wait"
                " within five minutes."
            ),
        ),
    )


def _incidents(pace: Pace) -> tuple[Alert, ...]:
    of_family = fold("max", f"increase({of_group('amm.emergency.stops')}[{pace(900)}])")
    return (
        Alert(
            name="AmmEmergencyStop",
            # of a worker that has ended, only the sum of its family still tells
            expr=f"(\n{_happened(series('amm.emergency.stops'), pace)}\n)\nor on (job, instance)\n{of_family} > 0",
            severity=CRITICAL,
            summary="Work was stopped for want of memory.",
            description=f"{_WHO} stopped work in an emergency.",
        ),
        Alert(
            name="AmmOomKill",
            expr=_happened(series("amm.cgroup.events", event="oom_kill"), pace, "event"),
            severity=CRITICAL,
            summary="The kernel killed a process of this cgroup for want of memory.",
            description=f"In the cgroup of {_WHO}, the kernel's OOM killer ended a process.",
        ),
    )


def _happened(counter: str, pace: Pace, *labels: str) -> str:
    """True for 15 minutes after the counter moved.

    `increase` misses the step from no series to 1, which is what a counter that starts with its first event shows. So a
    new count of a process that is young, or that was known before the count was, is an event too.
    """
    recent = pace(900)
    moved = fold("max", f"increase({counter}[{recent}])", *labels)
    count, before = fold("max", counter, *labels), fold("max", f"{counter} offset {recent}", *labels)
    young = fold("max", f"{series('process.uptime')} < {pace.seconds(900):g}")
    new = f"({count} > 0 unless {before})\n  and\n  ({young} or {recording.PRESSURE} offset {recent})"
    return f"{moved} > 0\nor\n(\n  {new}\n)"


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
            description=f"{_WHO} cannot be scraped: it ended, hangs, or its port is not reachable.",
        ),
        Alert(
            name="AmmSamplerStalled",
            # `unless it moved` keeps a clock that differs from the server's from raising this
            expr=f"time() - {stamp} > {patience}\nunless\n{moved} > 0",
            severity=WARNING,
            wait=pace(60),
            summary="The memory sampler has stopped although the process still answers.",
            description=f"The last sample of {_WHO} is {{{{ $value | humanizeDuration }}}} old; its figures are stale.",
        ),
        Alert(
            name="AmmThresholdsMissing",
            expr=_missing(),
            severity=WARNING,
            wait=pace(300),
            summary="A process exports no thresholds, so defaults judge it.",
            description=f"{_WHO} lacks tier, anomaly or leak thresholds: the defaults of the rules judge it.",
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
    recent = f"(time() - {series('amm.test.run.timestamp')} < {pace.seconds(86400):g})"
    suite = "the last run of {{ $labels.suite }}"
    return (
        Alert(
            name="AmmTestBudgetBreached",
            expr=f"{fold('max', series('amm.test.breaches'))} > 0\nand ignoring (kind)\n{fold('max', recent)}",
            severity=WARNING,
            summary="Tests of the last run exceeded a memory budget.",
            description=f"Breaches of the {{{{ $labels.kind }}}} budget in {suite}: {{{{ $value }}}}.",
        ),
        Alert(
            name="AmmTestLeakFound",
            expr=(
                f"{fold('max', series('amm.test.leaks', verdict='leak'), 'verdict')} > 0\nand\n{fold('max', recent)}"
            ),
            severity=WARNING,
            summary="A leak gate of the last test run found a leak.",
            description=f"Leaks found by the leak gates of {suite}: {{{{ $value }}}}.",
        ),
    )
