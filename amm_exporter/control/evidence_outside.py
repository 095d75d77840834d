"""Evidence of a process that AMM is not in: what /proc tells of its memory, and what of it grew in a short while.

No types, lines or chains: those only the process itself knows.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from amm_exporter.control.evidence import TOP, resident_by_mapping
from amm_exporter.errors import AMMError, ProbeError
from amm_exporter.probes.procfs import PROC, kib_field, read_once

INSIDE = "amm run -- ..., opentelemetry-instrument, or amm.start()"
_FIELDS = {
    "resident": b"VmRSS:", "peak": b"VmHWM:", "swap": b"VmSwap:",
    "anonymous": b"RssAnon:", "file": b"RssFile:", "shared": b"RssShmem:",
}  # fmt: skip
"""Of proc_pid_status(5)."""


def amm_may_be_inside(pid: int, proc: Path = PROC) -> bool:
    """Whether the process keeps its own /proc/PID/statm open, as AMM's sampler does. Few other programs do."""
    try:
        files = list((proc / str(pid) / "fd").iterdir())
    except OSError:
        return True  # not for us to see: asking it will tell why
    return any(_target(file) == f"/proc/{pid}/statm" for file in files)


def seen_from_outside(
    pid: int, seconds: float, *, proc: Path = PROC, sleep: Callable[[float], object] = time.sleep
) -> dict[str, Any]:
    """Memory and mappings of the process now, and what grew in so many seconds before. Raises AMMError where it cannot.

    Each look at the mappings holds up the process's page faults, 13 ms a GB.
    """
    before = _mappings(pid, proc) if seconds > 0 else None
    sleep(seconds)
    after = _mappings(pid, proc)
    status = _read(pid, "status", proc)
    memory = {name: kib_field(status, field) for name, field in _FIELDS.items()}
    evidence: dict[str, Any] = {
        "unix_seconds": time.time(),
        "pid": pid,
        "outside": True,
        "verdicts": {},
        "types": {"unavailable": "AMM is not inside the process"},
        "memory": {name: size for name, size in memory.items() if size is not None},
        "mappings": after.most_common(TOP),
    }
    if before is not None:
        grown = Counter(after)
        grown.subtract(before)
        rows = [(name, size) for name, size in grown.most_common(TOP) if size > 0]
        evidence["grown"] = {"seconds": seconds, "resident": after.total() - before.total(), "mappings": rows}
    return evidence


def _mappings(pid: int, proc: Path) -> Counter[str]:
    sizes = resident_by_mapping(_read(pid, "smaps", proc))
    if not sizes:
        raise AMMError(f"evidence: process {pid} has no memory of its own: it has ended, or is a kernel thread")
    return sizes


def _read(pid: int, name: str, proc: Path) -> bytes:
    path = proc / str(pid) / name
    try:
        return read_once(path)
    except ProbeError as error:
        if not path.parent.exists():
            raise AMMError(f"evidence: no process {pid}") from error
        if not os.access(path, os.R_OK) or isinstance(error.__cause__, PermissionError):
            raise AMMError(f"evidence: process {pid} belongs to another user; ask as that user or as root") from error
        raise AMMError(f"evidence: {error}") from error


def _target(file: Path) -> str:
    try:
        return os.readlink(file)
    except OSError:
        return ""
