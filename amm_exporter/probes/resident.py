"""The resident set of a process, the cheapest reading there is: one kept file. The rest is in `process`."""

from __future__ import annotations

from pathlib import Path

from amm_exporter.probes.procfs import PAGE_BYTES, PROC, KeptFile, unexpected


class Resident:
    """The own process's resident set by /proc/self/statm (proc_pid_statm(5)), fork-safe."""

    def __init__(self, *, proc: Path = PROC) -> None:
        self._statm = KeptFile(proc / "self" / "statm", own=True)

    def rss_bytes(self) -> int:
        """Raises ProbeError where the file cannot be read."""
        raw = self._statm.read(128)
        try:
            return int(raw.split(None, 2)[1]) * PAGE_BYTES
        except (ValueError, IndexError):
            raise unexpected(self._statm.path, raw) from None

    def close(self) -> None:
        self._statm.close()


def resident_bytes(pid: int) -> int | None:
    """The resident set of any process of this machine now, None where it cannot be read."""
    try:
        return int((PROC / str(pid) / "statm").read_bytes().split(None, 2)[1]) * PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return None
