"""How far the leak gate lets a leak grow."""

from __future__ import annotations

import pytest

from amm_exporter.probes.limit import LimitProbe
from amm_exporter.units import GIB, MIB
from pytest_amm.leakgate import free_bytes, most_gained_bytes


@pytest.mark.parametrize(
    ("headroom_bytes", "left_bytes", "expected"),
    [
        (None, None, 256 * MIB),
        (None, 8 * GIB, 256 * MIB),
        (None, 8 * GIB - 32, 256 * MIB - 1),
        (None, 640 * MIB, 20 * MIB),
        (1024 * MIB, None, 256 * MIB),
        (64 * MIB, 8 * GIB, 16 * MIB),
        (64 * MIB, 320 * MIB, 10 * MIB),
        (None, 0, 0),
    ],
)
def test_a_leak_may_take_a_quarter_of_what_budgets_leave_and_a_32nd_of_what_the_machine_does(
    headroom_bytes: int | None, left_bytes: int | None, expected: int
) -> None:
    assert most_gained_bytes(headroom_bytes, left_bytes) == expected


def test_a_suite_of_leaking_tests_does_not_fill_the_machine() -> None:
    left = total = 16 * GIB
    for _ in range(60):
        left -= round(1.4 * most_gained_bytes(None, left))  # the last batch goes beyond what is allowed
    assert left > total // 20


def test_what_is_left_is_a_part_of_the_machine() -> None:
    probe = LimitProbe()
    total = probe.host().total_bytes
    probe.close()
    left = free_bytes()
    assert left is not None
    assert 0 < left < total
