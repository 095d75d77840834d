"""The whole chain, live: a real program under real pressure, Prometheus, Alertmanager, webhook, all at one second."""

from __future__ import annotations

import time

import pytest
import yaml
from monitoring import Alertmanager, Prometheus, TableExporter, Webhook, wait_until
from pressured import Pressured

from amm_exporter.export.promql import Pace
from amm_exporter.export.rules import alertmanager_example, rule_files
from amm_exporter.policy import load_policy

pytestmark = pytest.mark.e2e

TRIALS = 10
FIRES_WITHIN, RESOLVES_WITHIN = 3.0, 5.0


class Chain:
    def __init__(self, folder, targets, *, speed=1.0):
        self.webhook = Webhook()
        config = yaml.safe_load(alertmanager_example())
        for route in (config["route"], *config["route"]["routes"]):
            route.update(group_wait="0s", group_interval="1s")
        for receiver in config["receivers"]:
            receiver["webhook_configs"] = [{"url": self.webhook.url, "send_resolved": True}]
        self.alertmanager = Alertmanager(folder / "alertmanager", config)
        (rules,) = rule_files(load_policy({}, environ={}), pace=Pace(speed=speed)).values()
        self.prometheus = Prometheus(
            folder / "prometheus", {"api": targets}, rules=rules, alertmanager=self.alertmanager.port
        )

    def stop(self):
        self.prometheus.stop()
        self.alertmanager.stop()
        self.webhook.stop()


@pytest.fixture
def program(tmp_path):
    found = Pressured(tmp_path, interval="200ms")
    yield found
    found.stop()


@pytest.fixture
def chain(tmp_path, program):
    built = Chain(tmp_path, [program.port])
    yield built
    built.stop()


def test_critical_reaches_the_webhook_in_seconds_and_resolves(chain, program, record_property):
    program.hold(0.5)
    wait_until(lambda: chain.prometheus.value("amm:pressure_ratio:max"))
    time.sleep(3)
    fired, resolved = [], []
    for trial in range(TRIALS):
        time.sleep(trial / TRIALS)  # another phase of the one-second beat each time
        fired.append(-program.hold(0.92) + chain.webhook.next("AmmMemoryCritical", "firing", 30)[0])
        time.sleep(trial / TRIALS)
        resolved.append(-program.hold(0.5) + chain.webhook.next("AmmMemoryCritical", "resolved", 30)[0])
    record_property("fires_seconds", sorted(fired))
    record_property("resolves_seconds", sorted(resolved))
    assert max(fired) <= FIRES_WITHIN, sorted(fired)
    assert max(resolved) <= RESOLVES_WITHIN, sorted(resolved)


def test_what_people_read_has_no_template_error(chain, program):
    program.hold(0.92)
    _, alert = chain.webhook.next("AmmMemoryCritical", "firing", 30)
    assert alert["annotations"]["runbook_url"].endswith("/AmmMemoryCritical.md")
    assert "% of its limit" in alert["annotations"]["description"]
    assert "error" not in alert["annotations"]["description"]


def test_critical_silences_the_rest_of_the_same_process(tmp_path, program):
    """At 92 % SEVERE and HIGH hold too; a minute of waiting is a second here."""
    chain = Chain(tmp_path, [program.port], speed=60)
    try:
        program.hold(0.92)
        chain.webhook.next("AmmMemoryCritical", "firing", 30)
        wait_until(lambda: {"AmmMemorySevere", "AmmMemoryHigh"} <= chain.prometheus.firing())
        time.sleep(3)
        assert {alert["labels"]["alertname"] for _, alert in chain.webhook.received.queue} <= {"AmmMemoryCritical"}
    finally:
        chain.stop()


