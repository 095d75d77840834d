"""The leak detector on series whose truth is known."""

from __future__ import annotations

import math
import random
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest

from amm_exporter.analysis.leaks import LeakDetector, LeakSettings, Verdict

MIB = 1024 * 1024
HOUR = 3600.0
BASE = 200 * MIB


def fed(samples: Iterable[tuple[float, float]], settings: LeakSettings | None = None) -> LeakDetector:
    detector = LeakDetector(settings)
    for time, value in samples:
        detector.add(time, value)
    return detector


def series(
    level: Callable[[float], float], *, count: int = 600, pause: float = 10.0, noise: float = 0.3 * MIB, seed: int = 1
) -> list[tuple[float, float]]:
    """`level` in MiB above the base, of the share of the series gone by."""
    rng = random.Random(seed)
    return [(i * pause, BASE + MIB * level(i / count) + rng.gauss(0, noise)) for i in range(count)]


LEAKS: dict[str, Callable[[float], float]] = {
    "steady": lambda u: 60 * u,
    "steps of one arena": lambda u: math.floor(60 * u),
    "after a warm-up": lambda u: 60 * u + 30 * (1 - math.exp(-u / 0.03)),
    "from half-time on": lambda u: max(0.0, 120 * (u - 0.5)),
    "floor of a saw-tooth": lambda u: 60 * u + 15 * (u * 40 % 1),
    "on top of a daily season": lambda u: 60 * u + 4 * math.sin(2 * math.pi * 5 * u),
    "after a restart": lambda u: 80 * (u if u < 0.4 else u - 0.4),
    "accelerating": lambda u: 60 * u * u,
}

INNOCENTS: dict[str, Callable[[float], float]] = {
    "flat": lambda u: 0.0,
    "warm-up": lambda u: 60 * (1 - math.exp(-u / 0.1)),
    "cache that is full": lambda u: 60 * min(1.0, u / 0.3),
    "one step": lambda u: 40.0 * (u > 0.6),
    "three steps at the start": lambda u: 20.0 * sum(u > at for at in (0.05, 0.1, 0.2)),
    "saw-tooth": lambda u: 40 * (u * 12.3 % 1),
    "season": lambda u: 30 * math.sin(2 * math.pi * 4 * u),
    "memory given back": lambda u: -40 * u,
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_is_found_with_its_slope_and_bounds(name: str) -> None:
    verdict = fed(series(LEAKS[name])).verdict()
    assert verdict.leaking, verdict
    assert verdict.lower < verdict.slope < verdict.upper
    assert verdict.onset_seconds is not None
    assert verdict.reasons[0].startswith("grows by")


@pytest.mark.parametrize("name", INNOCENTS)
def test_what_is_bounded_is_not_called_a_leak_in_the_end(name: str) -> None:
    verdict = fed(series(INNOCENTS[name])).verdict()
    assert not verdict.leaking, verdict
    assert verdict.onset_seconds is None
    assert verdict.exhaustion_seconds is None


def test_slope_of_a_steady_leak_is_right_within_its_bounds_and_three_percent() -> None:
    verdict = fed(series(LEAKS["steady"])).verdict()
    truth = 60 * MIB / 6000
    assert verdict.slope == pytest.approx(truth, rel=0.03)
    assert verdict.lower <= truth <= verdict.upper


def test_onset_of_a_late_leak_is_where_it_began() -> None:
    verdict = fed(series(LEAKS["from half-time on"])).verdict()
    assert verdict.onset_seconds == pytest.approx(3000, abs=400)
    assert verdict.slope == pytest.approx(120 * MIB / 6000, rel=0.05)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("steady", "steady"), ("floor of a saw-tooth", "saw-tooth")],
)
def test_kind_of_a_leak(name: str, kind: str) -> None:
    assert fed(series(LEAKS[name], noise=0.05 * MIB)).verdict().kind == kind


