"""What production does to rules: recurring spikes, restarts, a changing policy, several processes, a fleet."""

from __future__ import annotations

import yaml

from amm_exporter.export import recording

FIRING = 'ALERTS{alertstate="firing"}'


def test_spikes_that_recur_do_not_raise_the_threshold(case):
    case.thresholds(400)
    calm = "0.30x1 0.31x1 0.29x1 " * 10
    case.feed("amm.memory.usage_ratio", calm * 3 + ("0.9x5 " + calm) * 8 + "0.5x10", scope="tree")
    last = 90 + 35 * 8
    case.value(recording.ADAPTIVE_THRESHOLD, 89, 0.34)
    case.value(recording.ADAPTIVE_THRESHOLD, last - 1, 0.34)
    case.firing("AmmPressureAnomalous", last + 4)


def test_spikes_below_moderate_do_not_move_it_either(case):
    case.thresholds(400)
    calm = "0.30x1 0.31x1 0.29x1 " * 10
    case.feed("amm.memory.usage_ratio", calm * 3 + ("0.55x5 " + calm) * 8 + "0.5x10", scope="tree")
    last = 90 + 35 * 8
    case.value(recording.ADAPTIVE_THRESHOLD, last - 1, 0.34, within=0.34 * 0.05)
    case.firing("AmmPressureAnomalous", last + 4)


def test_missing_thresholds_leave_every_pressure_alert_on_duty(case):
    case.feed("amm.memory.usage_ratio", "0.3x100 0.9x20", scope="tree")
    expected = ("AmmMemoryCritical", "AmmMemorySevere", "AmmMemoryHigh", "AmmPressureAnomalous", "AmmThresholdsMissing")
    case.only_firing(110, *expected)


def test_a_limit_of_zero_alerts_nobody(case):
    case.thresholds(120)
    case.feed("amm.memory.limit", "0x120", source="policy")
    case.feed("amm.memory.usage_ratio", "0x120", scope="tree")
    case.feed("amm.memory.usage_ratio", " ".join(["Inf"] * 120), scope="host")
    case.feed("amm.budget.usage_ratio", " ".join(["NaN"] * 120))
    case.query(FIRING, 110, {})


def test_a_restart_is_no_incident(case):
    """Counters that fall to zero, an uptime that starts again, the same instance."""
    case.thresholds(60)
    case.feed("amm.memory.usage_ratio", "0.4x30 _x1 0.1x29", scope="tree")
    case.feed("amm.last_sample.timestamp", "0+60x29 _x1 1860+60x29")
    case.feed("process.uptime", "0+60x29 _x1 0+60x29")
    case.feed("amm.emergency.stops", "0x30 _x1 0x29")
    case.feed("amm.cgroup.events", "7x30 _x1 0x29", event="oom_kill")
    case.feed("cpython.gc.uncollectable_objects", "3x30 _x1 0x29", cpython_gc_generation="2")
    case.feed("amm.gc.pause.duration", "0+2x29 _x1 0+2x29", part="_sum", generation="2")
    case.feed("amm.pool.requests", "5x30 _x1 0x29", name="buffers", result="wait")
    case.feed("up", "1x30 0x1 1x29")
    for minute in (30, 32, 36, 50):
        case.query(FIRING, minute, {})


def test_a_counter_reset_by_an_event_still_alerts(case):
    case.feed("amm.emergency.stops", "4x30 1x30")
    case.firing("AmmEmergencyStop", 32)


def test_a_policy_change_moves_the_alert_without_a_rule_edit(case):
    case.feed("amm.memory.usage_ratio", "0.8x60", scope="tree")
    for tier, before, after in (
        ("moderate", 0.6, 0.5),
        ("high", 0.81, 0.55),
        ("severe", 0.9, 0.6),
        ("critical", 0.95, 0.7),
    ):
        case.feed("amm.memory.tier.threshold_ratio", f"{before}x20 {after}x20 {before}x20", tier=tier)
    case.silent("AmmMemoryCritical", 19)
    case.firing("AmmMemoryCritical", 20)
    case.silent("AmmMemoryCritical", 40)


def test_an_anomaly_policy_change_moves_the_threshold(case):
    case.feed("amm.memory.usage_ratio", "0.4x60", scope="tree")
    case.feed("amm.anomaly.floor_ratio", "1.1x30 1.5x30")
    case.value(recording.ADAPTIVE_THRESHOLD, 29, 0.44)
    case.value(recording.ADAPTIVE_THRESHOLD, 30, 0.6)


def test_two_processes_on_one_host_are_judged_each_by_its_own_policy(case):
    for instance, critical in (("host:9464", 0.95), ("host:9465", 0.7)):
        case.feed("amm.memory.usage_ratio", "0.8x10", scope="tree", instance=instance)
        case.feed("amm.memory.tier.threshold_ratio", f"{critical}x10", tier="critical", instance=instance)
    case.query(
        'ALERTS{alertname="AmmMemoryCritical"}',
        5,
        {
            'ALERTS{alertname="AmmMemoryCritical", alertstate="firing", instance="host:9465", job="api",'
            ' severity="critical"}': 1
        },
    )


def test_two_workers_behind_one_address_are_judged_apart(case):
    for pid, ratio in (("11", 0.5), ("12", 0.9)):
        case.thresholds(10, process_pid=pid)
        case.feed("amm.memory.usage_ratio", f"{ratio}x10", scope="tree", process_pid=pid)
    case.query('count by (process_pid) (ALERTS{alertname="AmmMemoryCritical"})', 5, {'{process_pid="12"}': 1})


def test_the_same_instance_of_two_clusters_does_not_break_the_joins(case):
    for cluster, ratio in (("east", 0.9), ("west", 0.5)):
        case.thresholds(10, cluster=cluster)
        case.feed("amm.memory.usage_ratio", f"{ratio}x10", scope="tree", cluster=cluster)
    case.query('count by (cluster) (ALERTS{alertname="AmmMemoryCritical"})', 5, {'{cluster="east"}': 1})


def test_thresholds_without_scope_labels_join_series_that_have_them(case):
    case.feed("amm.memory.usage_ratio", "0.8x10", scope="tree")
    case.feed("amm.memory.tier.threshold_ratio", "0.7x10", tier="critical", otel_scope_name="another")
    case.firing("AmmMemoryCritical", 5)


def test_a_thousand_processes_alert_one_by_one(case):
    for number in range(1000):
        instance = f"host{number % 40}:{9464 + number // 40}"
        ratio = 0.9 if number < 7 else 0.4
        case.feed("amm.memory.usage_ratio", f"{ratio}x4", scope="tree", instance=instance)
        case.feed("amm.memory.tier.threshold_ratio", "0.85x4", tier="critical", instance=instance)
    case.firing("AmmMemoryCritical", 3, count=7)
    case.query(f"count({recording.TIER_THRESHOLD})", 3, {"": 4000})
    case.query(f"count({recording.PRESSURE})", 3, {"": 1000})


def test_no_group_is_too_large_to_evaluate_in_time(case):
    case.feed("up", "1x3")
    case.query("up", 1, {'up{instance="one:9464", job="api"}': 1})
    groups = yaml.safe_load(case.rules)["groups"]
    assert max(len(group["rules"]) for group in groups) <= 20
