"""The exact peak of a stretch of code: the kernel's high-water mark of the resident set, reset and read.

Writing 5 to /proc/<pid>/clear_refs sets the mark back to the present resident set; VmHWM in /proc/<pid>/status tells it
(proc(5)). The reset is seen by every reader of the mark in the machine, so one owner resets and others keep maxima.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from amm_exporter.probes.procfs import PAGE_BYTES, PROC, KeptFile, kib_field, unexpected
from amm_exporter.units import KIB

if sys.platform != "win32":
    from os import getpid, pread, pwrite
    from resource import RUSAGE_SELF, getrusage

_ENOUGH = 1024
"""VmHWM lies in the first 700 bytes of /proc/<pid>/status, Groups permitting."""
_NEAR_KIB = 256
"""How far a mark that is only known to be no higher may lie above the resident set and still be taken for it."""


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
        for size in (_ENOUGH, 65536):
            raw = self._status.read(size)
            found = kib_field(raw, b"VmHWM:")
            if found is not None:
                return found
            if self._status.is_lost:  # a daemon has closed it, and its number is another file's
                self._status.close()
        raise unexpected(self._status.path, raw)

    def close(self) -> None:
        self._clear_refs.close()
        self._status.close()


class OwnMark(HighWaterMark):
    """The mark of the own process together with its resident set, in as few steps as it takes: a test runner asks after
    tests that left nothing in the processor's caches, where each function and each kernel file more is felt.

    So it is getrusage(2) and /proc/self/statm, not the long /proc/self/status. getrusage tells the same mark, except
    that it never falls below what the process had inherited at exec, which is at most what it tells at first. Up to
    there the mark is looked up in /proc/self/status, unless it is near anyway.
    """

    def __init__(self) -> None:
        super().__init__()
        self._statm = KeptFile(PROC / "self" / "statm", own=True)
        self._inherited_kib = getrusage(RUSAGE_SELF).ru_maxrss
        self._pid = self._statm_fd = self._clear_refs_fd = -1

    def reset(self) -> None:
        try:
            if self._pid != getpid():
                self._open()
            pwrite(self._clear_refs_fd, b"5", 0)
        except OSError:  # a test has closed it
            self._open()
            super().reset()

    def rss_bytes(self) -> int:
        """What is resident now. Raises ProbeError where the file cannot be read."""
        try:
            if self._pid != getpid():
                self._open()
            return int(pread(self._statm_fd, 64, 0).split(None, 2)[1]) * PAGE_BYTES
        except (OSError, ValueError, IndexError):
            return self._rss_again()

    def read(self) -> tuple[int, int]:
        """The mark, and what is resident now."""
        mark_kib = getrusage(RUSAGE_SELF).ru_maxrss
        try:  # as in rss_bytes, a call less
            if self._pid != getpid():
                self._open()
            rss_bytes = int(pread(self._statm_fd, 64, 0).split(None, 2)[1]) * PAGE_BYTES
        except (OSError, ValueError, IndexError):
            rss_bytes = self._rss_again()
        if mark_kib > self._inherited_kib or mark_kib - rss_bytes // KIB < _NEAR_KIB:
            return mark_kib * KIB, rss_bytes
        return self.read_bytes(), rss_bytes

    def close(self) -> None:
        super().close()
        self._statm.close()
        self._pid = -1

    def _open(self) -> None:
        self.close()
        self._clear_refs_fd, self._statm_fd = self._clear_refs.fileno(), self._statm.fileno()
        self._pid = getpid()

    def _rss_again(self) -> int:
        """A test has closed the file, and its number may have gone to another one."""
        self._open()
        raw = self._statm.read(64)
        try:
            return int(raw.split(None, 2)[1]) * PAGE_BYTES
        except (ValueError, IndexError):
            raise unexpected(self._statm.path, raw) from None
