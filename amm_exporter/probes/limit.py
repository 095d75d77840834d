"""What bounds the memory of a process: policy, cgroup limits up the tree, RLIMIT_AS and RLIMIT_DATA, and RAM.

The tightest one binds. Limits may change while a process runs (a pod resized in place, prlimit, a move to another
cgroup), so they are read again when `refresh_seconds` old: what that costs is shown by benchmarks/probes.py.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from amm_exporter.errors import ProbeError
from amm_exporter.model import LIMIT_SOURCES, CgroupMemory, HostMemory, Limit
from amm_exporter.probes.cgroup_memory import CgroupReader
from amm_exporter.probes.cgroups import SYSFS, find_memory_cgroup
from amm_exporter.probes.host import HostProbe
from amm_exporter.probes.procfs import PROC, KeptFile, digits, unexpected

_RLIMIT_LINES = {"rlimit_as": b"Max address space", "rlimit_data": b"Max data size"}


class LimitProbe:
    """All limits of one process, and the usage of the cgroup whose limit binds.

    A source that cannot be read is left out and named in `problems`; the others go on.
    """

    def __init__(
        self,
        *,
        pid: int | None = None,
        configured_bytes: int | None = None,
        proc: Path = PROC,
        sysfs: Path = SYSFS,
        clock: Callable[[], float] = time.monotonic,
        refresh_seconds: float = 0.5,
    ) -> None:
        self._pid = pid
        self._configured_bytes = configured_bytes
        self._proc = proc
        self._sysfs = sysfs
        self._clock = clock
        self._refresh_seconds = refresh_seconds
        self._base = proc / ("self" if pid is None else str(pid))
        self._rlimits = KeptFile(self._base / "limits", own=pid is None)
        self._host = HostProbe(proc=proc)
        self._meminfo = str(proc / "meminfo")
        self._portable = proc == PROC and not sys.platform.startswith("linux")
        self._membership = KeptFile(self._base / "cgroup", own=pid is None)
        self._seen_membership: bytes | None = None
        self._readers: tuple[CgroupReader, ...] = ()
        self._limits: tuple[Limit, ...] = ()
        self._read_at: float | None = None
        self._ram_bytes: int | None = None
        self._bound: CgroupReader | None = None
        self._bound_bytes: int | None = None
        self.problems: tuple[str, ...] = ()

    def read(self) -> tuple[Limit, ...]:
        """The tightest limit of each source, the binding one first; the same tuple as long as nothing changes.

        Raises ProbeError when the process has ended.
        """
        now = self._clock()
        if self._read_at is None or now - self._read_at >= self._refresh_seconds:
            limits = self._read_all()
            if limits != self._limits:
                self._limits = limits
            self._read_at = now
        return self._limits

    def cgroup(self) -> CgroupMemory | None:
        """Usage of the cgroup whose limit binds, or of the process's own; None without a memory cgroup."""
        self.read()
        return self._bound.read(self._bound_bytes) if self._bound else None

    def working_set_bytes(self) -> int:
        """Of the cgroup found by the last `read`, with the file cache of then; 0 without one. Raises ProbeError."""
        return self._bound.working_set_bytes() if self._bound else 0

    def host(self) -> HostMemory:
        """The machine's RAM and swap. Raises ProbeError."""
        memory = self._host.read()
        self._ram_bytes = memory.total_bytes
        return memory

    def close(self) -> None:
        self._rlimits.close()
        self._membership.close()
        self._host.close()
        self._close_readers()

    def _read_all(self) -> tuple[Limit, ...]:
        problems: list[str] = []
        found: list[Limit] = []
        self._look_up()
        on_the_way = [reader.limits for reader in self._readers]
        inherited = [reader.inherited_limits for reader in self._readers[:1]]
        for source in (self._policy, *on_the_way, *inherited, self._resource_limits, self._ram):
            try:
                found += source()
            except ProbeError as error:
                problems.append(str(error))
        self.problems = tuple(problems)
        limits = tightest_by_source(found)
        self._bind(next((limit for limit in limits if limit.source == "cgroup"), None))
        return limits

    def _bind(self, limit: Limit | None) -> None:
        holders = [reader for reader in self._readers if limit and Path(limit.where).parent == reader.directory]
        self._bound = next(iter(holders or self._readers), None)
        self._bound_bytes = limit.size_bytes if limit else None

    def _policy(self) -> Iterator[Limit]:
        if self._configured_bytes is not None:
            yield Limit(source="policy", size_bytes=self._configured_bytes, where="policy: limit")

    def _ram(self) -> Iterator[Limit]:
        """As `host` saw it last: the machine's memory changes once in a blue moon, and reading it is the dearest."""
        yield Limit(source="ram", size_bytes=self._ram_bytes or self.host().total_bytes, where=self._meminfo)

    def _resource_limits(self) -> Iterator[Limit]:
        if self._portable:
            return portable_rlimits()
        raw = self._rlimits.read()
        if not raw.startswith(b"Limit"):
            raise unexpected(self._rlimits.path, raw)
        return rlimits(raw, str(self._rlimits.path))

    def _look_up(self) -> None:
        """Find the cgroup anew when the process was moved, or when something was wrong with it the last time."""
        try:
            membership = self._membership.read(16384)
        except ProbeError:
            if not self._portable and not self._base.exists():
                raise ProbeError(
                    f"process {self._pid or 'self'} has ended, or was never there: no {self._base}"
                ) from None
            membership = b""
        if membership == self._seen_membership and not self.problems:
            return
        self._close_readers()
        self._seen_membership = membership
        found = find_memory_cgroup(membership, proc=self._proc, sysfs=self._sysfs)
        if found:
            self._readers = tuple(
                CgroupReader(path, found.version, clock=self._clock, refresh_seconds=self._refresh_seconds)
                for path in found.directories
            )

    def _close_readers(self) -> None:
        for reader in self._readers:
            reader.close()
        self._readers, self._bound, self._bound_bytes = (), None, None
        self._seen_membership = self._read_at = None


def tightest_by_source(limits: list[Limit]) -> tuple[Limit, ...]:
    """One limit a source, the tightest first; equal ones in the order of LIMIT_SOURCES."""
    ordered = sorted(limits, key=lambda limit: (limit.size_bytes, LIMIT_SOURCES.index(limit.source)))
    tightest: dict[str, Limit] = {}
    for limit in ordered:
        tightest.setdefault(limit.source, limit)
    return tuple(tightest.values())


def rlimits(raw: bytes, where: str) -> Iterator[Limit]:
    """The soft limits of /proc/<pid>/limits. Lines may be missing; "unlimited" is no limit."""
    for source, label in _RLIMIT_LINES.items():
        _, found, rest = raw.partition(label)
        words = rest.split(None, 1) if found else []
        soft = digits(words[0]) if words else None
        if soft is not None:
            yield Limit(source=source, size_bytes=soft, where=f"{where}: {label.decode()}")


def portable_rlimits() -> Iterator[Limit]:
    """The own soft limits by getrlimit(2), where the platform has it."""
    try:
        import resource
    except ImportError:
        return
    for source, which in (("rlimit_as", resource.RLIMIT_AS), ("rlimit_data", resource.RLIMIT_DATA)):
        soft, _ = resource.getrlimit(which)
        if soft != resource.RLIM_INFINITY:
            yield Limit(source=source, size_bytes=soft, where=f"getrlimit: {source.upper()}")
