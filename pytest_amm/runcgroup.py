"""The peak of the run's own cgroup: what all processes of the run had at one time, with nothing between two looks lost.

It counts only while every process in the cgroup belongs to the run, as in a container that runs nothing but the tests
or under `systemd-run --scope`. Read-only: others may read the same peak. Standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any, NamedTuple

_FILES = {1: ("memory.max_usage_in_bytes", "memory.usage_in_bytes"), 2: ("memory.peak", "memory.current")}
_CHECK_SECONDS = 1.0


class CgroupLook(NamedTuple):
    """`above_bytes` is how much more than now the cgroup had at its peak; `risen`: and that was since the last look."""

    above_bytes: int
    risen: bool


class RunCgroup:
    """`look` as often as the tree is looked at; None once the cgroup is shared with somebody else."""

    def __init__(self, settings: dict[str, Any] | None, root: int, *, proc: str = "/proc") -> None:
        self._root = root
        self._proc = proc
        self._fds: list[int] = []
        self._peak_bytes = 0
        self._checked = 0.0
        self.rose = False
        """Whether the peak of the cgroup is one of this run and not of what ran in it before."""
        if settings is not None:
            self._directory = settings["directory"]
            peak, usage = _FILES[settings["version"]]
            try:
                for name in (peak, usage, "cgroup.procs"):
                    self._fds.append(os.open(os.path.join(self._directory, name), os.O_RDONLY | os.O_CLOEXEC))
                self._peak_bytes = self._read(0)
            except (OSError, ValueError):  # no such file on this kernel, or on a cgroup that is the root
                self._leave()

    def look(self, now: float, pids: Collection[int]) -> CgroupLook | None:
        """`pids` are the processes of the run; this process and the parents of the run are with it."""
        if not self._fds:
            return None
        try:
            peak_bytes, usage_bytes = self._read(0), self._read(1)
            risen = peak_bytes > self._peak_bytes
            if (risen or now - self._checked > _CHECK_SECONDS) and not self._own(now, pids):
                self._leave()
                return None
        except (OSError, ValueError):
            self._leave()
            return None
        self._peak_bytes = peak_bytes
        self.rose |= risen
        return CgroupLook(max(0, peak_bytes - usage_bytes), risen)

    def _own(self, now: float, pids: Collection[int]) -> bool:
        self._checked = now
        inside = set(map(int, os.pread(self._fds[2], 1 << 16, 0).split()))
        others = inside.difference(pids, (os.getpid(),))  # 0 is one that this pid namespace does not show
        with os.scandir(self._directory) as entries:
            nested = any(entry.is_dir() for entry in entries)
        return self._root in inside and not nested and (not others or others <= self._above(self._root))

    def _above(self, pid: int) -> set[int]:
        """The parents of the run: the shell or the init of a container that waits for it."""
        found: set[int] = set()
        while pid > 1:
            with open(f"{self._proc}/{pid}/stat", "rb") as file:
                pid = int(file.read().rpartition(b")")[2].split()[1])
            found.add(pid)
        return found

    def _leave(self) -> None:
        self.rose = False
        for fd in self._fds:
            os.close(fd)
        self._fds = []

    def _read(self, which: int) -> int:
        return int(os.pread(self._fds[which], 64, 0))
