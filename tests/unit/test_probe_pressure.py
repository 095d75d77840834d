"""Pressure stall information from fake files; the real one is read in tests/integration."""

from __future__ import annotations

from pathlib import Path

import pytest
from probe_trees import V1_MOUNT, V2_MOUNT, make_tree

from amm_exporter.errors import ProbeError
from amm_exporter.probes.cgroups import find_pressure
from amm_exporter.probes.pressure import PressureProbe

HOST = "some avg10=1.50 avg60=0.00 avg300=0.00 total=2500000\nfull avg10=0.25 avg60=0.00 avg300=0.00 total=1000001\n"
CGROUP = "some avg10=100.00 avg60=0.00 avg300=0.00 total=7\nfull avg10=99.99 avg60=0.00 avg300=0.00 total=0\n"


def test_percent_becomes_ratio_and_microseconds_become_seconds(tmp_path: Path) -> None:
    (host,) = PressureProbe(proc=make_tree(tmp_path, {"pressure/memory": HOST})).read()
    assert (host.scope, host.some_seconds, host.full_seconds) == ("host", 2.5, 1.000001)
    assert (host.some_avg10_ratio, host.full_avg10_ratio) == (0.015, 0.0025)


def test_a_cgroups_pressure_comes_after_the_hosts(tmp_path: Path) -> None:
    proc = make_tree(tmp_path, {"pressure/memory": HOST, "app/memory.pressure": CGROUP})
    host, cgroup = PressureProbe(proc=proc, cgroup_path=tmp_path / "app").read()
    assert (host.scope, cgroup.scope, cgroup.some_avg10_ratio) == ("host", "cgroup", 1.0)


def test_a_cgroup_without_pressure_leaves_the_host(tmp_path: Path) -> None:
    probe = PressureProbe(proc=make_tree(tmp_path, {"pressure/memory": HOST}), cgroup_path=tmp_path / "app")
    assert [reading.scope for reading in probe.read()] == ["host"]
    assert probe.unavailable == ""


def test_a_kernel_without_psi_has_no_data_a_reason_and_a_cure(tmp_path: Path) -> None:
    probe = PressureProbe(proc=tmp_path)
    assert probe.read() == ()
    assert probe.unavailable == (
        f"no {tmp_path}/pressure/memory: this kernel has no pressure stall information; "
        "boot with psi=1 (Linux 4.20 or newer, built with CONFIG_PSI)"
    )


def test_a_changed_file_is_seen(tmp_path: Path) -> None:
    probe = PressureProbe(proc=make_tree(tmp_path, {"pressure/memory": HOST}))
    probe.read()
    (tmp_path / "pressure/memory").write_text(HOST.replace("2500000", "3500000"))
    assert probe.read()[0].some_seconds == 3.5


@pytest.mark.parametrize(
    "raw", ["", "some", "some avg10=1.50\n", HOST.splitlines()[0], HOST.replace("total", "t"), "\0"]
)
def test_garbage_is_an_error_that_shows_it(tmp_path: Path, raw: str) -> None:
    probe = PressureProbe(proc=make_tree(tmp_path, {"pressure/memory": raw}))
    with pytest.raises(ProbeError, match="unexpected content"):
        probe.read()


def test_the_kernels_older_file_without_full_line_is_an_error_not_a_zero(tmp_path: Path) -> None:
    probe = PressureProbe(proc=make_tree(tmp_path, {"pressure/memory": HOST.splitlines()[0] + "\n"}))
    with pytest.raises(ProbeError):
        probe.read()


UNIFIED = V2_MOUNT.format(root="/").replace("/sys/fs/cgroup rw", "/sys/fs/cgroup/unified rw")


@pytest.mark.parametrize(
    ("membership", "mounts", "held", "found"),
    [
        ("0::/app\n", V2_MOUNT.format(root="/"), "app", "app"),
        ("0::/app\n", V2_MOUNT.format(root="/app"), ".", ""),
        ("4:memory:/m\n0::/app\n", V1_MOUNT.format(root="/") + UNIFIED, "unified/app", "unified/app"),
        ("4:memory:/m\n0::/gone\n", V1_MOUNT.format(root="/") + UNIFIED, "unified", "unified"),
        ("4:memory:/m\n", V1_MOUNT.format(root="/"), "memory/m", None),
        ("0::/app\n", "", "app", None),
        ("0::/app\n", V2_MOUNT.format(root="/"), "other", None),
    ],
)
def test_which_cgroup_tells_the_stalls_of_a_process(
    tmp_path: Path, membership: str, mounts: str, held: str, found: str | None
) -> None:
    """They are told by version 2 alone, also where version 1 has the memory controller."""
    make_tree(tmp_path, {"proc/self/mountinfo": mounts, "sys": {f"{held}/memory.pressure": CGROUP}})
    expected = None if found is None else tmp_path / "sys" / found / "memory.pressure"
    assert find_pressure(membership.encode(), proc=tmp_path / "proc", sysfs=tmp_path / "sys") == expected
