"""What the leak watch takes of samples and of the glances between them."""

from __future__ import annotations

import pytest

from amm_exporter.control.leak_watch import LeakWatch
from amm_exporter.model import ProcessMemory, Sample
from amm_exporter.policy import load_policy

KIB, MIB = 1 << 10, 1 << 20


def sample(t_seconds: float, rss_bytes: int) -> Sample:
    process = ProcessMemory(pid=1, rss_bytes=rss_bytes, virtual_bytes=2 * rss_bytes)
    return Sample(t_seconds=t_seconds, unix_seconds=1.7e9 + t_seconds, process=process, readings=(), limit=None)


def slope_after(seconds: int, *, every_sample_seconds: int) -> tuple[float, int]:
    """Of 100 KiB a second, and how many values it rests on, where glances lie between the samples."""
    watch = LeakWatch(load_policy({}, environ={}))
    for second in range(seconds):
        resident = 100 * MIB + 100 * KIB * second
        if second % every_sample_seconds:
            watch.glance(float(second), {"rss": resident})
        else:
            watch.add(sample(float(second), resident))
    verdict = watch.verdicts()["rss"]
    return verdict.slope, verdict.sample_count


def test_a_glance_tells_the_leak_watch_as_much_as_a_sample() -> None:
    assert slope_after(121, every_sample_seconds=2) == pytest.approx(slope_after(121, every_sample_seconds=1))
    assert slope_after(121, every_sample_seconds=2)[0] == pytest.approx(100 * KIB, rel=0.01)


def test_glances_come_no_closer_than_the_interval() -> None:
    watch = LeakWatch(load_policy({"interval": "100ms"}, environ={}))
    watch.add(sample(0.0, MIB))
    for tenth in range(1, 101):
        watch.glance(tenth / 10, {"rss": MIB})
    watch.add(sample(10.1, MIB))
    assert 10 <= watch.verdicts()["rss"].sample_count <= 13


def test_a_series_of_its_own_begins_with_a_sample() -> None:
    watch = LeakWatch(load_policy({}, environ={}))
    watch.add(sample(0.0, MIB))
    watch.glance(1.0, {"rss": MIB, "cgroup": MIB})
    watch.add(sample(2.0, MIB))
    assert {series: verdict.sample_count for series, verdict in watch.verdicts().items()} == {"rss": 3}


def test_while_nothing_moves_the_last_values_count_on() -> None:
    """A step each five seconds, and nothing between them: told of afterwards, or read each second."""
    told, read = (LeakWatch(load_policy({}, environ={})) for _ in range(2))
    for second in range(301):
        resident = 100 * MIB + 100 * KIB * (second // 5)
        read.add(sample(float(second), resident))
        if second % 5 == 0:
            told.stood(second - 1.0)
            told.add(sample(float(second), resident))
    ours, theirs = told.verdicts()["rss"], read.verdicts()["rss"]
    assert ours.leaking is theirs.leaking is True
    assert ours.slope == pytest.approx(theirs.slope, rel=0.02)
    assert ours.sample_count == pytest.approx(theirs.sample_count, abs=3)


def test_what_nobody_watched_is_not_made_up() -> None:
    watch = LeakWatch(load_policy({}, environ={}))
    watch.stood(50.0)
    watch.add(sample(100.0, MIB))
    watch.stood(102.0)
    watch.add(sample(200.0, MIB))
    assert watch.verdicts()["rss"].sample_count == 4
