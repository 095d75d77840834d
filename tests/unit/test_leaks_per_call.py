"""The sequential test of leaks per call, on made-up batches; growth by name and its origin."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from amm_exporter.analysis.growth import FRAGMENTATION, NATIVE, OUTSIDE, PYTHON, Growth, GrowthTable, origin
from amm_exporter.analysis.per_call import AT_LIMIT, TOGETHER, Batch, PerCallRules, decide, next_batch, rates

RULES = PerCallRules(max_per_call_bytes=1000.0)
SIZES = (1000, 1700, 2900, 4900, 8300)
"""Of batches that come to more calls than a leak has to outlast."""


def decided(
    in_use: Callable[[int], float], measure: str = "native", most_calls: int = 100_000, calls_per_limit: int = 10**9
) -> tuple[str, int]:
    """The decision on a program that holds `in_use(calls)` bytes, and the calls it took of those its time allows."""
    batches, calls, size = list[Batch](), 0, 8
    while calls < most_calls:
        gained = int(in_use(calls + size)) - int(in_use(calls))
        batches.append(Batch(calls=size, gained={measure: gained}))
        calls, size = calls + size, next_batch(size)
        decision, _ = decide(batches, RULES, calls / calls_per_limit)
        if decision != "undecided":
            return decision, calls
    return "undecided", calls


def test_a_constant_loss_is_a_leak() -> None:
    assert decided(lambda calls: 1500.0 * calls)[0] == "leak"


@pytest.mark.parametrize(("loss", "decision"), [(999, "clean"), (1000, "clean"), (1001, "leak")])
def test_the_bound_is_what_a_call_may_keep(loss: float, decision: str) -> None:
    assert decided(lambda calls: loss * calls)[0] == decision


@pytest.mark.parametrize(
    ("lost", "decision"),
    [((0, -2, 3, -1, 3), AT_LIMIT), ((0, 3, 4, 5, 4), "leak"), ((0, -20, 40, -30, 20), "undecided")],
)
def test_what_noise_would_decide_is_told_to_be_at_the_limit(lost: tuple[int, ...], decision: str) -> None:
    """Within 1 % and on neither side of it, in the calls that any leak takes."""
    batches = [
        Batch(calls=size, gained={"native": (1000 + more) * size}) for size, more in zip(SIZES, lost, strict=True)
    ]
    assert decide(batches, RULES, 0.01)[0] == decision


@pytest.mark.parametrize(
    ("python", "native", "decision", "measure"),
    [(400, 500, "clean", TOGETHER), (700, 700, "leak", TOGETHER), (30, 1500, "leak", "native")],
)
def test_what_two_allocators_keep_counts_together(python: int, native: int, decision: str, measure: str) -> None:
    gained = ({"python": python * size, "native": native * size, "resident": 0} for size in SIZES)
    batches = [Batch(calls=size, gained=each) for size, each in zip(SIZES, gained, strict=True)]
    found, rate = decide(batches, RULES, 0.01)
    assert rate is not None
    assert (found, rate.measure) == (decision, measure)


@pytest.mark.parametrize("entries", [64, 128, 512, 1024, 10_000])
def test_a_bounded_cache_is_clean(entries: int) -> None:
    assert decided(lambda calls: 4000.0 * min(calls, entries))[0] == "clean"


@pytest.mark.parametrize("entries", [1024, 2048])
def test_a_cache_that_slow_calls_fill_is_given_time(entries: int) -> None:
    assert decided(lambda calls: 4000.0 * min(calls, entries), calls_per_limit=8_000)[0] == "clean"


def test_a_leak_of_slow_calls_is_told_before_the_time_is_over() -> None:
    decision, calls = decided(lambda calls: 4000.0 * calls, calls_per_limit=8_000)
    assert decision == "leak"
    assert calls < 0.9 * 8_000


def test_what_doubles_its_table_is_clean() -> None:
    assert decided(lambda calls: 64.0 * 2 ** math.ceil(math.log2(calls + 1)))[0] == "clean"


def test_few_calls_accuse_a_program_only_when_the_time_is_nearly_over() -> None:
    batches = [Batch(calls=size, gained={"native": 5000 * size}) for size in (8, 14, 24, 41, 70)]
    assert decide(batches, RULES, 0.5)[0] == "undecided"
    assert decide(batches, RULES, 0.9)[0] == "leak"


def test_resident_memory_alone_must_grow_by_more_than_its_quantum() -> None:
    assert decided(lambda calls: 4096.0 * calls, "resident")[0] == "leak"
    assert decided(lambda calls: 1_000_000.0 * (calls > 100), "resident")[0] == "clean"


def test_resident_memory_that_moves_with_what_is_in_use_is_fragments() -> None:
    sizes, swing = [200, 340, 580, 990, 1700], 5_000_000
    in_use = [0, 0, swing, -swing, swing]
    resident = [4_000 * size for size in sizes]
    moving = [
        Batch(calls=size, gained={"native": swung, "resident": grown})
        for size, swung, grown in zip(sizes, in_use, resident, strict=True)
    ]
    still = [Batch(calls=batch.calls, gained={**batch.gained, "native": 0}) for batch in moving]
    assert decide(moving, RULES, 0.5)[0] == "undecided"
    assert decide(still, RULES, 0.5)[0] == "leak"


def test_batches_that_had_to_get_smaller_make_nothing_clean() -> None:
    """What was gained before they did counts for more than the last few calls, which the quantum excuses."""
    batches = [
        Batch(calls=calls, gained={"native": 999 * calls, "resident": 1700 * calls}) for calls in (50_000, 90_000)
    ]
    for halving in range(1, 12):
        calls = 90_000 >> halving
        batches.append(Batch(calls=calls, gained={"native": 999 * calls, "resident": 1700 * calls}))
        assert decide(batches, RULES, 1.0)[0] != "clean"


def test_what_is_undecided_is_shown_by_the_measure_that_keeps_it_from_being_clean() -> None:
    """Churn of large blocks: Python's own loses a byte a call, for certain."""
    swings = (900_000, -2_000_000, 1_500_000, -3_000_000, 9_000_000)
    batches = [
        Batch(calls=size, gained={"python": size, "native": swing}) for size, swing in zip(SIZES, swings, strict=True)
    ]
    decision, rate = decide(batches, RULES, spent_ratio=1.0)
    assert decision == "undecided"
    assert rate is not None
    assert rate.measure in ("native", TOGETHER)
    assert rate.upper > RULES.max_per_call_bytes


