"""The resident set of any process, the cheapest reading there is. The rest is in `process`, the own one's in `peak`."""

from __future__ import annotations

from amm_exporter.probes.procfs import PAGE_BYTES, PROC


def resident_bytes(pid: int) -> int | None:
    """The resident set of any process of this machine now, None where it cannot be read."""
    try:
        return int((PROC / str(pid) / "statm").read_bytes().split(None, 2)[1]) * PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return None
