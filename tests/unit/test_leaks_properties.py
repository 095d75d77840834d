"""Properties of the leak detector that hold for any series."""

from __future__ import annotations

import math
import random
import sys
from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amm_exporter.analysis.leaks import LeakDetector, LeakSettings, Verdict
from amm_exporter.analysis.pyramid import DEPTH, Pyramid

anything = st.floats(allow_nan=True, allow_infinity=True)
finite = st.floats(allow_nan=False, allow_infinity=False)
plain = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([0.0, 1.0, 1e18, -1e18]), st.integers(0, 10).map(float))


def numbers_of(verdict: Verdict) -> list[float]:
    values = [getattr(verdict, field.name) for field in fields(verdict)]
    return [value for value in values if isinstance(value, float)]


@given(st.lists(st.tuples(anything, anything), max_size=150), st.one_of(st.none(), st.integers(0, 2**63)))
@settings(deadline=None, max_examples=150)
def test_no_series_raises_or_yields_nan(samples: list[tuple[float, float]], limit: int | None) -> None:
    detector = LeakDetector()
    for time, value in samples:
        detector.add(time, value)
    verdict = detector.verdict(limit)
    assert all(math.isfinite(number) for number in numbers_of(verdict)), verdict
    assert verdict.lower <= verdict.slope <= verdict.upper


@given(st.lists(st.tuples(plain, plain), min_size=32, max_size=200), st.sampled_from([None, 1e-3, 5.0, 1e9]))
@settings(deadline=None, max_examples=60)
def test_gaps_duplicates_and_disorder_are_taken_as_they_come(
    samples: list[tuple[float, float]], window: float | None
) -> None:
    detector = LeakDetector(
        LeakSettings(window_seconds=window, min_growth_bytes=0.0, min_slope=0.0, settle_seconds=0.0)
    )
    for time, value in samples:
        detector.add(time, value)
        assert all(math.isfinite(number) for number in numbers_of(detector.verdict(10**9)))


@given(
    st.integers(0, 2**32),
    st.sampled_from([0.0, 20.0, 100.0]),
    st.floats(-2, 2).map(lambda power: 10.0**power),
    st.floats(-2, 2).map(lambda power: 10.0**power),
)
@settings(deadline=None, max_examples=25)
def test_scaling_time_and_bytes_scales_the_slope_and_changes_no_verdict(
    seed: int, growth: float, stretch: float, scale: float
) -> None:
    """With the settings in the same units: they are what has a size."""
    rng = random.Random(seed)
    samples = [(10.0 * i, 300.0 + growth * i / 300 + rng.gauss(0, 1)) for i in range(300)]
    plain_settings = LeakSettings(min_growth_bytes=1.0, min_slope=0.001, settle_seconds=20.0, slow_after_seconds=3000.0)
    scaled_settings = LeakSettings(
        min_growth_bytes=scale, min_slope=0.001 * scale / stretch, settle_seconds=20 * stretch,
        slow_after_seconds=3000.0 * stretch,
    )  # fmt: skip
    one, other = LeakDetector(plain_settings), LeakDetector(scaled_settings)
    for time, value in samples:
        one.add(time, value)
        other.add(time * stretch, value * scale)
    mine, theirs = one.verdict(), other.verdict()
    assert (mine.leaking, mine.kind) == (theirs.leaking, theirs.kind)
    assert theirs.slope * stretch / scale == pytest.approx(mine.slope, rel=1e-6, abs=1e-9)


@given(st.integers(1, 5000))
@settings(deadline=None, max_examples=20)
def test_state_grows_with_the_logarithm_of_the_samples(count: int) -> None:
    pyramid = Pyramid()
    for index in range(count):
        pyramid.add(float(index), 1.0)
    assert pyramid.height <= count.bit_length() + 1
    assert sum(len(pyramid.level(level)) for level in range(pyramid.height)) <= DEPTH * pyramid.height


def test_a_detector_of_a_million_samples_is_small() -> None:
    detector = LeakDetector()
    for index in range(200_000):
        detector.add(float(index), 1e8)
    blocks = sum(len(detector._pyramid.level(level)) for level in range(detector._pyramid.height))
    assert blocks * (sys.getsizeof((0.0, 0.0, 0.0)) + 3 * sys.getsizeof(0.0)) < 200_000


def test_blocks_hold_mean_times_means_and_minima() -> None:
    pyramid = Pyramid()
    for index in range(8):
        pyramid.add(float(index), float(index % 3))
    assert list(pyramid.level(2)) == [(1.5, 0.75, 0.0), (5.5, 1.0, 0.0)]


def test_adding_a_sample_costs_less_than_sorting_sixty_floats() -> None:
    """A ratio within one run: amortised over a long quiet series, looks included."""
    import time

    detector, rng = LeakDetector(), random.Random(1)
    values = [1e8 + rng.gauss(0, 1e6) for _ in range(20_000)]
    started = time.process_time()
    for index, value in enumerate(values):
        detector.add(float(index), value)
    adding = time.process_time() - started
    started = time.process_time()
    for index in range(0, 20_000, 1):
        sorted(values[index % 1000 : index % 1000 + 60])
    assert adding < 8 * (time.process_time() - started)
