"""Which files tell the memory of the machine or container, for `hostmemory`: found out once a run has a budget."""

from __future__ import annotations

import os
from typing import Any

from amm_exporter.errors import ProbeError
from amm_exporter.probes.cgroups import find_pressure
from amm_exporter.probes.limit import LimitProbe
from pytest_amm.settings import Settings

_CGROUP_FILES = {1: ("memory.usage_in_bytes", "total_inactive_file"), 2: ("memory.current", "inactive_file")}


def host_settings(settings: Settings) -> dict[str, Any]:
    """What the watchdog makes its `HostMemory` of."""
    return {
        "emergency_ratio": settings.emergency_ratio,
        "warn_ratio": settings.emergency_warn_ratio,
        "stall_ratio": settings.emergency_stall_ratio,
        "cgroup": container() if settings.emergency_warn_ratio is not None else None,
        "pressure": own_pressure() if settings.emergency_stall_ratio is not None else None,
    }


def container() -> dict[str, Any] | None:
    """Which files tell the memory of the container, where one limits this process."""
    probe = LimitProbe()
    try:
        cgroup = probe.cgroup()
    except ProbeError:
        return None
    finally:
        probe.close()
    if cgroup is None or cgroup.limit_bytes is None:
        return None
    usage, inactive = _CGROUP_FILES[cgroup.version]
    return {
        "usage": os.path.join(cgroup.path, usage),
        "stat": os.path.join(cgroup.path, "memory.stat"),
        "inactive": inactive,
        "limit": cgroup.limit_bytes,
    }


def own_pressure() -> str | None:
    """The stalls of this process's own cgroup: /proc has those of the whole machine, also in a container."""
    try:
        with open("/proc/self/cgroup", "rb") as file:
            found = find_pressure(file.read())
    except OSError:
        return None
    return str(found) if found else None
