"""The machine's memory, from /proc/meminfo (proc_meminfo(5)): what there is, what a new program could still have."""

from __future__ import annotations

import sys
from pathlib import Path

from amm_exporter.model import HostMemory
from amm_exporter.probes.portable import portable_host
from amm_exporter.probes.procfs import PROC, KeptFile, kib_field, unexpected


class HostProbe:
    """MemTotal, MemAvailable and swap by one read of a kept file."""

    def __init__(self, *, proc: Path = PROC) -> None:
        self._meminfo = KeptFile(proc / "meminfo")
        self._portable = proc == PROC and not sys.platform.startswith("linux")

    def read(self) -> HostMemory:
        """Raises ProbeError. Before Linux 3.14, without MemAvailable, free and cache pages are what is available."""
        if self._portable:
            return portable_host()
        raw = self._meminfo.read()
        total, available = kib_field(raw, b"MemTotal:"), kib_field(raw, b"MemAvailable:")
        if available is None:
            available = sum(kib_field(raw, label) or 0 for label in (b"MemFree:", b"Buffers:", b"Cached:"))
        if not total:
            raise unexpected(self._meminfo.path, raw)
        return HostMemory(
            total_bytes=total,
            available_bytes=min(available, total),
            swap_total_bytes=kib_field(raw, b"SwapTotal:") or 0,
            swap_free_bytes=kib_field(raw, b"SwapFree:") or 0,
        )

    def close(self) -> None:
        self._meminfo.close()