def test_kind_of_a_leak_in_few_steps_is_stepwise() -> None:
    verdict = fed(series(lambda u: 10 * math.floor(8 * u), noise=0.01 * MIB)).verdict()
    assert verdict.leaking
    assert verdict.kind == "stepwise"


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("warm-up", {"warm-up"}),
        ("flat", {"noise"}),
        ("memory given back", {"falling"}),
        ("saw-tooth", {"saw-tooth", "season"}),
        ("season", {"season", "noise", "saw-tooth", "falling"}),
        ("one step", {"step", "warm-up"}),
    ],
)
def test_kind_of_what_is_no_leak(name: str, kinds: set[str]) -> None:
    assert fed(series(INNOCENTS[name])).verdict().kind in kinds


def test_exhaustion_is_headroom_over_slope() -> None:
    detector = fed(series(LEAKS["steady"]))
    verdict = detector.verdict(headroom_bytes=60 * MIB)
    assert verdict.exhaustion_seconds == pytest.approx(6000, rel=0.05)
    assert detector.verdict(headroom_bytes=0).exhaustion_seconds == 0.0
    assert detector.verdict().exhaustion_seconds is None


def test_too_few_samples_are_unknown() -> None:
    assert LeakDetector().verdict().kind == "unknown"
    verdict = fed([(float(i), BASE + i * MIB) for i in range(31)]).verdict()
    assert (verdict.leaking, verdict.kind, verdict.sample_count) == (False, "unknown", 31)
    assert verdict.slope == pytest.approx(MIB)


def test_growth_under_a_megabyte_is_no_leak_however_certain() -> None:
    def end(gained: float) -> Verdict:
        return fed([(5.0 * i, 20 * MIB + gained * i / 600) for i in range(600)]).verdict()

    assert not end(0.9 * MIB).leaking
    assert end(1.5 * MIB).leaking


def test_a_short_record_is_judged_only_without_noise() -> None:
    straight = [(10.0 * i, BASE + MIB * i) for i in range(47)]
    assert fed(straight).verdict().leaking
    assert not fed(series(lambda u: 47 * u, count=47, noise=0.3 * MIB)).verdict().leaking


def test_a_young_verdict_is_withdrawn_soon_after_the_growth_has_ended() -> None:
    detector = fed(series(lambda u: 100 * u, count=100))
    assert detector.verdict().leaking
    rng = random.Random(2)
    for i in range(40):
        detector.add(1000 + 10.0 * i, BASE + 100 * MIB + rng.gauss(0, 0.3 * MIB))
    assert not detector.verdict().leaking


def test_growth_since_the_start_waits_for_the_settling_time() -> None:
    quick = [(0.05 * i, BASE + 0.5 * MIB * i) for i in range(400)]  # 20 s
    assert not fed(quick).verdict().leaking
    assert fed(quick, LeakSettings(settle_seconds=5.0)).verdict().leaking


def test_growth_after_a_calm_stretch_waits_for_the_settling_time_too() -> None:
    def calm_then_growing(seconds: float) -> list[tuple[float, float]]:
        return [(0.1 * i, BASE + 0.5 * MIB * max(0, i - 300)) for i in range(300 + int(10 * seconds))]

    assert not fed(calm_then_growing(20.0)).verdict().leaking
    assert fed(calm_then_growing(40.0)).verdict().leaking


def test_growth_below_the_smallest_slope_is_a_leak_only_when_it_has_lasted() -> None:
    slow = [(10.0 * i, 100 * MIB + 0.9 * MIB * i / 360) for i in range(360 * 8)]  # 0.9 MiB/h for 8 h
    assert fed(slow).verdict().leaking
    assert not fed(slow, LeakSettings(slow_after_seconds=math.inf)).verdict().leaking
    assert fed(slow, LeakSettings(slow_after_seconds=math.inf, min_slope=0.5 * MIB / 3600)).verdict().leaking


def test_a_verdict_is_withdrawn_when_the_growth_has_ended() -> None:
    detector = fed(series(lambda u: 60 * u))
    assert detector.verdict().leaking
    for i in range(1200):
        detector.add(6000 + 10.0 * i, BASE + 60 * MIB)
    assert not detector.verdict().leaking


def test_window_forgets_what_is_older() -> None:
    grew_long_ago = series(lambda u: min(60.0, 120 * u), count=1200)
    assert not fed(grew_long_ago, LeakSettings(window_seconds=HOUR)).verdict().leaking
    grows_now = series(lambda u: max(0.0, 240 * (u - 0.75)), count=1200)
    assert fed(grows_now, LeakSettings(window_seconds=HOUR)).verdict().leaking


