"""The alerts on memory itself: pressure, growth, the budget, and what has already been stopped or killed.

Each compares what a process does with what it exports as its own policy; the constants here are those no policy has.
"""

from __future__ import annotations

from amm_exporter.export import recording
from amm_exporter.export.promql import CRITICAL, WARNING, WHO, Alert, Group, Pace, fold, of_group, series

LEARNED_SAMPLES = 60
"""Samples the baseline needs before it may accuse: an hour."""
MATERIAL_RATIO = 0.02
"""An anomaly is at least two points of the limit: ten percent of next to nothing is no news."""
EXHAUSTION_SECONDS = 3600
STALL_SHARE_LIMIT = 0.10
FAST_BURN, SLOW_BURN = 14.4, 6.0
"""Google SRE workbook, chapter 5: 2 % of a month's allowance in an hour, 5 % in six."""


def memory_alerts(pace: Pace) -> tuple[Group, ...]:
    return (
        Group(name="amm.pressure", rules=_pressure(pace)),
        Group(name="amm.growth", rules=_growth(pace)),
        Group(name="amm.budget", rules=_budget(pace)),
        Group(name="amm.incidents", rules=_incidents(pace)),
    )


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
                f"{WHO} uses {{{{ $value | humanizePercentage }}}} of its limit, above the adaptive threshold learned"
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
                f"Around {WHO}, tasks of the {{{{ $labels.scope }}}} stood still for want of memory"
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
        description=f"{WHO} uses {{{{ $value | humanizePercentage }}}} of its limit: {meaning}.",
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
            description=f"{WHO} reaches its memory limit in {{{{ $value | humanizeDuration }}}}.",
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
                f"{WHO}: {{{{ $labels.series }}}} grows by at least {{{{ $value | humanize1024 }}}}B/s (lower"
                " confidence bound), more than the policy's smallest leak, and the lowest resident memory rises too."
            ),
        ),
    )


def _budget(pace: Pace) -> tuple[Alert, ...]:
    return (
        _burn("Fast", "quickly", CRITICAL, FAST_BURN, "1h", "5m", pace(120)),
        _burn("Slow", "slowly but steadily", WARNING, SLOW_BURN, "6h", "30m", pace(900)),
    )


def _burn(speed: str, how: str, severity: str, rate: float, long: str, short: str, wait: str) -> Alert:
    return Alert(
        name=f"AmmBudgetBurn{speed}",
        # the long window says that it matters, the short one that it still goes on
        expr=f"{recording.BURN}{long} > {rate:g}\nand\n{recording.BURN}{short} > {rate:g}",
        severity=severity,
        wait=wait,
        summary=f"The time allowed over the memory budget is being used up {how}.",
        description=(
            f"{WHO} was over its memory budget {{{{ $value | humanize }}}} times as long as allowed over {long}"
            f" ({recording.ALLOWED_SHARE:.0%} of the time is)."
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
            description=f"{WHO} stopped work in an emergency.",
        ),
        Alert(
            name="AmmOomKill",
            expr=_happened(series("amm.cgroup.events", event="oom_kill"), pace, "event"),
            severity=CRITICAL,
            summary="The kernel killed a process of this cgroup for want of memory.",
            description=f"In the cgroup of {WHO}, the kernel's OOM killer ended a process.",
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
