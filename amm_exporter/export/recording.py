"""The recording rules: pressure, thresholds with their defaults, the calm baseline, shares and burn rates.

Every threshold is read from what the process exports; the policy given here is only what holds where a process exports
none (a comparison with a missing series is silently empty). Alerts on top of them: `alerts`.
"""

from __future__ import annotations

from amm_exporter.export.names import METRICS
from amm_exporter.export.promql import Group, Pace, Record, fold, series
from amm_exporter.model import RAISED_TIERS, Tier
from amm_exporter.policy import KEYS, Policy, Threshold

PRESSURE = "amm:pressure_ratio:max"
TIER_THRESHOLD = "amm:tier_threshold_ratio:or_default"
TARGET_SEEN = "amm:target:seen"

CALM = "amm:pressure_ratio:calm"
CALM_COUNT = "amm:calm_pressure_ratio:count"
CALM_MEDIAN = "amm:calm_pressure_ratio:median"
CALM_DEVIATION = "amm:calm_pressure_ratio:deviation"
CALM_MAD = "amm:calm_pressure_ratio:mad"
DEVIATIONS = "amm:anomaly_deviations:or_default"
FLOOR = "amm:anomaly_floor_ratio:or_default"
CEILING = "amm:anomaly_ceiling_ratio:or_default"
UNBOUNDED_THRESHOLD = "amm:adaptive_threshold_ratio:unbounded"
ADAPTIVE_THRESHOLD = "amm:adaptive_threshold_ratio:bounded"

LEAK_LOWER = "amm:leak_slope_lower:bytes_per_second"
LEAK_THRESHOLD = "amm:leak_slope_threshold:or_default"
RSS_FLOOR = "amm:process_memory:min15m"

GC_SHARE = "amm:gc_time_share:ratio_rate5m"
CACHE_REQUESTS = "amm:cache_requests:rate5m"
CACHE_HITS = "amm:cache_hit_ratio:rate5m"
CACHE_HITS_COUNT = "amm:cache_hit_ratio:count1d"
CACHE_HITS_MEDIAN = "amm:cache_hit_ratio:median1d"

OVER_BUDGET = "amm:over_budget:bool"
BURN = "amm:budget_burn:rate"
BURN_WINDOWS = {"5m": 300, "30m": 1800, "1h": 3600, "6h": 21600}
ALLOWED_SHARE = 0.01
"""Share of time a process may be over its budget: an objective of 99 %. A burn rate of 1 uses up exactly that."""

BASELINE = 86400
"""Seconds of history the baselines learn from: one day, so that a daily rhythm is normal."""
BASELINE_STEP = 60
"""Seconds between samples of the baselines: 1,440 a day, for a thousand processes 0.2 s an evaluation."""


def recording_groups(policy: Policy, pace: Pace) -> tuple[Group, ...]:
    return (
        Group(name="amm.pressure", rules=_pressure(policy)),
        Group(name="amm.baseline", rules=_baseline(policy, pace), interval=pace(BASELINE_STEP)),
        Group(name="amm.growth", rules=_leaks(policy, pace)),
        Group(name="amm.budget", rules=_budget(pace)),
        Group(name="amm.caches", rules=_caches(pace), interval=pace(BASELINE_STEP)),
        Group(name="amm.efficiency", rules=(Record(name=GC_SHARE, expr=_gc_share(pace)),)),
        Group(name="amm.exporter", rules=(_target_seen(),)),
    )


def recorded_names(policy: Policy) -> frozenset[str]:
    """The names of all series these rules make."""
    rules = (rule for group in recording_groups(policy, Pace()) for rule in group.rules)
    return frozenset(rule.name for rule in rules)


def default_ratio(policy: Policy, tier: Tier) -> float:
    """The tier's ratio in the policy; that of the default policy where it is a size, whose limit nobody knows here."""
    threshold = policy.thresholds[tier]
    if threshold.ratio is None:
        key = KEYS[f"tiers.{tier.label}"]
        parsed = key.parse(key.default)
        return parsed.ratio or 0.0 if isinstance(parsed, Threshold) else 0.0
    return threshold.ratio


def _pressure(policy: Policy) -> tuple[Record, ...]:
    # not NaN and not infinite: an exporter that divides by a limit of 0 must not page anybody
    finite = f"({series('amm.memory.usage_ratio')} >= 0) < Inf"
    return (
        Record(name=PRESSURE, expr=fold("max", finite, "scope")),
        *(_tier_threshold(tier, default_ratio(policy, tier)) for tier in RAISED_TIERS),
    )


def _target_seen() -> Record:
    """Remembers itself: a target that once spoke AMM and is still configured."""
    heard = fold("group", series("amm.last_sample.timestamp"), "process_pid")
    return Record(name=TARGET_SEEN, expr=f"{heard}\nor\n(last_over_time({TARGET_SEEN}[1h]) and on (job, instance) up)")


