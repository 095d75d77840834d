"""The verdict on a stress, and what the fixture `amm` says to unusable arguments."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from amm_exporter.errors import ProbeError, UnitError
from amm_exporter.probes.peak import OwnMark
from pytest_amm.meter import Meter
from pytest_amm.toolkit import Toolkit, stability

MIB = 1 << 20


@pytest.fixture
def amm() -> Iterator[Toolkit]:
    meter = Meter()
    yield Toolkit(meter, lambda: 0.0)
    meter.close()


def noise(seed: int, *, cycles: int, most_mib: float) -> list[float]:
    source = random.Random(seed)
    return [source.uniform(0, most_mib) for _ in range(cycles)]


@pytest.mark.parametrize("seed", range(20))
def test_a_leak_is_no_scatter_however_much_noise_there_is_around_it(seed: int) -> None:
    rough = noise(seed, cycles=30, most_mib=5)
    level = [round((100 + each) * MIB) for each in rough]
    leaking = [round((100 + each + number) * MIB) for number, each in enumerate(rough)]
    assert stability(level).stable
    assert not stability(leaking).stable


def test_warm_up_and_one_high_cycle_are_no_leak() -> None:
    warming = [round(MIB * (100 + 20 * min(number, 5) / 5)) for number in range(30)]
    assert stability(warming).stable
    warming[25] += 40 * MIB
    assert stability(warming).stable


@pytest.mark.parametrize("cycles", [0, 1, -1, True, "3", 2.5])
def test_too_few_cycles_for_a_verdict_are_refused(amm: Toolkit, cycles: int) -> None:
    with pytest.raises(UnitError, match=r"expected a whole number of cycles, at least 2"):
        amm.stress(int, cycles=cycles)


@pytest.mark.parametrize("rounds", [0, "5"])
def test_too_few_rounds_for_an_effect_are_refused(amm: Toolkit, rounds: int) -> None:
    with pytest.raises(UnitError, match=r"expected a whole number of rounds, at least 1"):
        amm.before_after(int, int, rounds=rounds)


def test_what_fn_frees_itself_is_no_effect_of_a_strategy(amm: Toolkit) -> None:
    """A cache that is filled anew with the same keys frees as much as it takes."""
    cache: dict[int, bytes] = {}

    def fill() -> None:
        cache.update({key: bytes(bytearray(10_000)) for key in range(1000)})

    assert not amm.before_after(fill, lambda: None).effective
    assert amm.before_after(fill, cache.clear).score_ratio > 0.9


async def later() -> None: ...


@pytest.mark.parametrize(("fn", "expected"), [(later, "a function that runs when called"), (3, "a function")])
def test_what_does_nothing_when_called_is_refused(amm: Toolkit, fn: Any, expected: str) -> None:
    """A coroutine function never leaks: a call of it runs nothing."""
    for use in (amm.leak_check, amm.stress, lambda fn: amm.before_after(int, fn)):
        with pytest.raises(UnitError, match=f"expected {expected}"):
            use(fn)


def test_a_block_that_raises_was_measured_until_then(amm: Toolkit) -> None:
    with pytest.raises(IndexError), amm.measure() as seen:
        bytearray(64 * MIB)[64 * MIB] = 1  # malloc maps that much anew, whatever earlier tests have left free
    assert seen.growth_bytes > 60 * MIB


def test_where_nothing_can_be_measured_that_is_what_is_said() -> None:
    class Unreadable(OwnMark):
        def reset(self) -> None:
            raise ProbeError("cannot read /proc/self/clear_refs: Permission denied")

    meter = Meter(mark=Unreadable())
    with pytest.raises(ProbeError, match="Permission denied"), Toolkit(meter, lambda: 0.0).measure():
        pass
    meter.close()
