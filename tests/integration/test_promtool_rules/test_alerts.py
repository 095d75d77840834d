"""Every alert, firing and silent, with what it says to people."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from amm_exporter.export.alerts import alert_names
from amm_exporter.export.promql import of_group
from amm_exporter.policy import load_policy

WHO = "api at one:9464"


@pytest.mark.parametrize(
    ("tier", "enters", "wait", "meaning"),
    [
        ("critical", 0.85, 0, "the kernel or a limit may end the process at any moment"),
        ("severe", 0.8, 1, "shed load and drop caches now"),
        ("high", 0.7, 5, "reclaim before it grows further"),
    ],
)
def test_tier_alerts_from_the_exported_threshold_on(case, tier, enters, wait, meaning):
    alert = f"AmmMemory{tier.capitalize()}"
    case.thresholds(40)
    case.feed("amm.memory.usage_ratio", f"{enters - 0.001:.3f}x10 {enters}x20 0.3x10", scope="tree")
    case.silent(alert, 9)
    if wait:
        case.silent(alert, 10 + wait - 1)
    case.fires(alert, 10 + wait, f"{WHO} uses {enters * 100:.4g}% of its limit: {meaning}.")
    case.silent(alert, 33)


def test_critical_names_the_worker_of_a_prefork_family(case):
    case.thresholds(10, process_pid="42")
    case.feed("amm.memory.usage_ratio", "0.9x10", scope="tree", process_pid="42")
    text = f"{WHO} (pid 42) uses 90% of its limit: the kernel or a limit may end the process at any moment."
    case.fires("AmmMemoryCritical", 3, text, process_pid="42")


def test_anomalous_pressure_fires_above_the_learned_threshold(case):
    case.thresholds(140)
    case.feed("amm.memory.usage_ratio", "0.3x100 0.5x10 0.3x10", scope="tree")
    case.silent("AmmPressureAnomalous", 99)
    case.silent("AmmPressureAnomalous", 101)
    text = (
        f"{WHO} uses 50% of its limit, above the adaptive threshold learned from its calm day (median and deviations as"
        " its policy says)."
    )
    case.fires("AmmPressureAnomalous", 103, text)
    case.silent("AmmPressureAnomalous", 115)


def test_anomalous_pressure_is_silent_before_it_has_learned_an_hour(case):
    case.thresholds(60)
    case.feed("amm.memory.usage_ratio", "0.3x40 0.5x10", scope="tree")
    case.silent("AmmPressureAnomalous", 48)


def test_anomalous_pressure_is_silent_where_the_rise_is_immaterial(case):
    case.thresholds(140)
    case.feed("amm.memory.usage_ratio", "0.01x100 0.025x20", scope="tree")
    case.silent("AmmPressureAnomalous", 110)


def test_thrashing_fires_at_a_tenth_of_the_time(case):
    for instance, stall in (("one:9464", 9), ("two", 5)):
        labels = {"kind": "some", "scope": "host", "instance": instance}
        case.feed("amm.memory.pressure.stall", f"0+{stall}x30", **labels)
    text = f"Around {WHO}, tasks of the host stood still for want of memory 15% of the time."
    case.fires("AmmMemoryThrashing", 15, text, scope="host")
    case.silent("AmmMemoryThrashing", 4)


def test_exhaustion_fires_above_moderate_when_less_than_an_hour_is_left(case):
    case.thresholds(30)
    case.feed("amm.memory.usage_ratio", "0.65x30", scope="tree")
    case.feed("amm.memory.exhaustion", "3601x10 3000x20")
    case.silent("AmmExhaustionPredicted", 9)
    case.fires("AmmExhaustionPredicted", 13, f"{WHO} reaches its memory limit in 50m 0s.")


def test_exhaustion_is_silent_at_start_up_and_where_nothing_grows(case):
    for instance in ("calm", "flat"):
        case.thresholds(30, instance=instance)
    case.feed("amm.memory.usage_ratio", "0.3x30", scope="tree", instance="calm")
    case.feed("amm.memory.exhaustion", "60x30", instance="calm")
    case.feed("amm.memory.usage_ratio", "0.69x30", scope="tree", instance="flat")
    case.silent("AmmExhaustionPredicted", 20)


def leak(case, instance="one:9464", *, lower=2000, growth=600000, detected=None, minutes=60):
    labels = {"instance": instance}
    case.feed("process.memory.usage", f"100000000{growth:+}x{minutes}", **labels)
    case.feed("amm.memory.leak.slope.lower", f"{lower}x{minutes}", series="rss", **labels)
    case.feed("amm.memory.leak.slope.threshold", f"1000x{minutes}", series="rss", **labels)
    if detected is not None:
        case.feed("amm.memory.leak.detected", f"{detected}x{minutes}", series="rss", **labels)


@pytest.mark.parametrize("detected", [None, 1])
def test_leak_fires_on_the_lower_bound_and_rising_memory(case, detected):
    leak(case, detected=detected)
    text = (
        f"{WHO}: rss grows by at least 1.953kiB/s (lower confidence bound), more than the policy's smallest leak, and"
        " the lowest resident memory rises too."
    )
    case.silent("AmmLeakSuspected", 20)
    case.fires("AmmLeakSuspected", 40, text, series="rss")


@pytest.mark.parametrize(
    "why",
    [{"lower": 1000}, {"lower": -50}, {"growth": 0}, {"growth": -600000}, {"detected": 0}],
    ids=["bound-at-threshold", "bound-negative", "memory-flat", "memory-falling", "judged-a-warm-up"],
)
def test_leak_is_silent(case, why):
    leak(case, **why)
    case.silent("AmmLeakSuspected", 55)


def test_leak_is_silent_on_a_saw_tooth(case):
    case.feed("process.memory.usage", " ".join(["100000000+9000000x9"] * 9))
    case.feed("amm.memory.leak.slope.lower", "2000x90", series="rss")
    case.silent("AmmLeakSuspected", 85)


def test_fast_burn_fires_within_minutes_and_ends_with_the_overrun(case):
    case.feed("amm.budget.usage_ratio", "0.9x60 1.2x20 0.9x20")
    case.silent("AmmBudgetBurnFast", 65)
    case.firing("AmmBudgetBurnFast", 76)
    case.silent("AmmBudgetBurnFast", 88)


def test_fast_burn_is_silent_on_a_short_overrun(case):
    case.feed("amm.budget.usage_ratio", "0.9x60 1.2x5 0.9x20")
    for minute in (62, 66, 70):
        case.silent("AmmBudgetBurnFast", minute)


def test_burn_says_how_much_too_long(case):
    case.feed("amm.budget.usage_ratio", "1.2x60")
    text = f"{WHO} was over its memory budget 100 times as long as allowed over {{}} (1% of the time is)."
    case.fires("AmmBudgetBurnFast", 30, text.format("1h"))
    case.fires("AmmBudgetBurnSlow", 30, text.format("6h"))


def test_slow_burn_fires_on_what_the_fast_one_misses(case):
    case.feed("amm.budget.usage_ratio", " ".join(["1.2x4 0.9x36"] * 12))
    case.firing("AmmBudgetBurnSlow", 425)
    case.firing("AmmBudgetBurnFast", 425, count=0)


def test_slow_burn_is_silent_within_the_allowance(case):
    case.feed("amm.budget.usage_ratio", "0.9x200 1.2x3 0.9x200")
    case.silent("AmmBudgetBurnSlow", 220)


def test_gc_time_fires_above_a_tenth(case):
    for instance, seconds in (("one:9464", 7.5), ("two", 5.7)):
        case.feed("amm.gc.pause.duration", f"0+{seconds}x40", part="_sum", generation="2", instance=instance)
    case.silent("AmmGcTimeHigh", 9)
    case.fires("AmmGcTimeHigh", 25, f"{WHO} spends 12.5% of its time in garbage collection.")


def test_uncollectable_garbage_fires_for_an_hour_after_it_was_found(case):
    case.feed("cpython.gc.uncollectable_objects", "0x20 60x90", cpython_gc_generation="2")
    case.silent("AmmGarbageUncollectable", 19)
    case.fires("AmmGarbageUncollectable", 60, f"{WHO}: 60 objects became uncollectable within an hour.")
    case.silent("AmmGarbageUncollectable", 100)


def test_cache_alert_fires_far_below_its_own_past(case):
    case.feed("amm.cache.requests", "0+54x99 5346+12x60", name="users", result="hit")
    case.feed("amm.cache.requests", "0+6x99 594+48x60", name="users", result="miss")
    case.silent("AmmCacheHitRatioLow", 99)
    text = f"{WHO}: cache users hits 20% of the time, far below its own median of the last day."
    case.fires("AmmCacheHitRatioLow", 125, text, name="users")


def test_cache_alert_is_silent_where_the_ratio_was_always_low_or_nobody_asks(case):
    case.feed("amm.cache.requests", "0+12x160", name="steady", result="hit")
    case.feed("amm.cache.requests", "0+48x160", name="steady", result="miss")
    case.feed("amm.cache.requests", "0+54x99 5346x60", name="idle", result="hit")
    case.feed("amm.cache.requests", "0+6x99 594+1x60", name="idle", result="miss")
    case.silent("AmmCacheHitRatioLow", 150)


def test_pool_alert_fires_when_callers_wait(case):
    case.feed("amm.pool.requests", "0x10 0+3x20", name="buffers", result="wait")
    case.feed("amm.pool.requests", "0+60x30", name="buffers", result="hit")
    case.silent("AmmPoolExhausted", 9)
    text = f"{WHO}: 15 acquisitions of pool buffers had to wait within five minutes."
    case.fires("AmmPoolExhausted", 25, text, name="buffers")


@pytest.mark.parametrize(
    ("alert", "metric", "labels", "text"),
    [
        ("AmmEmergencyStop", "amm.emergency.stops", {}, f"{WHO} stopped work in an emergency."),
        (
            "AmmOomKill",
            "amm.cgroup.events",
            {"event": "oom_kill"},
            f"In the cgroup of {WHO}, the kernel's OOM killer ended a process.",
        ),
    ],
)
class TestIncidents:
    def test_fires_once_the_counter_moves_and_ends_after_a_quarter_of_an_hour(self, case, alert, metric, labels, text):
        case.feed(metric, "0x20 1x40", **labels)
        case.silent(alert, 19)
        case.fires(alert, 22, text)
        case.silent(alert, 40)

    def test_fires_when_the_counter_is_born_with_the_event(self, case, alert, metric, labels, text):
        case.feed("amm.memory.usage_ratio", "0.5x60", scope="tree")
        case.feed("process.uptime", "90000+60x60")
        case.feed(metric, "_x30 1x30", **labels)
        case.fires(alert, 31, text)
        case.silent(alert, 50)

    def test_fires_when_a_young_process_starts_with_it(self, case, alert, metric, labels, text):
        case.feed("process.uptime", "5+60x60")
        case.feed(metric, "1x60", **labels)
        case.fires(alert, 2, text)
        case.silent(alert, 30)

    def test_is_silent_on_old_events_of_a_process_seen_for_the_first_time(self, case, alert, metric, labels, text):
        assert text
        case.feed("process.uptime", "90000+60x60")
        case.feed("amm.memory.usage_ratio", "0.5x60", scope="tree")
        case.feed(metric, "3x60", **labels)
        for minute in (1, 16, 40):
            case.silent(alert, minute)


def test_an_emergency_stop_of_a_worker_that_has_ended_is_told_by_its_family(case):
    case.feed(of_group("amm.emergency.stops"), "0x20 1x20")
    case.fires("AmmEmergencyStop", 22, f"{WHO} stopped work in an emergency.")


def test_an_emergency_stop_of_a_live_worker_is_told_once(case):
    case.feed(of_group("amm.emergency.stops"), "0x20 1x20")
    case.feed("amm.emergency.stops", "0x20 1x20", process_pid="7")
    case.fires("AmmEmergencyStop", 22, f"{WHO} (pid 7) stopped work in an emergency.", process_pid="7")


def test_oom_alert_is_silent_where_the_limit_was_hit_and_nobody_killed(case):
    case.feed("amm.cgroup.events", "0x20 9x20", event="oom")
    case.silent("AmmOomKill", 25)


def test_target_down_fires_for_a_target_that_once_answered(case):
    case.feed("amm.last_sample.timestamp", "0+60x9 stale")
    case.feed("up", "1x10 0x30")
    case.silent("AmmTargetDown", 11)
    text = f"{WHO} cannot be scraped: it ended, hangs, or its port is not reachable."
    case.fires("AmmTargetDown", 12, text)


def test_target_down_is_silent_for_others_and_for_a_target_taken_out(case):
    case.feed("up", "0x40", job="node", instance="node:9100")
    case.feed("amm.last_sample.timestamp", "0+60x9 stale")
    case.feed("up", "1x10 stale")
    case.silent("AmmTargetDown", 30)


def test_sampler_stalled_fires_when_the_last_sample_grows_old(case):
    case.feed("amm.last_sample.timestamp", "0+60x10 600x30")
    case.silent("AmmSamplerStalled", 10)
    case.fires("AmmSamplerStalled", 20, f"The last sample of {WHO} is 10m 0s old; its figures are stale.")


def test_sampler_stalled_is_silent_on_a_clock_that_is_late_but_moves(case):
    case.feed("amm.last_sample.timestamp", "-3600+60x40")
    case.silent("AmmSamplerStalled", 30)


@pytest.mark.parametrize("gone", ["moderate", "critical", "deviations", "floor_ratio", "ceiling_ratio"])
def test_missing_thresholds_are_told(case, gone):
    case.feed("amm.memory.usage_ratio", "0.3x30", scope="tree")
    case.thresholds(30, leave_out=(gone,))
    text = f"{WHO} lacks tier, anomaly or leak thresholds: the defaults of the rules judge it."
    case.silent("AmmThresholdsMissing", 4)
    case.fires("AmmThresholdsMissing", 6, text)


def test_missing_leak_threshold_is_told(case):
    case.feed("amm.memory.leak.slope.lower", "5x30", series="rss")
    case.firing("AmmThresholdsMissing", 6)


def test_thresholds_missing_is_silent_with_all_of_them(case):
    case.feed("amm.memory.usage_ratio", "0.3x30", scope="tree")
    case.feed("amm.memory.leak.slope.lower", "5x30", series="rss")
    case.feed("amm.memory.leak.slope.threshold", "5x30", series="rss")
    case.thresholds(30)
    case.silent("AmmThresholdsMissing", 20)


def test_results_of_a_run_alert_for_a_day(case):
    case.sample_minutes = 10
    case.feed("amm.test.run.timestamp", "0x150", suite="unit")
    case.feed("amm.test.breaches", "2x150", suite="unit", kind="session")
    case.feed("amm.test.breaches", "0x150", suite="unit", kind="test")
    case.feed("amm.test.leaks", "1x150", suite="unit", verdict="leak")
    case.feed("amm.test.leaks", "5x150", suite="unit", verdict="clean")
    breach = "Breaches of the session budget in the last run of unit: 2."
    case.fires("AmmTestBudgetBreached", 60, breach, suite="unit", kind="session")
    case.fires("AmmTestLeakFound", 60, "Leaks found by the leak gates of the last run of unit: 1.", suite="unit")
    case.silent("AmmTestBudgetBreached", 1450)
    case.silent("AmmTestLeakFound", 1450)


def test_results_sent_once_alert_for_a_day_until_a_clean_run(case):
    """As by OTLP: one sample a run, which an instant query forgets after five minutes."""
    case.sample_minutes = 10
    case.feed("amm.test.run.timestamp", "0 _x47 28800 _x102", suite="unit")
    case.feed("amm.test.breaches", "2 _x47 0 _x102", suite="unit", kind="session")
    case.feed("amm.test.leaks", "1 _x47 0 _x102", suite="unit", verdict="leak")
    for alert in ("AmmTestBudgetBreached", "AmmTestLeakFound"):
        case.firing(alert, 470)
        case.firing(alert, 480, 0)


def test_every_alert_is_tested_firing_and_silent():
    text = Path(__file__).read_text(encoding="utf-8")
    text = text.replace('f"AmmMemory{tier.capitalize()}"', "")
    for alert in alert_names(load_policy({}, environ={})):
        if re.fullmatch("AmmMemory(Critical|Severe|High)|AmmEmergencyStop|AmmOomKill", alert):
            continue  # parametrized above, each with both
        assert re.search(rf'case\.(fires|firing)\(\s*"{alert}"', text), f"{alert} is never shown firing"
        assert re.search(rf'case\.silent\(\s*"{alert}"', text), f"{alert} is never shown silent"
