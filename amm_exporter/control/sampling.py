"""From probes to a Sample: what the policy's signal asks for, each probe isolated from the failure of another."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from amm_exporter.errors import ProbeError
from amm_exporter.model import CgroupMemory, HostMemory, Limit, Pressure, ProcessMemory, Reading, Sample, TreeMemory
from amm_exporter.policy import Policy
from amm_exporter.probes.limit import LimitProbe
from amm_exporter.probes.pressure import PressureProbe
from amm_exporter.probes.process import ProcessProbe, TreeProbe

log = logging.getLogger("amm.control")

CHILDREN_SECONDS = 1.0
"""How often new children are looked for, at most."""
STAND_SECONDS = 3.0
"""How long a sample may stand while memory is calm: a whole look costs as much as ten glances."""
PRESSURE_SECONDS = 4.0
"""The kernel averages it that often."""
LIMIT_SECONDS = 10.0
"""How soon a limit that was changed is followed. Reading them all costs as much as the rest of two samples."""
AROUND_SECONDS = 5.0
"""While the process does not move by a page: how often what is around it is looked at, and whether a sample is due."""
REST_SECONDS = 30.0
"""How long a sample may stand while nothing moves here or around."""
HOST_EVERY_SECONDS = 0.25
"""The machine, while less than half of it is free."""
ROOMY_HOST_SECONDS = STAND_SECONDS
"""The machine, while more is and the process moves: it does not move as fast as one process can, and costs more."""
_T = TypeVar("_T")


class Sampler:
    """Takes samples of one process (the own one by default) as a policy asks for them.

    A probe that fails leaves its part of the sample None, is named in `Sample.failed` and logged once until it works
    again. `probes` says of each one whether its last read succeeded.

    A daemon closes all descriptors at once, and files of the program get their numbers: where one probe fails, or the
    process's own file is another one, all are opened anew.
    """

    def __init__(
        self,
        policy: Policy,
        pid: int | None = None,
        *,
        proc: Path = Path("/proc"),
        sysfs: Path = Path("/sys/fs/cgroup"),
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._signal = policy.signal
        self._needs_tree = policy.signal in ("auto", "tree") or policy.budget_bytes is not None
        self._clock = clock
        self._wall_clock = wall_clock
        self._process = ProcessProbe(pid, proc=proc)
        self._tree = TreeProbe(pid, proc=proc, look_seconds=CHILDREN_SECONDS, root=self._process)
        self._limit = LimitProbe(
            pid=pid,
            configured_bytes=policy.limit_bytes,
            proc=proc,
            sysfs=sysfs,
            clock=clock,
            refresh_seconds=LIMIT_SECONDS,
        )
        self._kept: list[TreeProbe | LimitProbe | PressureProbe] = [self._tree, self._limit]
        self.probes: dict[str, bool] = {}
        self._failed: frozenset[str] = frozenset()
        self._host: HostMemory | None = None
        self._host_due = float("-inf")
        self._held: dict[str, Callable[[], int]] = {}
        self.is_still: Callable[[], bool] = _cannot_tell
        """Whether no page came or went since the last look or question."""
        self._before: Mapping[str, int] = {}
        self.stands_until = self.around_until = self.rests_until = float("-inf")
        self._limits: tuple[Limit, ...] = ()
        self._pressures: tuple[Pressure, ...] = ()
        self._pressure_due = float("-inf")
        self._pressure = PressureProbe(proc=proc, cgroup_path=self._unified_cgroup())
        self._kept.append(self._pressure)
        if self._pressure.unavailable:
            log.info("no pressure stall information: %s", self._pressure.unavailable)

    def take(self) -> Sample:
        """One look at everything. Never raises for a source that cannot be read."""
        now = self._clock()
        if self._process.lost_its_file:
            self.close()
        limits = self._try("limit", self._read_limits) or ()
        tree = self._try("tree", self._tree.read) if self._needs_tree else None
        process = tree.processes[0] if tree else self._try("process", self._process.read)
        cgroup = self._try("cgroup", self._limit.cgroup)
        self._read_around(now)
        sample = Sample(
            t_seconds=now,
            unix_seconds=self._wall_clock(),
            process=process,
            readings=readings(self._signal, limits, process, tree, cgroup, self._host),
            limit=limits[0] if limits else None,
            limits=limits,
            tree=tree,
            cgroup=cgroup,
            host=self._host,
            pressure=self._pressures,
            failed=self._failed,
        )
        self._hold(sample)
        return sample

    def glance(self, slack_bytes: int) -> Mapping[str, int] | None:
        """The resident set of the process and what else is held against a limit, by the names of their series, while
        none of them has moved by so much since the last sample.

        Costs a tenth of a sample. None also where something cannot be read: `take` finds out what.
        """
        try:
            found = {"rss": self._process.rss_bytes()}
            for series, use in self._held.items():
                found[series] = use()
        except ProbeError:
            return None
        before = self._before
        if found != before and any(abs(size - before[series]) >= slack_bytes for series, size in found.items()):
            return None
        return found

    def renew(self, now: float, slack_bytes: int) -> bool:
        """Whether the last sample of a process that `is_still` stands for another AROUND_SECONDS: no child was started,
        no limit was changed, and the machine has not moved by so much. A fifth of a sample."""
        if self.glance(1) is None:  # what stands is to be what is, not less than the slack beside it
            return False
        try:
            alone = self._tree.is_alone if self._needs_tree else True
            limits = self._limit.read()
            host = self._limit.host()
        except Exception:  # noqa: BLE001 - `take` finds out what
            return False
        moved_bytes = abs(host.used_bytes - self._host.used_bytes) if self._host else slack_bytes
        if not alone or limits is not self._limits or not _is_roomy(host) or moved_bytes >= slack_bytes:
            return False
        self.around_until = now + AROUND_SECONDS
        return True

    def _hold(self, sample: Sample) -> None:
        """What the next glances read and compare with. The resident set is read once more, so that `is_still` can tell
        from then on."""
        self.stands_until = self.around_until = self.rests_until = float("-inf")
        self._limits = sample.limits
        if sample.process is None:
            return
        self._held, before = {}, {"rss": sample.process.rss_bytes}
        cgroup_read = any(each.scope == "cgroup" for each in sample.readings)
        if sample.cgroup is not None and (cgroup_read or sample.cgroup.limit_bytes is not None):
            self._held["cgroup"], before["cgroup"] = self._limit.working_set_bytes, sample.cgroup.working_set_bytes
        if sample.tree is not None and len(sample.tree.processes) > 1:
            self._held["tree"], before["tree"] = self._tree.rss_bytes, sample.tree.rss_bytes
        self._before = before
        self.is_still = _cannot_tell if self._held else self._process.is_still
        try:
            self._process.rss_bytes()
        except ProbeError:
            return
        self.stands_until = self.around_until = min(sample.t_seconds + STAND_SECONDS, self._host_due)
        if self._host is not None and _is_roomy(self._host):
            self.around_until += AROUND_SECONDS - STAND_SECONDS
        self.rests_until = sample.t_seconds + REST_SECONDS

    def _read_around(self, now: float) -> None:
        """The machine's memory and the pressure on it, where they are old enough."""
        if now >= self._pressure_due:
            self._pressure_due = now + PRESSURE_SECONDS
            self._pressures = self._try("pressure", self._pressure.read) or ()
        if now >= self._host_due:
            host = self._host = self._try("host", self._limit.host)
            roomy = host is not None and _is_roomy(host)
            self._host_due = now + (ROOMY_HOST_SECONDS if roomy else HOST_EVERY_SECONDS)

    def details(self) -> ProcessMemory | None:
        """Peak, swap and faults too: several files, so for a scrape and not for a tick."""
        return self._try("process_details", self._process.details)

    def start_unix_seconds(self) -> float | None:
        return self._try("process_details", self._process.start_unix_seconds)

    def close(self) -> None:
        """Each file is opened again by the next reading."""
        for probe in self._kept:
            probe.close()

    def _unified_cgroup(self) -> Path | None:
        """Directory of the version 2 cgroup: only that version has pressure files of its own."""
        cgroup = self._try("cgroup", self._limit.cgroup)
        return Path(cgroup.path) if cgroup is not None and cgroup.version == 2 else None

    def _read_limits(self) -> tuple[Limit, ...]:
        """The limits that could be read; a source that could not is told once and leaves the others standing."""
        limits = self._limit.read()
        if self._limit.problems or not self.probes.get("limit_sources"):
            self._note("limit_sources", "; ".join(self._limit.problems) or None)
        return limits

    def _try(self, name: str, read: Callable[[], _T]) -> _T | None:
        try:
            value = read()
        except Exception as error:  # noqa: BLE001 - a broken probe must not stop the others nor the host program
            self._note(name, str(error))
            return None
        if self.probes.get(name) is not True:
            self._note(name, None)
        return value

    def _note(self, name: str, problem: str | None) -> None:
        """Remember whether the probe works; a line in the log when that changes, not at every tick."""
        worked = self.probes.get(name, True)
        self.probes[name] = problem is None
        self._failed = frozenset(probe for probe, works in self.probes.items() if not works)
        if worked and problem is not None:
            log.warning("probe %s failed, its metrics are absent until it works again: %s", name, problem)
            self.close()
        elif not worked and problem is None:
            log.info("probe %s works again", name)


