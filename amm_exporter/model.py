"""The values that flow through AMM: what a probe measured, what binds it, which tier it means. Pure data.

Inside AMM a size is bytes (int), a time is seconds (float), a ratio is 0 to 1; the suffix of a name says which. Fields
that a platform or kernel may not provide are None: absent is not zero.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from operator import attrgetter


class Tier(enum.IntEnum):
    """How tight memory is, in order; exported as 0 to 4."""

    NORMAL = 0
    MODERATE = 1
    HIGH = 2
    SEVERE = 3
    CRITICAL = 4

    @property
    def label(self) -> str:
        """The lower-case name used in policies and as a metric attribute."""
        return self.name.lower()


RAISED_TIERS = (Tier.MODERATE, Tier.HIGH, Tier.SEVERE, Tier.CRITICAL)
"""The tiers that have a threshold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMemory:
    """Memory of one process. `rss` and `virtual` are of the same instant; the rest may be read less often.

    `peak_bytes` is the kernel's high-water mark (VmHWM; proc_pid_status(5)), since start or the last reset.
    """

    pid: int
    rss_bytes: int
    virtual_bytes: int
    peak_bytes: int | None = None
    swap_bytes: int | None = None
    minor_faults: int | None = None
    major_faults: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeMemory:
    """A process and its descendants: the sum of their resident sets (pages shared after a fork count once each)."""

    rss_bytes: int
    processes: tuple[ProcessMemory, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One bound on memory. `source` is one of LIMIT_SOURCES; `where` names the file or call that set it."""

    source: str
    size_bytes: int
    where: str = ""


LIMIT_SOURCES = ("policy", "cgroup", "rlimit_as", "rlimit_data", "ram")


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupMemory:
    """Usage of the cgroup whose limit binds (or, unlimited, of the process's own).

    `working_set_bytes` is usage minus inactive file cache, what kubelet and cAdvisor hold against the limit.
    """

    path: str
    version: int
    usage_bytes: int
    working_set_bytes: int
    limit_bytes: int | None = None
    oom_events: int | None = None
    oom_kills: int | None = None
    high_events: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMemory:
    """The machine: MemTotal and MemAvailable (proc_meminfo(5)), swap."""

    total_bytes: int
    available_bytes: int
    swap_total_bytes: int = 0
    swap_free_bytes: int = 0

    @property
    def used_bytes(self) -> int:
        return self.total_bytes - self.available_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """Pressure stall information (Linux PSI, Documentation/accounting/psi): the time tasks stood still for memory.

    Totals are seconds since boot (or since the cgroup was made); `some_avg10_ratio` is the kernel's 10-second share.
    `scope` is `host` or `cgroup`.
    """

    scope: str
    some_seconds: float
    full_seconds: float
    some_avg10_ratio: float
    full_avg10_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One use held against one limit. `scope` is process, tree, cgroup or host."""

    scope: str
    used_bytes: int
    limit_bytes: int

    @property
    def ratio(self) -> float:
        """Use over limit; 0 where the limit is 0 or unknown, never NaN."""
        return self.used_bytes / self.limit_bytes if self.limit_bytes > 0 else 0.0

    @property
    def headroom_bytes(self) -> int:
        return max(0, self.limit_bytes - self.used_bytes)


SCOPES = ("process", "tree", "cgroup", "host")


_RATIO = attrgetter("ratio")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look at memory: everything the tier was decided from.

    `t_seconds` is the monotonic clock (for rates), `unix_seconds` the wall clock (for people). `readings` are those the
    policy's signal asked for, `limit` the bound of the first one. What could not be read is None, and its probe is
    named in `failed`.
    """

    t_seconds: float
    unix_seconds: float
    process: ProcessMemory | None
    readings: tuple[Reading, ...]
    limit: Limit | None = None
    limits: tuple[Limit, ...] = ()
    tree: TreeMemory | None = None
    cgroup: CgroupMemory | None = None
    host: HostMemory | None = None
    pressure: tuple[Pressure, ...] = ()
    failed: frozenset[str] = field(default_factory=frozenset)

    @property
    def worst(self) -> Reading | None:
        """The reading nearest to its limit."""
        return max(self.readings, key=_RATIO, default=None)

    @property
    def headroom_bytes(self) -> int | None:
        """What is left before the first limit is reached. Not always that of the worst reading: a large machine at a
        third has more left than a small budget at a quarter."""
        return min((reading.headroom_bytes for reading in self.readings), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class TierChange:
    """A transition, and the reading that caused it."""

    t_seconds: float
    previous: Tier
    tier: Tier
    reading: Reading | None
