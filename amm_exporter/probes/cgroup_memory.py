"""What one memory cgroup says: its limits, its usage and working set, and what happened in it. Versions 1 and 2.

Kernel documentation: admin-guide/cgroup-v2 (memory interface files) and admin-guide/cgroup-v1/memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from amm_exporter.errors import ProbeError
from amm_exporter.model import CgroupMemory, Limit
from amm_exporter.probes.cgroups import USAGE_FILES
from amm_exporter.probes.procfs import KeptFile, digits, keyed_number, unexpected

LIMIT_FILES = {1: ("memory.limit_in_bytes",), 2: ("memory.max", "memory.high")}
EVENT_FILES = {1: "memory.oom_control", 2: "memory.events"}
INACTIVE_FILE_KEYS = {1: b"total_inactive_file", 2: b"inactive_file"}
UNLIMITED_FROM_BYTES = 2**62
"""Version 1 writes "no limit" as LONG_MAX rounded down to a page, whose size differs between machines."""


class CgroupReader:
    """One cgroup directory by kept files."""

    def __init__(
        self,
        directory: Path,
        version: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        refresh_seconds: float = 0.5,
    ) -> None:
        self.directory = directory
        self._path = str(directory)
        self.version = version
        self._clock = clock
        self._refresh_seconds = refresh_seconds
        paths = [directory / name for name in LIMIT_FILES[version]]
        self._limits = [KeptFile(path) for path in paths if path.exists()]  # a namespace's root may lack them
        self._usage = KeptFile(directory / USAGE_FILES[version])
        self._stat = KeptFile(directory / "memory.stat")
        self._events = KeptFile(directory / EVENT_FILES[version])
        self._refreshed_at: float | None = None
        self._refreshed_usage = 0
        self._inactive_file = 0
        self._event_counts: dict[str, int | None] = {}
        self._last: CgroupMemory | None = None

    def limits(self) -> Iterator[Limit]:
        """The limits set on this very directory. Raises ProbeError for one that cannot be read."""
        for file in self._limits:
            size = limit_size(file)
            if size is not None:
                yield Limit(source="cgroup", size_bytes=size, where=str(file.path))

    def inherited_limits(self) -> Iterator[Limit]:
        """Version 1: the tightest limit up the tree as the kernel sees it, beyond what is mounted here."""
        raw = self._stat.read(16384) if self.version == 1 else b""
        size = keyed_number(raw, b"hierarchical_memory_limit")
        if size is not None and size < UNLIMITED_FROM_BYTES:
            yield Limit(source="cgroup", size_bytes=size, where=f"{self._stat.path}: hierarchical_memory_limit")

    def working_set_bytes(self) -> int:
        """Usage now, less the inactive file cache of the last `read`: one small file. Raises ProbeError."""
        return max(0, parsed_usage(self._usage) - self._inactive_file)

    def read(self, limit_bytes: int | None = None) -> CgroupMemory:
        """Usage now, and the working set. Raises ProbeError.

        memory.stat costs 10 us (version 1) to 100 us (version 2, which has to gather per-CPU counts first), usage
        1.5 us. So inactive_file is read again only when it is `refresh_seconds` old, when usage has moved by 1/16, or
        when usage is above half the limit: there, anonymous memory may push file cache out while usage stands still.
        """
        usage = parsed_usage(self._usage)
        if self._must_refresh(usage, limit_bytes):
            self._refresh(usage)
        last = self._last
        if last and last.usage_bytes == usage and last.limit_bytes == limit_bytes:
            return last
        self._last = CgroupMemory(
            path=self._path,
            version=self.version,
            usage_bytes=usage,
            working_set_bytes=max(0, usage - self._inactive_file),
            limit_bytes=limit_bytes,
            oom_events=self._event_counts.get("oom"),
            oom_kills=self._event_counts.get("oom_kill"),
            high_events=self._event_counts.get("high"),
        )
        return self._last

    def close(self) -> None:
        for file in (*self._limits, self._usage, self._stat, self._events):
            file.close()

    def _must_refresh(self, usage: int, limit_bytes: int | None) -> bool:
        return (
            self._refreshed_at is None
            or (limit_bytes is not None and usage * 2 >= limit_bytes)
            or abs(usage - self._refreshed_usage) * 16 > self._refreshed_usage
            or self._clock() - self._refreshed_at >= self._refresh_seconds
        )

    def _refresh(self, usage: int) -> None:
        raw = self._stat.read(16384)
        inactive = keyed_number(raw, INACTIVE_FILE_KEYS[self.version])
        if inactive is None:
            raise unexpected(self._stat.path, raw)
        self._inactive_file = inactive
        self._event_counts = self._read_events()
        self._refreshed_at, self._refreshed_usage = self._clock(), usage
        self._last = None

    def _read_events(self) -> dict[str, int | None]:
        """Counts of memory.events; version 1 counts OOM kills only, from Linux 4.13 on."""
        try:
            raw = self._events.read()
        except ProbeError:
            return {}
        return {name: keyed_number(raw, name.encode()) for name in ("oom", "oom_kill", "high")}


def limit_size(file: KeptFile) -> int | None:
    """Bytes, or None for no limit."""
    raw = file.read(64)
    word = raw.strip()
    if word == b"max":
        return None
    size = digits(word)
    if size is None:
        raise unexpected(file.path, raw)
    return None if size >= UNLIMITED_FROM_BYTES else size


def parsed_usage(file: KeptFile) -> int:
    raw = file.read(64)
    try:
        return int(raw)
    except ValueError:
        raise unexpected(file.path, raw) from None
