"""The governor over a fake sampler and clock, and what its own thread, files and callbacks leave behind: nothing."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from amm_exporter.control.governor import Governor
from amm_exporter.control.sampling import STAND_SECONDS
from amm_exporter.control.tier_keeper import TierKeeper
from amm_exporter.errors import AMMError, PolicyError
from amm_exporter.model import Limit, Reading, Sample, Tier, TierChange
from amm_exporter.policy import load_policy
from amm_exporter.units import GIB, MIB


class FakeSampler:
    """Gives the uses it is told to, one a second of a clock of its own, the last one for ever."""

    def __init__(self, *used_mib: float, limit_bytes: int = 1000 * MIB) -> None:
        self.used_mib = list(used_mib)
        self.limit_bytes = limit_bytes
        self.now = 100.0
        self.taken = 0
        self.closed = 0
        self.probes = {"fake": True}
        self.stands_until = self.around_until = self.rests_until = float("inf")

    def clock(self) -> float:
        return self.now

    def take(self) -> Sample:
        self.now += 1.0
        self.taken += 1
        used = self.used_mib.pop(0) if len(self.used_mib) > 1 else self.used_mib[0]
        return Sample(
            t_seconds=self.now,
            unix_seconds=1.7e9 + self.now,
            process=None,
            readings=(Reading(scope="tree", used_bytes=int(used * MIB), limit_bytes=self.limit_bytes),),
            limit=Limit(source="ram", size_bytes=self.limit_bytes),
        )

    def glance(self, slack_bytes: int) -> dict[str, int] | None:
        return None

    def is_still(self) -> bool:
        return False

    def close(self) -> None:
        self.closed += 1


def governor(sampler: FakeSampler, **policy: object) -> Governor:
    loaded = load_policy(policy, environ={})
    return Governor(loaded, sampler=sampler, clock=sampler.clock, plugins=lambda: None)  # type: ignore[arg-type]


def test_a_sample_decides_the_tier() -> None:
    watched = governor(FakeSampler(500, 720, 900))
    seen = []
    for _ in range(3):
        watched.sample()
        seen.append(watched.tier)
    assert seen == [Tier.NORMAL, Tier.HIGH, Tier.CRITICAL]
    assert watched.latest is not None
    assert watched.latest.worst == Reading(scope="tree", used_bytes=900 * MIB, limit_bytes=1000 * MIB)


def test_the_plan_follows_the_tier() -> None:
    watched = governor(FakeSampler(100, 720), plan={"batch_size": {"normal": 1000, "high": 250}})
    watched.sample()
    assert watched.setting("batch_size") == 1000
    watched.sample()
    assert watched.setting("batch_size") == 250


def test_a_setting_that_the_plan_does_not_have() -> None:
    with pytest.raises(AMMError) as caught:
        governor(FakeSampler(1)).setting("batchsize")
    assert str(caught.value) == "the plan has no setting 'batchsize'; it has: max_workers, batch_size"


def test_transitions_and_times_are_counted() -> None:
    watched = governor(FakeSampler(100, 720, 720, 100))
    for _ in range(4):
        watched.sample()
    assert watched.transitions == {(Tier.NORMAL, Tier.HIGH): 1, (Tier.HIGH, Tier.NORMAL): 1}
    assert (watched.seconds_in(Tier.NORMAL), watched.seconds_in(Tier.HIGH)) == (2.0, 2.0)


def test_a_change_is_logged_once_and_loud_only_when_it_worsens(caplog: pytest.LogCaptureFixture) -> None:
    watched = governor(FakeSampler(720, 720, 100))
    caplog.set_level(logging.INFO, "amm")
    for _ in range(4):
        watched.sample()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "memory tier NORMAL -> HIGH: tree uses 720 MiB, 72% of 1000 MiB"),
        ("INFO", "memory tier HIGH -> NORMAL: tree uses 100 MiB, 10% of 1000 MiB"),
    ]


def test_without_a_reading_the_tier_stays_and_that_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    class Blind(FakeSampler):
        def take(self) -> Sample:
            return Sample(t_seconds=0.0, unix_seconds=0.0, process=None, readings=())

    watched = governor(Blind(1), signal="cgroup")
    for _ in range(3):
        watched.sample()
    assert watched.tier is Tier.NORMAL
    assert caplog.messages == ["signal 'cgroup' has no data here; the tier stays as it is"]


def test_exhaustion_is_predicted_while_memory_grows_and_not_while_it_rests() -> None:
    watched = governor(FakeSampler(*[100] * 32, 150, 200))
    predictions = [(watched.sample(), watched.exhaustion_seconds)[1] for _ in range(34)][30:]
    assert predictions[:2] == [None, None]
    assert predictions[2] is not None
    assert predictions[3] is not None
    assert predictions[3] < predictions[2]


def test_what_a_program_takes_to_start_predicts_no_exhaustion() -> None:
    watched = governor(FakeSampler(100, 200, 300, 400))
    assert {(watched.sample(), watched.exhaustion_seconds)[1] for _ in range(60)} == {None}


def test_a_program_that_fills_memory_as_it_starts_is_told_how_long_that_can_go_on() -> None:
    watched = governor(FakeSampler(100, 300, 500, 700))
    predictions = [(watched.sample(), watched.exhaustion_seconds)[1] for _ in range(4)]
    assert predictions[:3] == [None, None, None]
    assert predictions[3] is not None


def test_time_left_and_headroom_are_those_of_the_limit_reached_first() -> None:
    class OnALargeMachine(FakeSampler):
        def take(self) -> Sample:
            sample = super().take()
            used_bytes = 9000 * MIB + sample.readings[0].used_bytes
            host = Reading(scope="host", used_bytes=used_bytes, limit_bytes=24_000 * MIB)
            return replace(sample, readings=(*sample.readings, host))

    watched = governor(OnALargeMachine(*[100] * 32, *range(100, 300)))
    for _ in range(132):
        sample = watched.sample()
    assert sample.worst is not None
    assert (sample.worst.scope, sample.headroom_bytes) == ("host", 801 * MIB)
    assert watched.exhaustion_seconds == pytest.approx(801, rel=0.1)


# -- limits that do not fit the policy

MIXED: dict[str, object] = {"tiers": {"moderate": "600MB"}}


def test_thresholds_out_of_order_on_this_machine_are_refused_at_start() -> None:
    sampler = FakeSampler(1, limit_bytes=800 * MIB)
    watched = governor(sampler, **MIXED)
    with pytest.raises(PolicyError) as caught:
        watched.start()
    assert str(caught.value) == (
        "policy: tiers.moderate: got 600 MiB, which is not below tiers.high = 70% (default) under a limit of 800 MiB;"
        " the order is moderate < high < severe < critical"
    )
    assert not watched.running
    assert sampler.closed == 1


def test_a_limit_that_shrinks_while_running_bends_the_order_and_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sampler = FakeSampler(500, limit_bytes=GIB)
    watched = governor(sampler, **MIXED)
    watched.sample()
    assert watched.enter_ratios == (600 / 1024, 0.7, 0.8, 0.85)
    sampler.limit_bytes = 800 * MIB
    watched.sample()
    watched.sample()
    assert watched.enter_ratios == (0.75, 0.75, 0.8, 0.85)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].endswith("tiers above the disorder are entered together")


# -- listeners


def test_listeners_hear_of_samples_and_changes_until_undone() -> None:
    watched = governor(FakeSampler(100, 720, 100))
    samples: list[Tier] = []
    changes: list[tuple[Tier, Tier]] = []
    undo_sample = watched.subscribe(lambda _, tier: samples.append(tier))
    undo_change = watched.on_tier(lambda change: changes.append((change.previous, change.tier)))
    watched.sample()
    watched.sample()
    undo_sample()
    undo_change()
    undo_change()
    watched.sample()
    assert samples == [Tier.NORMAL, Tier.HIGH]
    assert changes == [(Tier.NORMAL, Tier.HIGH)]


def test_a_listener_that_asks_for_it_hears_less_often_but_of_every_change() -> None:
    watched = governor(FakeSampler(100, 100, 100, 100, 720, 720, 720))
    heard: list[float] = []
    watched.subscribe(lambda sample, _: heard.append(sample.t_seconds - 100), every_seconds=3.0)
    for _ in range(8):
        watched.sample()
    assert heard == [1, 4, 5, 8]


def test_a_broken_listener_is_told_once_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no")

    watched = governor(FakeSampler(720, 100, 720))
    heard: list[object] = []
    watched.subscribe(broken)
    watched.subscribe(lambda sample, _: heard.append(sample))
    watched.on_tier(broken)
    watched.on_tier(heard.append)
    caplog.set_level(logging.ERROR, "amm.control")
    for _ in range(3):
        watched.sample()
    assert sum(isinstance(each, Sample) for each in heard) == 3
    assert sum(isinstance(each, TierChange) for each in heard) == 3


def test_a_broken_listener_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no")

    watched = governor(FakeSampler(1))
    watched.subscribe(broken)
    for _ in range(3):
        watched.sample()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "broken" in caplog.messages[0]
    assert caplog.messages[0].endswith("failed")


# -- the thread


def waited(happened: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not happened() and time.monotonic() < end:
        time.sleep(0.005)
    return happened()


class RealTime(FakeSampler):
    """On the real clock, growing by a step a look."""

    def __init__(self, start_mib: float, step_mib: float) -> None:
        super().__init__(start_mib)
        self.step_mib = step_mib
        self.times: list[float] = []

    def clock(self) -> float:
        return time.monotonic()

    def take(self) -> Sample:
        self.now = time.monotonic() - 1.0  # the base adds its second
        self.used_mib = [self.used_mib[0] + self.step_mib]
        self.times.append(time.monotonic())
        return super().take()


def test_looks_come_closer_as_memory_fills() -> None:
    """0.3 s apart while it is calm, the shortest pause, a sixth of that, at the limit."""
    calm, filling = RealTime(100, 0), RealTime(700, 100)
    with governor(calm, interval="300ms"), governor(filling, interval="300ms"):
        assert waited(lambda: len(calm.times) >= 5)
    assert len(filling.times) > 2 * len(calm.times)


class Glanced(RealTime):
    """Says that its last sample stands."""

    def __init__(self, start_mib: float, step_mib: float = 0) -> None:
        super().__init__(start_mib, step_mib)
        self.glances = 0

    def glance(self, slack_bytes: int) -> dict[str, int] | None:
        self.glances += 1
        return {"rss": 100 * MIB}


def test_a_sample_that_stands_is_not_taken_again() -> None:
    sampler = Glanced(100)
    with governor(sampler, interval="10ms"):
        assert waited(lambda: sampler.glances > 10)
    assert sampler.taken <= 3


class Still(Glanced):
    """Says that nothing moves at all."""

    def __init__(self, start_mib: float) -> None:
        super().__init__(start_mib)
        self.asked = 0

    def is_still(self) -> bool:
        self.asked += 1
        return True


def test_while_nothing_moves_one_glance_is_enough_until_the_leak_watch_wants_a_value() -> None:
    sampler = Still(100)
    with governor(sampler, interval="10ms") as watched:
        assert waited(lambda: sampler.asked > 20)
        assert sampler.glances <= 2
        watched.subscribe(lambda *_: None)
        taken = sampler.taken
        assert waited(lambda: sampler.taken > taken + 5)


def test_the_leak_watch_hears_until_when_nothing_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = Still(100)
    with governor(sampler, interval="10ms") as watched:
        stood: list[float] = []
        monkeypatch.setattr(watched.leaks, "stood", stood.append)
        began, asked = time.monotonic(), sampler.asked
        assert waited(lambda: sampler.asked > asked + 3)
        watched.sample()
        assert began < stood[-1] < time.monotonic()


class Resting(Still):
    """Nothing moves around it either, as long as it may rest."""

    def __init__(self, start_mib: float) -> None:
        super().__init__(start_mib)
        self.stands_until = self.around_until = float("-inf")
        self.renewed = 0
        self.may_rest = True

    def renew(self, now: float, slack_bytes: int) -> bool:
        self.renewed += 1
        return self.may_rest


def test_while_nothing_moves_here_or_around_who_waits_is_called_in_place_of_a_sample() -> None:
    sampler = Resting(100)
    watched = governor(sampler, interval="10ms")
    told: list[float] = []
    undo = watched.on_rest(lambda: told.append(watched.last_tick_unix_seconds))
    with watched:
        assert waited(lambda: len(told) > 5)
        assert sampler.taken <= 3
        assert told[-1] > told[0]
        sampler.may_rest = False
        taken = sampler.taken
        assert waited(lambda: sampler.taken > taken + 3)
        sampler.may_rest = True
        undo()
        renewed, heard = sampler.renewed, len(told)
        assert waited(lambda: sampler.renewed > renewed + 5)
        assert len(told) <= heard + 1


def test_a_sample_does_not_rest_while_a_listener_has_not_heard_of_it() -> None:
    sampler = Resting(100)
    watched = governor(sampler)
    watched.subscribe(lambda *_: None, every_seconds=STAND_SECONDS)
    watched.sample()
    assert watched._rest(sampler.now + STAND_SECONDS)
    last = watched.sample()  # as a scrape does, when the listener is not due
    assert watched._rest(last.t_seconds)
    assert not watched._rest(last.t_seconds + STAND_SECONDS)


def test_what_grows_after_a_rest_grew_since(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = FakeSampler(100, 400, limit_bytes=2000 * MIB)
    watched = governor(sampler)
    watched.sample()
    sampler.now += 29.0
    watched._standing.still_seconds = sampler.now
    watched.sample()
    assert watched._keeper.pause_seconds < 1.0


@pytest.mark.parametrize("every_seconds", [0.0, 0.05, STAND_SECONDS])
def test_a_sample_rests_only_if_every_listener_can_go_without(every_seconds: float) -> None:
    sampler = Resting(100)
    watched = governor(sampler, interval="10ms")
    watched.subscribe(lambda *_: None, every_seconds=every_seconds)
    with watched:
        assert waited(lambda: sampler.asked > 20 if every_seconds >= STAND_SECONDS else sampler.taken > 5)
    assert bool(sampler.renewed) is (every_seconds >= STAND_SECONDS)


@pytest.mark.parametrize("used_mib", [500, 720], ids=["half of the limit", "a raised tier"])
def test_every_look_is_a_whole_one(used_mib: float) -> None:
    sampler = Glanced(used_mib)
    with governor(sampler, interval="10ms"):
        assert waited(lambda: sampler.taken >= 10)
    assert sampler.glances == 0


def test_a_sample_stands_no_longer_when_memory_fills_fast() -> None:
    keeper = TierKeeper(load_policy({}, environ={}), 100.0)
    sampler = FakeSampler(100, 101, 300)
    slack = [(keeper.decide(sampler.take()), keeper.slack_bytes)[1] // MIB for _ in range(5)]
    assert slack == [25, 24, 0, 0, 12]


def test_who_listens_to_every_sample_gets_every_sample() -> None:
    sampler = Glanced(100)
    watched = governor(sampler, interval="10ms")
    heard: list[Sample] = []
    undo = watched.subscribe(lambda sample, _: heard.append(sample))
    with watched:
        assert waited(lambda: len(heard) > 10)
        assert sampler.glances == 0
        undo()
        assert waited(lambda: sampler.glances > 3)


def test_a_sample_stands_no_longer_than_a_listener_wants_to_wait() -> None:
    sampler = Glanced(100)
    watched = governor(sampler, interval="10ms")
    watched.subscribe(lambda *_: None, every_seconds=60.0)
    watched.subscribe(lambda *_: None, every_seconds=0.05)
    with watched:
        assert waited(lambda: sampler.taken > 5)
    gaps = [later - earlier for earlier, later in pairwise(sampler.times[2:])]  # start and its check of the policy
    assert min(gaps) >= 0.05
    assert sampler.glances > len(gaps)


def test_who_begins_to_listen_during_a_glance_gets_every_sample_too() -> None:
    heard: list[Sample] = []

    class Slow(Glanced):
        began, goes_on = threading.Event(), threading.Event()

        def glance(self, slack_bytes: int) -> dict[str, int] | None:
            self.began.set()
            self.goes_on.wait(5)
            return super().glance(slack_bytes)

    sampler = Slow(100)
    with governor(sampler, interval="10ms") as watched:
        assert sampler.began.wait(5)
        threading.Timer(0.2, sampler.goes_on.set).start()
        watched.subscribe(lambda sample, _: heard.append(sample))
        assert waited(lambda: len(heard) > 2)
    assert sampler.glances == 1


def test_the_loop_outlives_a_sampler_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(RealTime):
        def take(self) -> Sample:
            sample = super().take()
            if 3 <= len(self.times) <= 5:
                raise RuntimeError("broken")
            return sample

    sampler = Broken(100, 0)
    with governor(sampler, interval="10ms"):
        assert waited(lambda: len(sampler.times) > 8)
    assert caplog.messages == ["sampling failed; trying again"]


def test_the_thread_tells_how_late_it_is_and_what_it_costs() -> None:
    sampler = RealTime(100, 0)
    with governor(sampler, interval="10ms") as watched:
        assert waited(lambda: sampler.taken > 5 and watched.last_tick_unix_seconds > 0)
    assert 0 < watched.cpu_seconds < 5
    assert watched.lateness_seconds >= 0


def test_a_listener_may_stop_its_governor() -> None:
    sampler = RealTime(100, 0)
    watched = governor(sampler, interval="10ms")
    stopped: list[str] = []

    def stop(*_: object) -> None:
        if threading.current_thread().name == "amm-governor":
            watched.stop()
            stopped.append("in its thread")

    watched.subscribe(stop)
    watched.start()
    assert waited(lambda: bool(stopped))
    assert waited(lambda: governor_threads() == 0)
    assert not watched.gc or not watched.gc.started


def governor_threads() -> int:
    return sum(thread.name == "amm-governor" for thread in threading.enumerate())


def open_files() -> set[str]:
    return {f"{fd} {os.readlink(fd)}" for fd in Path("/proc/self/fd").iterdir() if fd.exists()}


def traces() -> tuple[int, set[str], int, tuple[int, int, int]]:
    return governor_threads(), open_files(), len(gc.callbacks), gc.get_threshold()


def test_start_stop_and_start_again_leaves_nothing_behind() -> None:
    before = traces()
    watched = Governor({"interval": "10ms"}, plugins=lambda: None)
    watched.subscribe(lambda *_: None)  # each look is a whole one then
    for _ in range(3):
        assert watched.start() is watched
        assert watched.start() is watched
        assert watched.running
        assert governor_threads() == 1
        ticks = watched.last_tick_unix_seconds
        assert waited(lambda ticks=ticks: watched.last_tick_unix_seconds > ticks)  # type: ignore[misc]
        watched.stop()
        watched.stop()
        assert not watched.running
        assert traces() == before


def test_a_real_process_is_watched_from_outside() -> None:
    with Governor({"signal": "process"}, pid=os.getpid(), plugins=lambda: None) as watched:
        assert watched.gc is None
        assert watched.latest is not None
        assert watched.latest.process is not None
        assert watched.latest.process.pid == os.getpid()


def test_a_process_that_is_not_there() -> None:
    with pytest.raises(AMMError, match=r"process 4194305 has ended, or was never there: no /proc/4194305/stat"):
        Governor(pid=4194305)
