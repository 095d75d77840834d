"""Memory of a process and of a process tree, from /proc.

`ProcessProbe` and `TreeProbe` are cheap enough for every tick. What each byte is used for (smaps) is costly and not
here; the high-water mark of a stretch of code is in `peak`, the finding of descendants in `descendants`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from amm_exporter.errors import ProbeError
from amm_exporter.model import ProcessMemory, TreeMemory
from amm_exporter.probes.descendants import Descendants
from amm_exporter.probes.peak import HighWaterMark
from amm_exporter.probes.portable import PortableProcess
from amm_exporter.probes.procfs import (
    PAGE_BYTES,
    PROC,
    KeptFile,
    Stat,
    keyed_number,
    kib_field,
    parse_stat,
    read_once,
    unexpected,
    unreadable,
)

__all__ = ["HighWaterMark", "ProcessProbe", "TreeProbe"]

MOST_KEPT_FILES = 64
"""Descriptors that a tree may hold in the program it is part of, which has 1,024 by default. Beyond, a file is opened
for each reading: seven times slower, and seldom, since few programs have as many children."""


class ProcessProbe:
    """One process: the calling one (`pid=None`, also after a fork) or any other.

    A kept file of /proc/<pid> belongs to that very process: when it ends, reads fail even if its pid is given out
    again. Where the file has to be opened anew, the start time tells a successor with the same pid from the one meant.
    """

    def __init__(self, pid: int | None = None, *, proc: Path = PROC) -> None:
        self._given_pid = pid
        self._proc = proc
        self._base = proc / ("self" if pid is None else str(pid))
        self._statm = KeptFile(self._base / "statm", own=pid is None)
        self._last: tuple[bytes, ProcessMemory] | None = None
        self._seen = b""
        self._portable: PortableProcess | None = None
        if proc == PROC and not sys.platform.startswith("linux"):
            self._portable = PortableProcess(pid)
        self._start_ticks = None if pid is None or self._portable else self._stat().start_ticks

    @property
    def pid(self) -> int:
        return os.getpid() if self._given_pid is None else self._given_pid

    def rss_bytes(self) -> int:
        """The resident set alone: the cheapest reading there is."""
        if self._portable:
            return self._portable.read().rss_bytes
        raw = self._seen = self._statm.read(128) if self._given_pid is None else self._read_statm()
        try:
            return int(raw.split(None, 2)[1]) * PAGE_BYTES
        except (ValueError, IndexError):
            raise unexpected(self._statm.path, raw) from None

    def is_still(self) -> bool:
        """Whether nothing has moved since this or `rss_bytes` was asked last; False where that cannot be told."""
        if self._portable:
            return False
        try:
            before, self._seen = self._seen, self._statm.read(128)
        except ProbeError:
            return False
        return self._seen == before

    @property
    def lost_its_file(self) -> bool:
        """Whether somebody has closed the kept file: its number may be that of another one. A microsecond."""
        return self._statm.is_lost

    def read(self) -> ProcessMemory:
        """Resident set and address space now. Raises ProbeError when the process has ended or cannot be read."""
        if self._portable:
            return self._portable.read()
        raw = self._read_statm()
        pid = self.pid
        if self._last and self._last[0] == raw and self._last[1].pid == pid:
            return self._last[1]  # nothing moved: a tenth of building the value again
        try:
            virtual, rss, _ = raw.split(None, 2)
            memory = ProcessMemory(pid=pid, rss_bytes=int(rss) * PAGE_BYTES, virtual_bytes=int(virtual) * PAGE_BYTES)
        except ValueError:
            raise unexpected(self._statm.path, raw) from None
        if memory.virtual_bytes == 0:
            raise ProbeError(f"process {pid} has ended: it has no memory left (or it is a kernel thread)")
        self._last = raw, memory
        return memory

    def details(self) -> ProcessMemory:
        """The same with peak, swap and faults: four files instead of one, for once a scrape and not for every tick."""
        if self._portable:
            return self._portable.details()
        memory = self.read()
        status = read_once(self._base / "status")
        stat = self._checked_stat()
        return ProcessMemory(
            pid=memory.pid,
            rss_bytes=memory.rss_bytes,
            virtual_bytes=memory.virtual_bytes,
            peak_bytes=kib_field(status, b"VmHWM:"),
            swap_bytes=kib_field(status, b"VmSwap:"),
            minor_faults=stat.minor_faults,
            major_faults=stat.major_faults,
        )

    def start_unix_seconds(self) -> float:
        """When the process started, by the wall clock: boot time and start ticks (proc_pid_stat(5), field 22)."""
        if self._portable:
            return self._portable.start_unix_seconds()
        boot = keyed_number(read_once(self._proc / "stat"), b"btime")
        if boot is None:
            raise ProbeError(f"cannot read {self._proc / 'stat'}: no line with btime")
        return boot + self._checked_stat().start_ticks / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self._statm.close()

    def _read_statm(self) -> bytes:
        was_open = self._statm.is_open
        try:
            raw = self._statm.read(128)
        except ProbeError as error:
            self._checked_stat()  # raises with the better text when the process has ended
            raise error
        if not was_open and self._start_ticks is not None:  # opened by its path: it may be a successor's
            try:
                self._checked_stat()
            except ProbeError:
                self._statm.close()  # or the next reading would believe it
                raise
        return raw

    def _checked_stat(self) -> Stat:
        stat = self._stat()
        if self._start_ticks is not None and stat.start_ticks != self._start_ticks:
            raise ProbeError(f"process {self._given_pid} has ended; its pid now belongs to another process")
        return stat

    def _stat(self) -> Stat:
        path = self._base / "stat"
        try:
            return parse_stat(path, path.read_bytes())
        except (FileNotFoundError, ProcessLookupError):
            raise ProbeError(f"process {self.pid} has ended, or was never there: no {path}") from None
        except ProbeError:
            raise
        except OSError as error:
            raise unreadable(path, error) from error


class TreeProbe:
    """A process and all its descendants, resident sets summed. A page shared after a fork counts once a process.

    New children are looked for at most every `look_seconds`; those that are known are read each time. `root` is a probe
    of that process, where there is one already.
    """

    def __init__(
        self,
        pid: int | None = None,
        *,
        proc: Path = PROC,
        look_seconds: float = 0.0,
        root: ProcessProbe | None = None,
    ) -> None:
        self._given_pid = pid
        self._proc = proc
        self._look_seconds = look_seconds
        self._root = root or ProcessProbe(pid, proc=proc)
        self._owner = os.getpid()
        self._descendants = Descendants(self._root.pid, proc=proc, look_seconds=look_seconds)
        self._members: dict[int, ProcessProbe] = {}
        self._last_alone: TreeMemory | None = None

    def read(self) -> TreeMemory:
        """All processes of the tree now, the root first. Raises ProbeError only when the root itself has gone."""
        if self._given_pid is None and self._owner != os.getpid():
            self._start_over()
        root = self._root.read()
        pids = self._descendants.pids()
        if not pids and not self._members:
            return self._alone(root)
        self._follow(pids)
        processes = [root]
        for number, (pid, probe) in enumerate(list(self._members.items())):
            try:
                processes.append(probe.read())
                if number >= MOST_KEPT_FILES:
                    probe.close()
            except ProbeError:  # it ended between two looks: no news, and its children have a new parent now
                self._drop(pid)
                self._descendants.forget(pid)
        return TreeMemory(rss_bytes=sum(process.rss_bytes for process in processes), processes=tuple(processes))

    @property
    def is_alone(self) -> bool:
        """Whether the root has no descendants, by the last look or a new one that is due."""
        return not self._members and not self._descendants.pids()

    def rss_bytes(self) -> int:
        """The sum alone, over the processes that the last `read` found. Raises ProbeError when one of them has gone."""
        if not self._members:
            return self._root.rss_bytes()
        if len(self._members) > MOST_KEPT_FILES:
            return self.read().rss_bytes
        return self._root.rss_bytes() + sum(member.rss_bytes() for member in self._members.values())

    def close(self) -> None:
        self._root.close()
        self._descendants.close()
        for probe in self._members.values():
            probe.close()
        self._members.clear()

    def _alone(self, root: ProcessMemory) -> TreeMemory:
        """Most processes are, most of the time; the same value as long as nothing moves."""
        if self._last_alone is None or self._last_alone.processes[0] is not root:
            self._last_alone = TreeMemory(rss_bytes=root.rss_bytes, processes=(root,))
        return self._last_alone

    def _follow(self, pids: frozenset[int]) -> None:
        for pid in self._members.keys() - pids:
            self._drop(pid)
        for pid in sorted(pids - self._members.keys()):
            try:
                self._members[pid] = ProcessProbe(pid, proc=self._proc)
            except ProbeError:
                self._descendants.forget(pid)

    def _drop(self, pid: int) -> None:
        probe = self._members.pop(pid, None)
        if probe:
            probe.close()

    def _start_over(self) -> None:
        """In a forked child: its tree is another one than its parent's."""
        self.close()
        self._owner = os.getpid()
        self._descendants = Descendants(self._root.pid, proc=self._proc, look_seconds=self._look_seconds)
