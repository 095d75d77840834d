"""Which processes descend from one: by /proc/<pid>/task/*/children where the kernel has it, else by parent pids.

Looking is needed only when a process may have come or gone. A new one shows in the last field of /proc/loadavg, the pid
handed out most recently; one that went shows when its memory is read, and the caller says so by `forget`. The calling
process itself is first asked whether it has a child at all.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from amm_exporter.errors import ProbeError
from amm_exporter.probes.portable import PortableProcess
from amm_exporter.probes.procfs import PROC, KeptFile, parse_stat


class Descendants:
    """The descendants of one process, without itself."""

    def __init__(
        self,
        root: int,
        *,
        proc: Path = PROC,
        look_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._look_seconds = look_seconds
        self._clock = clock
        self._next_look = float("-inf")
        self._proc = proc
        self._loadavg = KeptFile(proc / "loadavg")
        self._by_children = (proc / str(root) / "task" / str(root) / "children").exists()
        self._found: frozenset[int] = frozenset()
        self._parents: dict[int, int] = {}
        self._looked_at = -1
        self._portable = PortableProcess(root) if proc == PROC and not sys.platform.startswith("linux") else None
        # The /proc of another pid namespace (a host's, mounted here) does not go with the loadavg of ours
        self._same_namespace = own_namespace(proc)
        self._may_ask = proc == PROC and self._same_namespace and hasattr(os, "waitid")

    def pids(self) -> frozenset[int]:
        if self._portable:
            return self._portable.descendants()
        now = self._clock()
        if now < self._next_look:
            return self._found
        self._next_look = now + self._look_seconds
        if self._may_ask and self._root == os.getpid() and has_no_children():
            self._found, self._looked_at = frozenset(), -1
            return self._found
        newest = self._newest_pid()
        if newest is None or newest != self._looked_at:
            self._found = self._by_walk() if self._by_children else self._by_parents(newest)
            self._looked_at = -1 if newest is None else newest
        return self._found

    def forget(self, pid: int) -> None:
        """This one has ended: look anew at the next call, since its children were given another parent."""
        self._found -= {pid}
        self._parents.pop(pid, None)
        self._looked_at, self._next_look = -1, float("-inf")

    def close(self) -> None:
        self._loadavg.close()

    def _newest_pid(self) -> int | None:
        """The pid given out last, or None where that is not known."""
        if not self._same_namespace:
            return None
        try:
            return int(self._loadavg.read(128).split()[4])
        except (ProbeError, ValueError, IndexError):
            return None

    def _by_walk(self) -> frozenset[int]:
        found: set[int] = set()
        todo = [self._root]
        while todo:
            fresh = set(children_of(f"{self._proc}/{todo.pop()}")) - found
            found |= fresh
            todo += fresh
        return frozenset(pid for pid in found - {self._root} if parent_of(self._proc / str(pid)))

    def _by_parents(self, newest: int | None) -> frozenset[int]:
        """Parent pids are read of new processes and of those in the tree only: a stranger never becomes a descendant.

        Pids are given out upwards, so one used twice lies above the last look; below it, what was seen still stands.
        After a wrap-around everything is read again.
        """
        listed = {int(name) for name in os.listdir(self._proc) if name.isdigit()}
        seen_up_to = self._looked_at if newest is not None and self._looked_at <= newest else -1
        parents = {}
        for pid in listed:
            if pid <= seen_up_to and pid in self._parents and pid not in self._found:
                parents[pid] = self._parents[pid]
            else:
                parents[pid] = parent_of(self._proc / str(pid))
        self._parents = parents
        return descendants_of(self._root, parents)


def has_no_children() -> bool:
    """Whether the calling process has none, running or waiting to be reaped: 6 us, where a walk takes up to 100.

    waitid(2) says so by ECHILD, even where SIGCHLD is ignored; WNOWAIT leaves one that ended to whoever waits for it.
    """
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    except OSError:
        return False
    return False


def own_namespace(proc: Path) -> bool:
    try:
        return os.readlink(proc / "self") == str(os.getpid())
    except OSError:
        return False


def parent_of(directory: Path) -> int:
    """The parent pid; 0, which is nobody's, when the process has just gone or waits as a zombie to be reaped."""
    path = directory / "stat"
    try:
        stat = parse_stat(path, path.read_bytes())
    except OSError:  # ProbeError for garbage is one too
        return 0
    return 0 if stat.state in "ZX" else stat.parent_pid


def children_of(directory: str) -> list[int]:
    """Children of all threads; none when the process has just gone. Without pathlib and buffers: half the cost."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"{directory}/task"):
            found += map(int, _whole(f"{directory}/task/{thread}/children").split())
    except (OSError, ValueError):
        return found
    return found


def _whole(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        parts = [os.read(fd, 4096)]
        while parts[-1]:
            parts.append(os.read(fd, 4096))
    finally:
        os.close(fd)
    return b"".join(parts)


def descendants_of(root: int, parents: dict[int, int]) -> frozenset[int]:
    """All pids whose line of parents leads to the root."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    todo = [root]
    while todo:
        fresh = [pid for pid in children.get(todo.pop(), ()) if pid not in found]
        found.update(fresh)
        todo += fresh
    return frozenset(found - {root})