def test_bounds_hold_the_rate_and_tighten_with_even_batches() -> None:
    even = [Batch(calls=100, gained={"native": 100 * 50}) for _ in range(4)]
    uneven = [Batch(calls=100, gained={"native": 100 * rate}) for rate in (20, 80, 30, 70)]
    (tight,), (wide,) = rates(even, 0.99), rates(uneven, 0.99)
    assert tight.lower == tight.bytes_per_call == tight.upper == 50
    assert wide.lower < wide.bytes_per_call == 50 < wide.upper


def test_growing_names_are_ranked_and_idle_ones_left_out() -> None:
    table = GrowthTable()
    for step in range(10):
        table.add(
            10.0 * step, {"fast": 500.0 * step, "slow": 100.0 * step, "idle": 7000.0, "noisy": 1000.0 * (step % 2)}
        )
    assert [growth.name for growth in table.growing()] == ["fast", "slow"]
    assert table.growing()[0].slope == pytest.approx(50.0)
    assert table.growing(top=1)[0].gained == 4500.0
    assert [growth.name for growth in table.growing(least=25.0)] == ["fast"]


def test_one_name_is_asked_for_also_when_it_shrinks() -> None:
    table = GrowthTable()
    for step in range(5):
        table.add(float(step), {"shrinks": 100.0 - 10.0 * step})
    shrinking = table.growth("shrinks")
    assert shrinking is not None
    assert (shrinking.slope, shrinking.gained) == (pytest.approx(-10.0), -40.0)
    assert table.growth("never seen") is None


def test_a_name_that_appears_later_grew_from_nothing() -> None:
    table = GrowthTable()
    for step in range(8):
        table.add(float(step), {"late": 100.0 * step} if step else {})
    assert table.growing()[0].name == "late"


def test_growth_keeps_the_largest_names_only() -> None:
    table = GrowthTable(max_names=10)
    for step in range(5):
        table.add(float(step), {f"name {index}": float(index * step) for index in range(1000)})
    assert [growth.name for growth in table.growing(top=1)] == ["name 999"]
    assert len(table._sums) == 10


def test_growth_ignores_what_is_not_finite() -> None:
    table = GrowthTable()
    for step in range(5):
        table.add(float(step), {"a": float(step), "b": math.nan})
        table.add(math.inf, {"a": 1e300})
    assert [growth.name for growth in table.growing()] == ["a"]


@pytest.mark.parametrize(
    ("python", "native", "free", "where"),
    [(10, 0, 0, PYTHON), (0, 10, 0, NATIVE), (0, 0, 10, FRAGMENTATION), (0, 0, 0, OUTSIDE), (3, 7, 0, NATIVE)],
)
def test_growth_is_told_apart_by_who_holds_it(python: float, native: float, free: float, where: str) -> None:
    def growing(slope: float) -> Growth:
        return Growth(name="", slope=slope, lower=0.9 * slope, upper=1.1 * slope, gained=slope)

    assert origin(growing(10), growing(python), growing(native), growing(free)) == where


def test_what_could_not_be_measured_explains_nothing() -> None:
    assert origin(Growth(name="", slope=5.0, lower=4.0, upper=6.0, gained=50.0), None, None) == OUTSIDE


def test_what_seems_to_grow_and_is_too_unsteady_to_be_certain_of_leaves_the_origin_open() -> None:
    resident = Growth(name="", slope=10.0, lower=9.0, upper=11.0, gained=50.0)
    unsteady = Growth(name="", slope=9.0, lower=-1.0, upper=19.0, gained=45.0)
    assert origin(resident, unsteady, None) is None
    assert origin(resident, unsteady, resident) == NATIVE
