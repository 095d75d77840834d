"""Every recording rule, by value."""

from __future__ import annotations

from amm_exporter.export import recording
from amm_exporter.policy import load_policy

COVERED = set()


def covers(*names):
    COVERED.update(names)
    return lambda function: function


@covers(recording.PRESSURE)
def test_pressure_is_the_worst_scope_without_scope_labels(case):
    case.feed("amm.memory.usage_ratio", "0.5x5", scope="tree")
    case.feed("amm.memory.usage_ratio", "0.7x5", scope="host")
    case.query(recording.PRESSURE, 3, {recording.PRESSURE + '{instance="one:9464", job="api"}': 0.7})


@covers(recording.PRESSURE)
def test_pressure_ignores_what_a_limit_of_zero_divides_to(case):
    for number, value in enumerate(("NaN", "Inf", "-1")):
        case.feed("amm.memory.usage_ratio", " ".join([value] * 5), scope="tree", instance=f"bad{number}")
    case.feed("amm.memory.usage_ratio", "0x5", scope="tree")
    case.query(recording.PRESSURE, 3, {recording.PRESSURE + '{instance="one:9464", job="api"}': 0})


@covers(recording.PRESSURE)
def test_pressure_keeps_the_target_labels_it_does_not_know(case):
    case.feed("amm.memory.usage_ratio", "0.5x5", scope="tree", namespace="shop", process_pid="7")
    labels = '{instance="one:9464", job="api", namespace="shop", process_pid="7"}'
    case.query(recording.PRESSURE, 3, {recording.PRESSURE + labels: 0.5})


@covers(recording.TIER_THRESHOLD)
def test_thresholds_are_what_the_process_exports(case):
    case.feed("amm.memory.usage_ratio", "0.5x5", scope="tree")
    case.feed("amm.memory.tier.threshold_ratio", "0.33x5", tier="high")
    case.value(recording.TIER_THRESHOLD, 3, 0.33, tier="high")


@covers(recording.TIER_THRESHOLD)
def test_thresholds_fall_back_to_the_policy_of_the_rules(case):
    case.feed("amm.memory.usage_ratio", "0.5x5", scope="tree")
    for tier, ratio in (("moderate", 0.6), ("high", 0.7), ("severe", 0.8), ("critical", 0.85)):
        case.value(recording.TIER_THRESHOLD, 3, ratio, tier=tier)


@covers(recording.DEVIATIONS, recording.FLOOR, recording.CEILING)
def test_anomaly_parameters_come_from_the_process_else_from_the_policy(case):
    case.feed("amm.memory.usage_ratio", "0.5x5", scope="tree")
    case.feed("amm.memory.usage_ratio", "0.5x5", scope="tree", instance="two")
    for metric, value in (("deviations", 6), ("floor_ratio", 1.3), ("ceiling_ratio", 0.7)):
        case.feed(f"amm.anomaly.{metric}", f"{value}x5")
    for record, own, default in (
        (recording.DEVIATIONS, 6, 4),
        (recording.FLOOR, 1.3, 1.1),
        (recording.CEILING, 0.7, 0.8),
    ):
        case.value(record, 3, own)
        case.value(record, 3, default, instance="two")


@covers(recording.CALM, recording.CALM_COUNT, recording.CALM_MEDIAN)
def test_only_samples_below_moderate_teach(case):
    case.feed("amm.memory.usage_ratio", "0.3x20 0.9x20 0.3x20", scope="tree")
    case.thresholds(60)
    case.absent(recording.CALM, 30)
    case.value(recording.CALM_COUNT, 39, 20)
    case.value(recording.CALM_COUNT, 59, 40)
    case.value(recording.CALM_MEDIAN, 59, 0.3)


@covers(recording.CALM)
def test_moderate_itself_is_not_calm(case):
    case.feed("amm.memory.usage_ratio", "0.6x5", scope="tree")
    case.feed("amm.memory.usage_ratio", "0.599x5", scope="tree", instance="two")
    case.query(recording.CALM, 3, {recording.CALM + '{instance="two", job="api"}': 0.599})


@covers(recording.CALM_DEVIATION, recording.CALM_MAD, recording.UNBOUNDED_THRESHOLD, recording.ADAPTIVE_THRESHOLD)
def test_threshold_is_median_plus_four_deviations(case):
    # thirds of 0.2, 0.3 and 0.4: median 0.3, median deviation 0.1
    case.feed("amm.memory.usage_ratio", " ".join(["0.3 0.2 0.4"] * 40), scope="tree")
    case.thresholds(120)
    case.value(recording.CALM_DEVIATION, 118, 0.1)
    case.value(recording.CALM_MAD, 118, 0.1)
    case.value(recording.UNBOUNDED_THRESHOLD, 118, 0.7)
    case.value(recording.ADAPTIVE_THRESHOLD, 118, 0.7)


@covers(recording.UNBOUNDED_THRESHOLD, recording.ADAPTIVE_THRESHOLD)
def test_threshold_of_a_flat_series_is_the_floor(case):
    case.feed("amm.memory.usage_ratio", "0.4x30", scope="tree")
    case.thresholds(30)
    case.value(recording.CALM_MAD, 20, 0)
    case.value(recording.ADAPTIVE_THRESHOLD, 20, 0.44)


