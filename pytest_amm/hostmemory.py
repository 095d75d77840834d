"""Memory of the machine or the container for the watchdog: in use over what there is, and the time lost to stalls.

Standard library only. Which cgroup files count is found out by the plugin, which has the probes for it.
"""

from __future__ import annotations

import os
from typing import Any


class HostMemory:
    """Levels: 0 fine, 1 warn and clean up, 2 stop the run. Without any ratio it reads nothing, and all is fine."""

    def __init__(
        self,
        emergency_ratio: float | None = None,
        warn_ratio: float | None = None,
        stall_ratio: float | None = None,
        cgroup: dict[str, Any] | None = None,
        pressure: str | None = None,
        *,
        proc: str = "/proc",
    ) -> None:
        """`pressure` is the file of the stalls of the run's own cgroup; those of the machine count as well."""
        self._cgroup = cgroup
        self._emergency_ratio = emergency_ratio
        self._warn_ratio = warn_ratio
        self._stall_ratio = stall_ratio
        self.watches = any(ratio is not None for ratio in (emergency_ratio, warn_ratio, stall_ratio))
        self._meminfo = _open(f"{proc}/meminfo") if self.watches else -1
        stalls = (f"{proc}/pressure/memory", pressure) if stall_ratio is not None else ()
        self._pressures = [fd for fd in map(_open, filter(None, stalls)) if fd >= 0]
        self.level = 0
        self.used_bytes = 0
        self.total_bytes = 0
        self.stall_ratio = 0.0

    @property
    def stop_bytes(self) -> int:
        return round((self._emergency_ratio or 1.0) * self.total_bytes)

    def read(self) -> None:
        if not self.watches:
            return
        if self._meminfo >= 0:
            raw = os.pread(self._meminfo, 4096, 0)
            self.total_bytes = _kib(raw, b"MemTotal:")
            self.used_bytes = self.total_bytes - _kib(raw, b"MemAvailable:")
        if self._cgroup:
            self._read_cgroup(self._cgroup)
        self.stall_ratio = max(map(_full_avg10, self._pressures), default=0.0)
        self.level = self._judge()

    def _read_cgroup(self, cgroup: dict[str, Any]) -> None:
        """The container instead of the machine, where it is the fuller one: usage without inactive file cache."""
        try:
            with open(cgroup["usage"], "rb") as file:
                used = int(file.read())
            with open(cgroup["stat"], "rb") as file:
                raw = b"\n" + file.read()
        except (OSError, ValueError):
            return
        at = raw.find(b"\n" + cgroup["inactive"].encode() + b" ")
        used -= int(raw[at + 1 :].split(None, 2)[1]) if at >= 0 else 0
        total = cgroup["limit"]
        if used * max(1, self.total_bytes) >= self.used_bytes * total:
            self.used_bytes, self.total_bytes = used, total

    def levels(self) -> tuple[int, int, int]:
        ratio = self.used_bytes / self.total_bytes if self.total_bytes else 0.0
        return self.level, round(ratio * 1e6), round(self.stall_ratio * 1e6)

    def _judge(self) -> int:
        ratio = self.used_bytes / self.total_bytes if self.total_bytes else 0.0
        if self._emergency_ratio is not None and ratio >= self._emergency_ratio:
            return 2
        if self._stall_ratio is not None and self.stall_ratio >= self._stall_ratio:
            return 2
        return 1 if self._warn_ratio is not None and ratio >= self._warn_ratio else 0


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def _kib(raw: bytes, label: bytes) -> int:
    at = raw.find(label)
    return int(raw[at + len(label) :].split(None, 1)[0]) * 1024 if at >= 0 else 0


def _full_avg10(fd: int) -> float:
    """`full avg10=1.23 ...`: percent. 0 once the cgroup is gone."""
    try:
        raw = os.pread(fd, 512, 0)
    except OSError:
        return 0.0
    at = raw.find(b"full avg10=")
    return float(raw[at + 11 :].split(None, 1)[0]) / 100 if at >= 0 else 0.0
