"""Many processes watched from outside: those whose command line matches, each with memory, peak, limit, tier and slope.

For one process and everything about it there is the governor; here each costs a few kept files and some microseconds.
`tick` does what need not be of the very moment (finding processes, limits, leaks); `read` is what a scrape costs.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from amm_exporter.analysis.leaks import LeakDetector, LeakSettings, Verdict
from amm_exporter.analysis.tiers import TierTrack, classify
from amm_exporter.control.leak_watch import leak_settings
from amm_exporter.errors import PolicyError, ProbeError
from amm_exporter.model import CgroupMemory, HostMemory, Limit, ProcessMemory, Tier
from amm_exporter.policy import Policy
from amm_exporter.probes.host import HostProbe
from amm_exporter.probes.limit import LimitProbe
from amm_exporter.probes.peak import HighWaterMark
from amm_exporter.probes.process import ProcessProbe
from amm_exporter.probes.procfs import PROC

LIMIT_EVERY_SECONDS = 15.0
"""All limits and the cgroup of a process take 65 us to read, as much as twenty readings of its memory. Each process has
its own turn within this time, so that no moment has to pay for all."""
TURNS = 16
WITH_CGROUP = ("auto", "cgroup")
"""Signals by which a tier is of the cgroup too: its processes may be small each, and too much together."""
NAME_LENGTH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberState:
    """One process at one moment. What cannot be read is None."""

    name: str
    memory: ProcessMemory
    peak_bytes: int | None
    limit: Limit | None
    cgroup: CgroupMemory | None
    usage_ratio: float
    tier: Tier
    leak: Verdict
    started_unix_seconds: float

    @property
    def cgroup_ratio(self) -> float | None:
        """What all processes of its cgroup use together, over the limit there."""
        return cgroup_ratio(self.cgroup)

    @property
    def worst_ratio(self) -> float:
        """The higher of the process's own and its cgroup's."""
        return max(self.usage_ratio, self.cgroup_ratio or 0.0)


def cgroup_ratio(cgroup: CgroupMemory | None) -> float | None:
    return cgroup.working_set_bytes / cgroup.limit_bytes if cgroup and cgroup.limit_bytes else None


Cgroups = dict[str, CgroupMemory]
"""The last reading of each cgroup by its path: processes that share one show the same, whoever read it last."""


class Member:
    """One watched process. Raises ProbeError when it has ended."""

    def __init__(
        self,
        pid: int,
        name: str,
        policy: Policy,
        *,
        settings: LeakSettings,
        cgroups: Cgroups,
        proc: Path,
        now: float,
    ) -> None:
        self.name = name
        self._cgroups = cgroups
        self._policy = policy
        self._probe = ProcessProbe(pid, proc=proc)
        self._peak = HighWaterMark(pid, proc=proc)
        self._limits = LimitProbe(pid=pid, configured_bytes=policy.limit_bytes, proc=proc)
        self._detector = LeakDetector(settings)
        self._track = TierTrack(now)
        self._started = self._probe.start_unix_seconds()
        self._read_limits()
        self._next_turn = now + LIMIT_EVERY_SECONDS * (1 + pid % TURNS) / TURNS

    def tick(self, now: float) -> None:
        self._detector.add(now, self._probe.read().rss_bytes)
        if now >= self._next_turn:
            self._next_turn = now + LIMIT_EVERY_SECONDS
            self._read_limits()

    def read(self, now: float) -> MemberState:
        memory = self._probe.read()
        limit_bytes = self._limit.size_bytes if self._limit else 0
        ratio = memory.rss_bytes / limit_bytes if limit_bytes else 0.0
        cgroup = self._cgroups.get(self.cgroup_path)
        shared = cgroup_ratio(cgroup) or 0.0 if self._policy.signal in WITH_CGROUP else 0.0
        tier = classify(max(ratio, shared), self._track.tier, self._enter_ratios, self._policy.hysteresis_ratio)
        self._track.move(now, tier)
        return MemberState(
            name=self.name,
            memory=memory,
            peak_bytes=self._read_peak(),
            limit=self._limit,
            cgroup=cgroup,
            usage_ratio=ratio,
            tier=self._track.tier,
            leak=self._detector.verdict(),
            started_unix_seconds=self._started,
        )

    def close(self) -> None:
        self._probe.close()
        self._peak.close()
        self._limits.close()

    def _read_limits(self) -> None:
        limits = self._limits.read()
        self._limit = limits[0] if limits else None
        cgroup = self._limits.cgroup()
        self.cgroup_path = cgroup.path if cgroup else ""
        if cgroup:
            self._cgroups[cgroup.path] = cgroup
        self._enter_ratios = self._ratios(self._limit)
        self._limits.close()  # kept open, the files of hundreds of processes would be many

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
    """The processes whose command line matches, now and later. Safe for a ticking and a scraping thread.

    A process is named after its program, or as the pattern says by a group: `(?P<name>...)`.
    """

    def __init__(
        self,
        policy: Policy,
        pattern: re.Pattern[str],
        *,
        proc: Path = PROC,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = policy
        self._settings = leak_settings(policy)
        self._pattern = pattern
        self._proc = proc
        self._clock = clock
        self._members: dict[int, Member] = {}
        self._cgroups: Cgroups = {}
        self._strangers: set[int] = set()
        self._looks = 0
        self._host = HostProbe(proc=proc)
        self._lock = threading.Lock()

    @property
    def pattern(self) -> str:
        return self._pattern.pattern

    def tick(self) -> None:
        """Find processes, feed the leak detectors, read the limits whose turn it is. Call it at the policy's pace."""
        with self._lock:
            self._look()
            self._each(lambda member: member.tick(self._clock()))
            for path in self._cgroups.keys() - {member.cgroup_path for member in self._members.values()}:
                del self._cgroups[path]

    def read(self) -> list[MemberState]:
        """Every live process, as it is now."""
        states: list[MemberState] = []
        with self._lock:
            self._each(lambda member: states.append(member.read(self._clock())))
        return states

    def host(self) -> HostMemory | None:
        """The machine they share; None where it cannot be read."""
        with self._lock:
            try:
                return self._host.read()
            except ProbeError:
                return None

    def close(self) -> None:
        with self._lock:
            self._host.close()
            for member in self._members.values():
                member.close()
            self._members.clear()

    def _each(self, act: Callable[[Member], None]) -> None:
        for pid, member in list(self._members.items()):
            try:
                act(member)
            except ProbeError:  # it has ended
                self._members.pop(pid).close()

    def _look(self) -> None:
        """Command lines are read of new pids, and of a sixteenth of the others: a program may have replaced itself.

        Whoever starts one forks first, and looks like its parent until it calls exec.
        """
        pids = {int(name) for name in os.listdir(self._proc) if name.isdigit()} - {os.getpid()}
        self._looks += 1
        self._strangers = {pid for pid in self._strangers & pids if not self._has_turn(pid)}
        for pid in pids - self._strangers:
            if pid not in self._members or self._has_turn(pid):
                self._know(pid, self._match(pid))

    def _has_turn(self, pid: int) -> bool:
        return (pid + self._looks) % TURNS == 0

    def _know(self, pid: int, name: str | None) -> None:
        member = self._members.get(pid)
        if name is None:
            self._strangers.add(pid)
            if member is not None:
                self._members.pop(pid).close()
        elif member is not None:
            member.name = name
        else:
            with suppress(ProbeError):  # it ended between two looks
                self._members[pid] = self._member(pid, name)

    def _member(self, pid: int, name: str) -> Member:
        return Member(
            pid,
            name,
            self._policy,
            settings=self._settings,
            cgroups=self._cgroups,
            proc=self._proc,
            now=self._clock(),
        )

    def _match(self, pid: int) -> str | None:
        """The process's name where its command line matches."""
        words = _command_line(pid, self._proc)
        found = self._pattern.search(" ".join(words)) if words[0] else None
        if found is None:
            return None
        return (found.groupdict().get("name") or program_name(words[0]))[:NAME_LENGTH]


def program_of(pid: int, proc: Path = PROC) -> str | None:
    """The short name of a process's program; None where it cannot be read."""
    command = _command_line(pid, proc)[0]
    return program_name(command) if command else None


def _command_line(pid: int, proc: Path) -> list[str]:
    """Its words, of which there is one at least; an empty one for a kernel thread, and for what is gone."""
    try:
        return (proc / str(pid) / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return [""]


def program_name(command: str) -> str:
    """The program's short name: the first word without its directory.

    Servers that write a title over their command line (PostgreSQL, sshd, Chromium) put arguments into the same word,
    and those are nobody's business: `postgres: shop cart 10.0.0.7(5432) SELECT` is `postgres`.
    """
    first = command.split(maxsplit=1)[:1]
    return Path(*first).name.rstrip(":") or "unnamed"
