"""The same measurements by psutil, for systems without Linux's /proc. psutil is loaded on first use only.

No high-water mark here, and limits only as far as `limit` finds them without /proc.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from amm_exporter.errors import ProbeError
from amm_exporter.model import HostMemory, ProcessMemory

if TYPE_CHECKING:
    import psutil


class PortableProcess:
    """One process by psutil. The psutil object is made anew in a forked child: it remembers its pid for ever."""

    def __init__(self, pid: int | None = None) -> None:
        self._given_pid = pid
        self._process: psutil.Process | None = None

    def read(self) -> ProcessMemory:
        return self._memory(details=False)

    def details(self) -> ProcessMemory:
        """With peak and faults where the platform tells them (macOS: faults; Windows: peak)."""
        return self._memory(details=True)

    def start_unix_seconds(self) -> float:
        import psutil

        try:
            return float(self._current().create_time())
        except psutil.Error as error:
            raise ProbeError(f"cannot read the process by psutil: {error}") from error

    def descendants(self) -> frozenset[int]:
        import psutil

        try:
            return frozenset(child.pid for child in self._current().children(recursive=True))
        except psutil.Error as error:
            raise ProbeError(f"cannot read the process by psutil: {error}") from error

    def _memory(self, *, details: bool) -> ProcessMemory:
        import psutil

        try:
            process = self._current()
            if not process.is_running():
                raise ProbeError(f"process {process.pid} has ended")
            info = process.memory_info()
        except psutil.Error as error:
            raise ProbeError(f"cannot read the process by psutil: {error}") from error
        return ProcessMemory(
            pid=process.pid,
            rss_bytes=info.rss,
            virtual_bytes=info.vms,
            peak_bytes=getattr(info, "peak_wset", None) if details else None,
            minor_faults=getattr(info, "pfaults", None) if details else None,
            major_faults=getattr(info, "pageins", None) if details else None,
        )

    def _current(self) -> psutil.Process:
        import psutil

        pid = os.getpid() if self._given_pid is None else self._given_pid
        if self._process is None or self._process.pid != pid:
            self._process = psutil.Process(pid)
        return self._process


def portable_host() -> HostMemory:
    """RAM and swap by psutil."""
    import psutil

    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return HostMemory(
        total_bytes=memory.total,
        available_bytes=memory.available,
        swap_total_bytes=swap.total,
        swap_free_bytes=swap.free,
    )
