"""The exact peak of a stretch of code: the kernel's high-water mark of the resident set, reset and read.

Writing 5 to /proc/<pid>/clear_refs sets the mark back to the present resident set; VmHWM in /proc/<pid>/status tells it
(proc(5)). The reset is seen by every reader of the mark in the machine, so one owner resets and others keep maxima.
"""

from __future__ import annotations

import os
from pathlib import Path

from amm_exporter.probes.procfs import PROC, KeptFile, kib_field, unexpected
from amm_exporter.units import KIB

_ENOUGH = 1024
"""VmHWM and VmRSS lie in the first 700 bytes of /proc/<pid>/status, Groups permitting."""


class HighWaterMark:
    """Reset, run, read. Fork-safe for the own process (`pid=None`); children are not in the mark."""

    def __init__(self, pid: int | None = None, *, proc: Path = PROC) -> None:
        base = proc / ("self" if pid is None else str(pid))
        self._clear_refs = KeptFile(base / "clear_refs", own=pid is None, flags=os.O_WRONLY)
        self._status = KeptFile(base / "status", own=pid is None)

    @property
    def supported(self) -> bool:
        """Whether both files are there and may be used; a kernel without page monitoring has no clear_refs."""
        return os.access(self._clear_refs.path, os.W_OK) and os.access(self._status.path, os.R_OK)

    def reset(self) -> None:
        """From here on the mark counts anew. Raises ProbeError where the kernel does not allow it."""
        self._clear_refs.write(b"5")

    def read_bytes(self) -> int:
        """The largest resident set since the reset, or since the process started."""
        return self._field(b"VmHWM:")

    def read_with_resident(self) -> tuple[int, int]:
        """The mark, and the resident set now: the two lines follow one another, so one reading does for both."""
        words = self._status.read(_ENOUGH).partition(b"VmHWM:")[2].split(None, 4)
        try:
            mark, _, label, resident, _ = words
            if label == b"VmRSS:":
                return int(mark) * KIB, int(resident) * KIB
        except ValueError:
            pass
        return self._field(b"VmHWM:"), self._field(b"VmRSS:")  # many groups, or a strange name of the program

    def _field(self, label: bytes) -> int:
        for size in (_ENOUGH, 65536):
            raw = self._status.read(size)
            found = kib_field(raw, label)
            if found is not None:
                return found
        raise unexpected(self._status.path, raw)

    def close(self) -> None:
        self._clear_refs.close()
        self._status.close()
