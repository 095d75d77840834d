"""Many processes watched from outside: those whose command line matches, each with its memory, peak, limit and tier.

For one process and everything about it there is the governor; here each costs a few kept files and some microseconds.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from amm_exporter.analysis.tiers import TierTrack, classify
from amm_exporter.errors import PolicyError, ProbeError
from amm_exporter.model import Limit, ProcessMemory, Tier
from amm_exporter.policy import Policy
from amm_exporter.probes.limit import LimitProbe
from amm_exporter.probes.peak import HighWaterMark
from amm_exporter.probes.process import ProcessProbe

LIMIT_EVERY_SECONDS = 30.0
"""Reading all limits of a process costs 65 us, as much as twenty readings of its memory."""
LOOK_EVERY_SECONDS = 1.0
NAME_LENGTH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberState:
    """One process at one moment. `peak_bytes` and `limit` are None where they cannot be read."""

    name: str
    memory: ProcessMemory
    peak_bytes: int | None
    limit: Limit | None
    usage_ratio: float
    tier: Tier
    started_unix_seconds: float


class Member:
    """One watched process. Raises ProbeError when it ends."""

    def __init__(self, pid: int, name: str, policy: Policy, proc: Path, clock: Callable[[], float]) -> None:
        self.name = name
        self._policy = policy
        self._clock = clock
        self._probe = ProcessProbe(pid, proc=proc)
        self._peak = HighWaterMark(pid, proc=proc)
        self._limits = LimitProbe(pid=pid, configured_bytes=policy.limit_bytes, proc=proc)
        self._limit: Limit | None = None
        self._limit_at = float("-inf")
        self._enter_ratios: tuple[float, ...] = ()
        self._track = TierTrack(clock())
        self._started = self._probe.start_unix_seconds()

    def read(self) -> MemberState:
        memory = self._probe.read()
        limit = self._current_limit()
        ratio = memory.rss_bytes / limit.size_bytes if limit and limit.size_bytes else 0.0
        now = self._clock()
        self._track.move(now, classify(ratio, self._track.tier, self._enter_ratios, self._policy.hysteresis_ratio))
        return MemberState(
            name=self.name,
            memory=memory,
            peak_bytes=self._read_peak(),
            limit=limit,
            usage_ratio=ratio,
            tier=self._track.tier,
            started_unix_seconds=self._started,
        )

    def close(self) -> None:
        self._probe.close()
        self._peak.close()
        self._limits.close()

    def _current_limit(self) -> Limit | None:
        now = self._clock()
        if now - self._limit_at >= LIMIT_EVERY_SECONDS:
            self._limit_at = now
            limits = self._limits.read()
            self._limits.close()  # kept open, the files of hundreds of processes would be many
            self._limit = limits[0] if limits else None
            self._enter_ratios = self._ratios(self._limit)
        return self._limit

    def _ratios(self, limit: Limit | None) -> tuple[float, ...]:
        try:
            return self._policy.enter_ratios(limit.size_bytes if limit else 0)
        except PolicyError:  # sizes that make no order under this one's limit: it stays NORMAL, the others go on
            return (float("inf"),) * 4

    def _read_peak(self) -> int | None:
        try:
            return self._peak.read_bytes()
        except ProbeError:
            return None


class Fleet:
    """The processes whose command line matches, found anew every second. `read()` yields those that are alive."""

    def __init__(
        self,
        policy: Policy,
        pattern: re.Pattern[str],
        *,
        proc: Path = Path("/proc"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = policy
        self._pattern = pattern
        self._proc = proc
        self._clock = clock
        self._members: dict[int, Member] = {}
        self._strangers: set[int] = {os.getpid()}
        self._looked_at = float("-inf")

    def read(self) -> Iterator[MemberState]:
        now = self._clock()
        if now - self._looked_at >= LOOK_EVERY_SECONDS:
            self._looked_at = now
            self._look()
        for pid, member in list(self._members.items()):
            try:
                yield member.read()
            except ProbeError:  # it has ended
                self._members.pop(pid).close()

    def close(self) -> None:
        for member in self._members.values():
            member.close()
        self._members.clear()

    def _look(self) -> None:
        """Command lines are read of new pids only."""
        pids = {int(name) for name in os.listdir(self._proc) if name.isdigit()}
        self._strangers &= pids
        for pid in pids - self._strangers - self._members.keys():
            name = self._match(pid)
            if name is None:
                self._strangers.add(pid)
                continue
            try:
                self._members[pid] = Member(pid, name, self._policy, self._proc, self._clock)
            except ProbeError:
                continue  # it ended between two looks

    def _match(self, pid: int) -> str | None:
        """The program's short name where its command line matches."""
        try:
            words = (self._proc / str(pid) / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        except OSError:
            return None
        if not words[0] or not self._pattern.search(" ".join(words)):
            return None
        return Path(words[0]).name[:NAME_LENGTH]