def _is_roomy(host: HostMemory) -> bool:
    return 2 * host.used_bytes < host.total_bytes


def _cannot_tell() -> bool:
    """Where a glance compares more than the resident set."""
    return False


def readings(
    signal: str,
    limits: tuple[Limit, ...],
    process: ProcessMemory | None,
    tree: TreeMemory | None,
    cgroup: CgroupMemory | None,
    host: HostMemory | None,
) -> tuple[Reading, ...]:
    """What is held against what. The worst reading decides the tier.

    `auto`: the cgroup's working set where the cgroup has a limit; the tree's RSS where a tighter limit binds (policy,
    RLIMIT) or the cgroup has none; and the host's own usage always.
    """
    limit_bytes = limits[0].size_bytes if limits else 0
    found = []
    for scope in _scopes(signal, limits, cgroup):
        if scope == "host":
            used, bound = (host.used_bytes, host.total_bytes) if host else (0, 0)
        elif scope == "cgroup":
            used, bound = (cgroup.working_set_bytes, cgroup.limit_bytes or limit_bytes) if cgroup else (0, 0)
        else:
            memory = tree if scope == "tree" else process
            used, bound = (memory.rss_bytes, limit_bytes) if memory else (0, 0)
        if bound:
            found.append(Reading(scope=scope, used_bytes=used, limit_bytes=bound))
    return tuple(found)


def _scopes(signal: str, limits: tuple[Limit, ...], cgroup: CgroupMemory | None) -> tuple[str, ...]:
    if signal != "auto":
        return (signal,)
    if cgroup is None or cgroup.limit_bytes is None:
        return ("tree", "host")
    cgroup_binds = bool(limits) and limits[0].source == "cgroup"
    return ("cgroup", "host") if cgroup_binds else ("cgroup", "tree", "host")