def test_a_hundred_kilobytes_an_hour_under_five_percent_noise_are_found_within_a_day() -> None:
    """Other levels, intervals and noise: `python -m benchmarks.leaks.slow`."""
    found = []
    for seed in (3, 5, 6, 23):  # of 0 to 23, the two that were hardest to find and two others
        rng, detector, leaking = random.Random(seed), LeakDetector(), False
        for i in range(8640):
            time = 10.0 * i
            detector.add(time, 100 * MIB + 100 * 1024 * time / HOUR + rng.gauss(0, 5 * MIB))
            leaking = leaking or detector.leaking
        found.append(leaking)
        if leaking and detector.leaking:
            assert detector.verdict().slope == pytest.approx(100 * 1024 / HOUR, rel=0.4)
    assert all(found), found


def test_the_same_without_the_leak_is_quiet_for_a_month() -> None:
    rng = random.Random(6)
    detector = LeakDetector()
    for i in range(30 * 1440):
        detector.add(60.0 * i, 100 * MIB + rng.gauss(0, 5 * MIB))
        if i % 60 == 0:
            assert not detector.verdict().leaking, i


def test_patience_ends_with_a_trend_that_may_be_noise() -> None:
    """Noise that forgets within half an hour rises for hours on end, some time in a month."""
    for seed in (3, 10):  # flagged where patience asks no more of the trend than usual
        rng, detector, noise, flags = random.Random(seed), LeakDetector(), 0.0, 0
        for i in range(30 * 1440):
            noise = 0.95 * noise + rng.gauss(0, 5 * MIB * math.sqrt(1 - 0.95**2))
            detector.add(60.0 * i, 100 * MIB + noise)
            flags += detector.leaking
        assert not flags, seed


def test_a_leak_in_a_month_old_process_is_found_within_hours() -> None:
    rng = random.Random(7)
    detector, month = LeakDetector(), 30 * 1440
    for i in range(month):
        detector.add(60.0 * i, 300 * MIB + rng.gauss(0, 2 * MIB))
    for i in range(month, month + 12 * 60):
        detector.add(60.0 * i, 300 * MIB + 20 * MIB * (i - month) / 60 + rng.gauss(0, 2 * MIB))
        if detector.verdict().leaking:
            break
    assert detector.verdict().leaking
    assert (i - month) / 60 < 12


@pytest.mark.parametrize(
    "wrong",
    [{"confidence": 1.0}, {"confidence": 0.3}, {"min_slope": -1.0}, {"window_seconds": 0.0}, {"min_slope": math.nan}],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LeakSettings(**wrong)


def test_a_clock_set_back_costs_nothing() -> None:
    samples = series(LEAKS["steady"])
    moved = [(time - (500 if index > 300 else 0), value) for index, (time, value) in enumerate(samples)]
    verdict = fed(moved).verdict()
    assert verdict.leaking
    assert verdict.slope == pytest.approx(60 * MIB / 6000, rel=0.05)


def test_a_clock_that_stands_still_proves_nothing() -> None:
    assert not fed((5.0, BASE + 1000.0 * i) for i in range(5_000)).verdict().leaking


def test_a_hole_in_the_record_is_no_evidence() -> None:
    """Two levels with a week between them lie on a perfect line, which proves nothing."""
    rng = random.Random(3)
    before = [(10.0 * i, BASE + rng.gauss(0, MIB)) for i in range(300)]
    after = [(604800 + 10.0 * i, BASE + 30 * MIB + rng.gauss(0, MIB)) for i in range(300)]
    assert not fed(before + after).verdict().leaking


def test_another_thread_may_ask_while_samples_come() -> None:
    """A scrape asks for the verdict when it comes, in a thread of its own."""
    detector, over, before = LeakDetector(), threading.Event(), sys.getswitchinterval()

    def ask() -> int:
        asked = 0
        while not over.is_set():
            detector.verdict(headroom_bytes=MIB)
            asked += 1
        return asked

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(ask)
            for i in range(40_000):
                detector.add(float(i), BASE + 1000.0 * i)
            over.set()
            assert asked.result() > 0
    finally:
        sys.setswitchinterval(before)
