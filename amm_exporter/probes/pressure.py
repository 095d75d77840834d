"""Pressure stall information (PSI): how long tasks stood still for want of memory (Documentation/accounting/psi)."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from amm_exporter.model import Pressure
from amm_exporter.probes.procfs import PROC, KeptFile, unexpected

CURE = "boot with psi=1 (Linux 4.20 or newer, built with CONFIG_PSI)"


class PressureProbe:
    """Host-wide pressure and, given a version 2 cgroup's directory, the pressure of that cgroup.

    `unavailable` says in one line why the host's is missing and what to do; it is empty while there is data.
    """

    def __init__(self, *, proc: Path = PROC, cgroup_path: Path | None = None) -> None:
        self._sources = [PressureSource("host", proc / "pressure" / "memory")]
        if cgroup_path is not None:
            self._sources.append(PressureSource("cgroup", cgroup_path / "memory.pressure"))

    @property
    def unavailable(self) -> str:
        return self._sources[0].unavailable

    def read(self) -> tuple[Pressure, ...]:
        """What there is, the host first; () on a kernel without PSI. Raises ProbeError for a file that turned bad."""
        readings = (source.read() for source in self._sources)
        return tuple(reading for reading in readings if reading)

    def close(self) -> None:
        for source in self._sources:
            source.close()


class PressureSource:
    """One pressure file. Where it is absent it stays so: a kernel gets PSI by a reboot only."""

    def __init__(self, scope: str, path: Path) -> None:
        self._scope = scope
        self._file = KeptFile(path)
        self._last: tuple[bytes, Pressure] | None = None
        self.unavailable = why_unavailable(path)

    def read(self) -> Pressure | None:
        if self.unavailable:
            return None
        raw = self._file.read(256)
        if self._last is None or self._last[0] != raw:
            self._last = raw, parse_pressure(raw, self._scope, self._file.path)
        return self._last[1]

    def close(self) -> None:
        self._file.close()


def why_unavailable(path: Path) -> str:
    """Empty when the file can be read; it exists but refuses where PSI is built in and switched off."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return f"no {path}: this kernel has no pressure stall information; {CURE}"
        if error.errno == errno.EOPNOTSUPP:
            return f"{path} is switched off; {CURE}"
        return f"cannot read {path}: {os.strerror(error.errno or 0)}"
    try:
        os.pread(fd, 1, 0)
    except OSError as error:
        return f"{path} cannot be read ({os.strerror(error.errno or 0)}); {CURE}"
    finally:
        os.close(fd)
    return ""


def parse_pressure(raw: bytes, scope: str, path: Path) -> Pressure:
    """Two lines, `some` and `full`: averages in percent, totals in microseconds."""
    try:
        some = _fields(raw, b"some ")
        full = _fields(raw, b"full ")
        return Pressure(
            scope=scope,
            some_seconds=int(some[b"total"]) / 1e6,
            full_seconds=int(full[b"total"]) / 1e6,
            some_avg10_ratio=float(some[b"avg10"]) / 100,
            full_avg10_ratio=float(full[b"avg10"]) / 100,
        )
    except (ValueError, KeyError):
        raise unexpected(path, raw) from None


def _fields(raw: bytes, label: bytes) -> dict[bytes, bytes]:
    line = next((line for line in raw.splitlines() if line.startswith(label)), b"")
    return {key: value for key, _, value in (word.partition(b"=") for word in line[len(label) :].split())}