@pytest.mark.slow
def test_spikes_do_not_move_the_threshold_and_the_next_anomaly_still_alerts(tmp_path, record_property):
    """A minute of rules in each second: ninety seconds of calm, eight spikes, then a level that is merely unusual."""
    program = Pressured(tmp_path, interval="200ms")
    program.hold(0.35)
    chain = Chain(tmp_path, [program.port], speed=60)
    threshold = "amm:adaptive_threshold_ratio:bounded"
    try:
        time.sleep(90)
        before = chain.prometheus.value(threshold)
        for _ in range(8):
            program.hold(0.9)
            time.sleep(5)
            program.hold(0.35)
            time.sleep(10)
        after = chain.prometheus.value(threshold)
        assert before is not None
        assert after is not None
        record_property("threshold_moved_ratio", abs(after - before) / before)
        assert after == pytest.approx(before, rel=0.05)
        wait_until(lambda: "AmmPressureAnomalous" not in chain.prometheus.firing())
        time.sleep(3)  # until Alertmanager has told that it is resolved
        chain.webhook.forget()
        since = program.hold(0.5)
        at, _ = chain.webhook.next("AmmPressureAnomalous", "firing", 30)
        record_property("anomaly_seconds", at - since)
    finally:
        chain.stop()
        program.stop()


@pytest.mark.slow
def test_a_steady_program_raises_nothing_in_ten_minutes(tmp_path):
    """Ten hours of rule time: every window of the leak, burn and exporter alerts has passed."""
    program = Pressured(tmp_path)
    program.hold(0.5)
    chain = Chain(tmp_path, [program.port], speed=60)
    try:
        end = time.monotonic() + 600
        while time.monotonic() < end:
            time.sleep(1)
            assert chain.prometheus.firing() == set()
        assert chain.prometheus.rule_errors() == []
        assert chain.webhook.received.empty()
    finally:
        chain.stop()
        program.stop()


def test_a_leak_raises_the_leak_alert_and_nothing_else(tmp_path):
    exporter = TableExporter()
    exporter.values.update({"amm.memory.leak.slope.lower": 4e5, "amm.memory.leak.detected": 1})
    chain = Chain(tmp_path, [exporter.port], speed=60)
    try:
        started = time.monotonic()

        def leaked():
            exporter.values["process.memory.usage"] = 1e8 + 5e5 * (time.monotonic() - started)
            return "AmmLeakSuspected" in chain.prometheus.firing()

        wait_until(leaked, 90, every=0.2)
        _, alert = chain.webhook.next("AmmLeakSuspected", "firing", 10)
        assert alert["labels"]["severity"] == "warning"
        assert chain.prometheus.firing() == {"AmmLeakSuspected"}
    finally:
        chain.stop()
        exporter.stop()


LEAK = """
import time
kept = []
while True:
    kept.append(b"x" * 40000)
    time.sleep(0.1)
"""


@pytest.mark.slow
def test_a_program_that_leaks_raises_the_leak_alert_and_nothing_else(tmp_path, record_property):
    """0.4 MB/s, which reaches MODERATE after four minutes. No baseline sees it: the median follows."""
    program = Pressured(tmp_path, LEAK)
    started = time.monotonic()
    chain = Chain(tmp_path, [program.port], speed=60)
    try:
        seen = set()

        def leak_told():
            seen.update(chain.prometheus.firing())
            return "AmmLeakSuspected" in seen

        wait_until(leak_told, 200, every=0.5)
        record_property("leak_seconds", time.monotonic() - started)
        chain.webhook.next("AmmLeakSuspected", "firing", 10)
        assert seen == {"AmmLeakSuspected"}
    finally:
        chain.stop()
        program.stop()


def test_a_target_that_goes_away_is_told(tmp_path):
    program = Pressured(tmp_path)
    chain = Chain(tmp_path, [program.port], speed=60)
    try:
        wait_until(lambda: chain.prometheus.query("amm:target:seen"))
        program.stop()
        chain.webhook.next("AmmTargetDown", "firing", 30)
    finally:
        chain.stop()
        program.stop()
