"""Probes over trees recorded from a real kernel: Linux 6.18, memory on cgroup v1, version 2 beside it without memory.

Only the cgroup's name was changed in the recording.
"""

from __future__ import annotations

from pathlib import Path

from amm_exporter.probes.limit import LimitProbe
from amm_exporter.probes.pressure import PressureProbe
from amm_exporter.probes.process import ProcessProbe

RECORDED = Path(__file__).parents[1] / "fixtures" / "recorded" / "cgroup-v1-hybrid"


def test_limits_and_usage() -> None:
    probe = LimitProbe(proc=RECORDED / "proc", sysfs=RECORDED / "sys")
    assert [(limit.source, limit.size_bytes) for limit in probe.read()] == [("ram", 24684096 * 1024)]
    memory = probe.cgroup()
    assert memory is not None
    assert memory.path == str(RECORDED / "sys/memory/service/worker")
    assert (memory.usage_bytes, memory.working_set_bytes) == (129703936, 129703936 - 15400960)
    assert (memory.oom_events, memory.oom_kills) == (None, 0)
    assert probe.host().available_bytes == 24094584 * 1024
    assert probe.problems == ()


def test_process() -> None:
    details = ProcessProbe(proc=RECORDED / "proc").details()
    assert (details.rss_bytes, details.virtual_bytes) == (435 * 4096, 765 * 4096)
    assert (details.minor_faults, details.major_faults, details.swap_bytes) == (128, 0, 0)


def test_pressure() -> None:
    (host,) = PressureProbe(proc=RECORDED / "proc").read()
    assert (host.some_seconds, host.full_seconds) == (0.00025, 0.000196)
