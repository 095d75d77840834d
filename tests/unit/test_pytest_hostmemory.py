"""When the watchdog warns of a full machine or container, and when it ends the run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pytest_amm.hostmemory import HostMemory

GIB = 1 << 30


def host(tmp_path: Path, *, used: float = 0.5, stalled: float | None = 0.0, **changes: Any) -> HostMemory:
    """A machine of 100 GiB with this share in use, and this share of 10 s stalled; None where there is no PSI."""
    (tmp_path / "meminfo").write_text(f"MemTotal: {100 << 20} kB\nMemAvailable: {round((1 - used) * (100 << 20))} kB\n")
    if stalled is not None:
        pressure = tmp_path / "pressure" / "memory"
        pressure.parent.mkdir(exist_ok=True)
        pressure.write_text(
            "some avg10=99.00 avg60=0.00 avg300=0.00 total=9\n"
            f"full avg10={100 * stalled:.2f} avg60=0.00 avg300=0.00 total=9\n"
        )
    values: dict[str, Any] = {"emergency_ratio": 0.85, "warn_ratio": 0.8, "stall_ratio": 0.4, **changes}
    memory = HostMemory(**values, proc=str(tmp_path))
    memory.read()
    return memory


@pytest.mark.parametrize(("used", "level"), [(0.79, 0), (0.80, 1), (0.849, 1), (0.85, 2), (0.99, 2)])
def test_it_warns_at_80_and_stops_at_85_percent(tmp_path: Path, used: float, level: int) -> None:
    assert host(tmp_path, used=used).level == level


@pytest.mark.parametrize(("used", "level"), [(0.29, 0), (0.3, 1), (0.5, 2)])
def test_both_ratios_are_settable(tmp_path: Path, used: float, level: int) -> None:
    assert host(tmp_path, used=used, warn_ratio=0.3, emergency_ratio=0.5).level == level


@pytest.mark.parametrize(("stalled", "level"), [(0.39, 0), (0.40, 2), (None, 0)])
def test_stalls_stop_it_as_well_however_much_is_free(tmp_path: Path, stalled: float | None, level: int) -> None:
    assert host(tmp_path, used=0.1, stalled=stalled).level == level


@pytest.mark.parametrize(("stalled", "level"), [(0.39, 0), (0.40, 2)])
def test_a_container_stands_still_also_where_the_machine_goes_on(tmp_path: Path, stalled: float, level: int) -> None:
    own = tmp_path / "memory.pressure"
    own.write_text(f"some avg10=99.00\nfull avg10={100 * stalled:.2f} avg60=0.00 avg300=0.00 total=9\n")
    memory = host(tmp_path, stalled=0.1, pressure=str(own))
    assert (memory.level, memory.stall_ratio) == (level, stalled)
    assert host(tmp_path, stalled=0.1, pressure=str(tmp_path / "gone")).stall_ratio == 0.1


def test_either_can_be_off(tmp_path: Path) -> None:
    assert host(tmp_path, used=0.99, emergency_ratio=None).level == 1
    assert host(tmp_path, stalled=1.0, stall_ratio=None).level == 0
    assert host(tmp_path, used=0.99, emergency_ratio=None, warn_ratio=None).level == 0
    off = host(tmp_path, used=0.99, stalled=1.0, emergency_ratio=None, warn_ratio=None, stall_ratio=None)
    assert (off.level, off.used_bytes) == (0, 0)


@pytest.mark.parametrize(("usage", "level"), [(79, 0), (80, 1), (85, 2)])
def test_a_container_counts_where_it_is_the_fuller_one_without_its_idle_file_cache(
    tmp_path: Path, usage: int, level: int
) -> None:
    (tmp_path / "memory.current").write_text(f"{(usage + 30) * GIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon 1\ninactive_file {30 * GIB}\nactive_file 5\n")
    cgroup = {
        "usage": str(tmp_path / "memory.current"),
        "stat": str(tmp_path / "memory.stat"),
        "inactive": "inactive_file",
        "limit": 100 * GIB,
    }
    memory = host(tmp_path, used=0.1, cgroup=cgroup)
    assert (memory.level, memory.used_bytes) == (level, usage * GIB)
    assert host(tmp_path, used=0.9, cgroup=cgroup).level == 2


def test_without_any_ratio_it_opens_and_reads_nothing() -> None:
    before = len(os.listdir("/proc/self/fd"))
    memory = HostMemory()
    memory.read()
    assert (memory.watches, memory.level, memory.used_bytes) == (False, 0, 0)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_machine_without_these_files_never_stops_a_run(tmp_path: Path) -> None:
    memory = HostMemory(0.85, 0.8, 0.4, proc=str(tmp_path / "none"))
    memory.read()
    assert memory.level == 0