@covers(recording.ADAPTIVE_THRESHOLD)
def test_threshold_stops_at_the_ceiling(case):
    case.feed("amm.memory.usage_ratio", " ".join(["0.5 0.2 0.59"] * 40), scope="tree")
    case.thresholds(120)
    case.value(recording.UNBOUNDED_THRESHOLD, 118, 0.86)
    case.value(recording.ADAPTIVE_THRESHOLD, 118, 0.8)


@covers(recording.ADAPTIVE_THRESHOLD)
def test_baseline_ends_with_the_process(case):
    case.feed("amm.memory.usage_ratio", "0.4x10 stale", scope="tree")
    case.value(recording.CALM_MEDIAN, 9, 0.4)
    for name in (recording.CALM_COUNT, recording.CALM_MEDIAN, recording.CALM_MAD, recording.ADAPTIVE_THRESHOLD):
        case.absent(name, 20)


@covers(recording.LEAK_LOWER, recording.LEAK_THRESHOLD)
def test_leak_threshold_comes_from_the_process_else_from_the_policy(case):
    case.feed("amm.memory.leak.slope.lower", "1000x5", series="rss")
    case.feed("amm.memory.leak.slope.lower", "1000x5", series="blocks")
    case.feed("amm.memory.leak.slope.threshold", "77x5", series="rss")
    case.value(recording.LEAK_LOWER, 3, 1000, series="rss")
    case.value(recording.LEAK_THRESHOLD, 3, 77, series="rss")
    case.value(recording.LEAK_THRESHOLD, 3, 291.2711, within=1e-3, series="blocks")


@covers(recording.RSS_FLOOR)
def test_memory_floor_is_the_lowest_of_a_quarter_of_an_hour(case):
    case.feed("process.memory.usage", " ".join(["100 900"] * 20))
    case.value(recording.RSS_FLOOR, 20, 100)


@covers(recording.GC_SHARE)
def test_gc_share_sums_the_generations(case):
    for generation, rate in (("0", 3), ("2", 6)):
        case.feed("amm.gc.pause.duration", f"0+{rate}x10", part="_sum", generation=generation)
    case.value(recording.GC_SHARE, 8, 0.15)


@covers(recording.GC_SHARE)
def test_gc_share_survives_a_restart(case):
    case.feed("amm.gc.pause.duration", "0+6x9 0+6x9", part="_sum", generation="2")
    case.query(f"{recording.GC_SHARE} >= 0 < 0.11", 12, {recording.GC_SHARE + '{instance="one:9464", job="api"}': 0.08})


@covers(recording.CACHE_REQUESTS, recording.CACHE_HITS, recording.CACHE_HITS_COUNT, recording.CACHE_HITS_MEDIAN)
def test_cache_hit_ratio_of_the_last_minutes_and_its_own_median(case):
    case.feed("amm.cache.requests", "0+45x30", name="users", result="hit")
    case.feed("amm.cache.requests", "0+15x30", name="users", result="miss")
    case.value(recording.CACHE_REQUESTS, 20, 1, name="users")
    case.value(recording.CACHE_HITS, 20, 0.75, name="users")
    case.value(recording.CACHE_HITS_MEDIAN, 20, 0.75, name="users")
    case.value(recording.CACHE_HITS_COUNT, 20, 20, name="users")


@covers(recording.CACHE_HITS)
def test_an_idle_cache_has_no_ratio_and_one_without_hits_has_zero(case):
    for result in ("hit", "miss"):
        case.feed("amm.cache.requests", "5x30", name="idle", result=result)
    case.feed("amm.cache.requests", "0+60x30", name="cold", result="miss")
    name = recording.CACHE_HITS
    case.query(name, 20, {name + '{instance="one:9464", job="api", name="cold"}': 0})


@covers(recording.OVER_BUDGET, *(recording.BURN + window for window in recording.BURN_WINDOWS))
def test_burn_is_time_over_budget_against_the_allowed_hundredth(case):
    # over for the last ten minutes of six hours; windows lose a sample where they are open to the left
    case.feed("amm.budget.usage_ratio", "0.9x350 1.1x10")
    case.value(recording.OVER_BUDGET, 355, 1)
    case.value(recording.OVER_BUDGET, 349, 0)
    case.value(recording.BURN + "5m", 359, 100)
    case.value(recording.BURN + "30m", 359, 100 / 3, within=1.5)
    case.value(recording.BURN + "1h", 359, 17, within=1.5)
    case.value(recording.BURN + "6h", 359, 3, within=1.5)


@covers(recording.OVER_BUDGET)
def test_exactly_on_budget_is_within_it(case):
    case.feed("amm.budget.usage_ratio", "1x5")
    case.value(recording.OVER_BUDGET, 3, 0)


@covers(recording.TARGET_SEEN)
def test_a_target_is_remembered_while_it_is_configured(case):
    case.feed("amm.last_sample.timestamp", "0+60x4 stale")
    case.feed("up", "1x5 0x100 stale")
    case.feed("up", "1x200", job="node", instance="node:9100")
    name = recording.TARGET_SEEN
    case.query(name, 60, {name + '{instance="one:9464", job="api"}': 1})
    case.absent(name, 120)


def test_every_recording_rule_is_tested_by_value():
    assert recording.recorded_names(load_policy({}, environ={})) == COVERED
