"""The chunks and threads of a stress, as the machine's memory gets tight."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from probe_trees import MEMINFO, V2_MOUNT, limits, make_tree, open_fds, v2

from amm_exporter.probes.limit import LimitProbe
from pytest_amm.meter import Meter
from pytest_amm.toolkit import Toolkit, host_usage_ratio


@pytest.fixture
def meter() -> Iterator[Meter]:
    meter = Meter()
    yield meter
    meter.close()


@pytest.mark.parametrize(
    ("used", "chunk", "threads"),
    [(0.0, 50, 8), (0.59, 50, 8), (0.6, 40, 6), (0.7, 25, 4), (0.8, 10, 1), (0.85, 5, 1), (1.0, 5, 1)],
)
def test_at_most_50_and_8_and_fewer_at_each_tier(meter: Meter, used: float, chunk: int, threads: int) -> None:
    toolkit = Toolkit(meter, lambda: used)
    assert len(next(toolkit.batches(range(1000)))) == chunk
    assert toolkit.threads == threads


def test_a_chunk_follows_the_tier_while_the_stress_runs(meter: Meter) -> None:
    used = iter([0.1, 0.75, 0.9, 0.1, 0.1])
    toolkit = Toolkit(meter, lambda: next(used))
    assert [len(chunk) for chunk in toolkit.batches(range(100))] == [50, 25, 5, 20]


def test_chunks_are_made_of_anything_that_can_be_looped_over(meter: Meter) -> None:
    toolkit = Toolkit(meter, lambda: 0.0)
    assert [len(chunk) for chunk in toolkit.batches(number for number in range(120))] == [50, 50, 20]
    assert list(toolkit.batches({1})) == [[1]]
    assert list(toolkit.batches([])) == []


@pytest.mark.parametrize(("maximum", "ratio"), [(1000, 0.8), (100_000, 0.5), ("max", 0.5)])
def test_the_fuller_one_of_machine_and_container_counts(tmp_path: Path, maximum: object, ratio: float) -> None:
    own = {"cgroup": "0::/app\n", "mountinfo": V2_MOUNT.format(root="/"), "limits": limits()}
    machine = {"proc": {"self": own, "meminfo": MEMINFO}}  # half of it is in use
    make_tree(tmp_path, machine | {"sys": {"app": v2(maximum=maximum, current=1000, inactive=200)}})
    before = open_fds()
    found = host_usage_ratio(lambda: LimitProbe(proc=tmp_path / "proc", sysfs=tmp_path / "sys"))
    assert (found, open_fds()) == (pytest.approx(ratio), before)