def _tier_threshold(tier: Tier, default: float) -> Record:
    exported = fold("max", series("amm.memory.tier.threshold_ratio", tier=tier.label), "tier")
    return Record(name=TIER_THRESHOLD, labels={"tier": tier.label}, expr=_or_default(exported, PRESSURE, default))


def _or_default(exported: str, present: str, default: float) -> str:
    return f"{exported}\nor\n{present} * 0 + {default:.10g}"


def _baseline(policy: Policy, pace: Pace) -> tuple[Record, ...]:
    day = pace(BASELINE)
    anomaly = policy.anomaly
    moderate = f'{TIER_THRESHOLD}{{tier="moderate"}}'
    spread = f"({CALM_MEDIAN} + {CALM_MAD} * {DEVIATIONS})"
    floor = f"{CALM_MEDIAN} * {FLOOR}"
    parameters = (
        (DEVIATIONS, "amm.anomaly.deviations", anomaly.deviations),
        (FLOOR, "amm.anomaly.floor_ratio", anomaly.floor_ratio),
        (CEILING, "amm.anomaly.ceiling_ratio", anomaly.ceiling_ratio),
    )
    return (
        *(
            Record(name=name, expr=_or_default(fold("max", series(metric)), PRESSURE, value))
            for name, metric, value in parameters
        ),
        # only calm samples teach: learned from all, eight spikes doubled the threshold and the ninth was missed
        Record(name=CALM, expr=f"{PRESSURE} < ignoring (tier) {moderate}"),
        Record(name=CALM_COUNT, expr=_while_alive(f"count_over_time({CALM}[{day}])")),
        Record(name=CALM_MEDIAN, expr=_while_alive(f"quantile_over_time(0.5, {CALM}[{day}])")),
        Record(name=CALM_DEVIATION, expr=f"abs({CALM} - {CALM_MEDIAN})"),
        Record(name=CALM_MAD, expr=_while_alive(f"quantile_over_time(0.5, {CALM_DEVIATION}[{day}])")),
        Record(name=UNBOUNDED_THRESHOLD, expr=f"{spread} > {floor}\nor\n{floor}"),
        Record(name=ADAPTIVE_THRESHOLD, expr=f"{UNBOUNDED_THRESHOLD} < {CEILING}\nor\n{CEILING} and {CALM_MEDIAN}"),
    )


def _while_alive(expr: str) -> str:
    """A window outlives its process by its own length; this ends with the process."""
    return f"{expr}\nand\n{PRESSURE}"


def _leaks(policy: Policy, pace: Pace) -> tuple[Record, ...]:
    threshold = fold("max", series("amm.memory.leak.slope.threshold"))
    memory = f"{METRICS['process.memory.usage'].prometheus}[{pace(900)}]"
    return (
        Record(name=LEAK_LOWER, expr=fold("max", series("amm.memory.leak.slope.lower"))),
        Record(
            name=LEAK_THRESHOLD,
            expr=_or_default(threshold, LEAK_LOWER, policy.leak.min_slope_bytes_per_second),
        ),
        # the floor of a saw-tooth: a window's minimum rises only if memory is not given back
        Record(name=RSS_FLOOR, expr=fold("max", f"min_over_time({memory})")),
    )


def _gc_share(pace: Pace) -> str:
    return fold("sum", f"rate({series('amm.gc.pause.duration', 'sum')}[{pace(300)}])", "generation")


def _caches(pace: Pace) -> tuple[Record, ...]:
    day, window = pace(BASELINE), pace(300)
    asked = fold("sum", f"rate({series('amm.cache.requests')}[{window}])", "result")
    hits = fold("sum", f"rate({series('amm.cache.requests', result='hit')}[{window}])", "result")
    return (
        Record(name=CACHE_REQUESTS, expr=asked),
        # no look-ups: no ratio, rather than NaN; look-ups and no hit yet: 0
        Record(name=CACHE_HITS, expr=f"({hits} or {CACHE_REQUESTS} * 0)\n/\n({CACHE_REQUESTS} > 0)"),
        Record(name=CACHE_HITS_COUNT, expr=f"count_over_time({CACHE_HITS}[{day}])\nand\n{CACHE_REQUESTS}"),
        Record(name=CACHE_HITS_MEDIAN, expr=f"quantile_over_time(0.5, {CACHE_HITS}[{day}])\nand\n{CACHE_REQUESTS}"),
    )


def _budget(pace: Pace) -> tuple[Record, ...]:
    over = fold("max", series("amm.budget.usage_ratio"))
    return (
        Record(name=OVER_BUDGET, expr=f"{over} > bool 1"),
        *(
            Record(
                name=BURN + window,
                expr=f"avg_over_time({OVER_BUDGET}[{pace(seconds)}]) / {ALLOWED_SHARE}\nand\n{OVER_BUDGET}",
            )
            for window, seconds in BURN_WINDOWS.items()
        ),
    )
