"""The process tree as the watchdog sees it: who descends from the run, and how much memory each has. Linux only.

Standard library only, kept files and pread throughout. A process forked from the run without exec shares its parent's
pages: only what it has beyond them counts. One between vfork and exec has nothing of its own.
"""

from __future__ import annotations

import os

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

_BORROWED_PAGES = (1 << 20) // PAGE_BYTES
"""By how much a parent and the child that runs in its memory may differ: other threads go on between two readings. A
forked child has no file pages at first, which are several megabytes in any Python."""

_open = open
"""The real one: a fixture may replace that of `builtins` around a whole test, whose limits are set meanwhile."""


class Member:
    """One process of the tree."""

    __slots__ = (
        "_borrows",
        "_stack",
        "_statm",
        "_status",
        "foreign",
        "inherited_bytes",
        "mark_bytes",
        "parent",
        "pid",
        "reserved_bytes",
        "rss_bytes",
        "start",
    )

    def __init__(self, pid: int, parent: Member | None, *, foreign: bool = False) -> None:
        """`foreign`: it was started before the run, by whoever called pytest.main(), and so is all below it."""
        self.pid = pid
        self.parent = parent
        self.foreign: bool = foreign or (parent is not None and parent.foreign)
        self._statm = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._status = -1
        fields = stat_fields(pid)
        self.start = fields[19]
        self._stack = fields[25]
        self.rss_bytes = self.mark_bytes = self.reserved_bytes = 0
        self.inherited_bytes = 0
        self._borrows = False
        if parent is not None and fields[25] == stat_fields(parent.pid)[25] != b"0":  # startstack: changes with exec
            self._read()
            self._borrows = borrows(pid, parent.pid)
            self.inherited_bytes = min(self.rss_bytes, anonymous_bytes(parent.pid))

    def read(self) -> bool:
        """Read what is resident and what is reserved for data and stacks; False when the process has ended."""
        if not self._read():
            return False
        if self.inherited_bytes and self._has_exec():
            self.inherited_bytes = self.mark_bytes = 0
            self._borrows = False
            return self._read()  # what was read may have been what it shared
        if self._borrows and self.parent is not None:
            self._borrows = borrows(self.pid, self.parent.pid)  # a forked child may look so at first
        return True

    def _read(self) -> bool:
        try:
            words = os.pread(self._statm, 128, 0).split(None, 6)
        except OSError:
            return False
        if len(words) < 6 or words[0] == b"0":
            return False
        self.rss_bytes = int(words[1]) * PAGE_BYTES
        self.reserved_bytes = int(words[5]) * PAGE_BYTES
        return True

    def _has_exec(self) -> bool:
        """Seen between fork and exec it looked like a forked child; after exec nothing is shared any more."""
        try:
            return stat_fields(self.pid)[25] != self._stack
        except (OSError, IndexError):
            return False

    def counted_bytes(self) -> int:
        """What the process has of its own."""
        return 0 if self._borrows else max(0, self.rss_bytes - self.inherited_bytes)

    def interval_peak_bytes(self) -> int:
        """The most it had since the last look: its high-water mark if that has risen, else what it has."""
        if self._borrows:
            return 0
        mark_bytes = self._mark()
        risen = mark_bytes > self.mark_bytes
        self.mark_bytes = max(mark_bytes, self.mark_bytes)
        return max(0, (mark_bytes if risen else self.rss_bytes) - self.inherited_bytes)

    def most_bytes(self) -> int:
        """Its high-water mark as it stands: for the process that resets it, since that."""
        return 0 if self._borrows else max(0, max(self._mark(), self.rss_bytes) - self.inherited_bytes)

    def _mark(self) -> int:
        try:
            if self._status < 0:
                self._status = os.open(f"/proc/{self.pid}/status", os.O_RDONLY | os.O_CLOEXEC)
            return kib_line(os.pread(self._status, 4096, 0), b"VmHWM:")
        except OSError:
            return 0

    def close(self) -> None:
        os.close(self._statm)
        if self._status >= 0:
            os.close(self._status)


class Tree:
    """The root and its descendants. `refresh` costs a few microseconds while no process comes or goes."""

    def __init__(self, root: int, foreign: frozenset[int] = frozenset()) -> None:
        self._foreign = foreign
        self.members: dict[int, Member] = {root: Member(root, None)}
        self._root = root
        self._loadavg = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)
        self._newest = b""

    def refresh(self) -> bool:
        """Read everybody. False when the root has ended."""
        newest = os.pread(self._loadavg, 128, 0).rsplit(None, 1)[-1]  # the pid given out last
        gone = [pid for pid, member in self.members.items() if not member.read()]
        if self._root in gone:
            return False
        for pid in gone:
            self.members.pop(pid).close()
        if newest != self._newest or gone:
            self._newest = newest
            self._look()
        return True

    def below(self, pid: int, stops: frozenset[int]) -> list[Member]:
        """The descendants of one member, without those below another of `stops`."""
        found = []
        for member in self.members.values():
            above = member.parent
            if member.pid in stops:
                continue
            while above is not None and above.pid != pid and above.pid not in stops:
                above = above.parent
            if above is not None and above.pid == pid:
                found.append(member)
        return found

    def close(self) -> None:
        for member in self.members.values():
            member.close()
        os.close(self._loadavg)

    def _look(self) -> None:
        todo = [self._root]
        seen = {self._root, os.getpid()}  # who looks may be below it still, and is no part of the run
        while todo:
            pid = todo.pop()
            parent = self.members.get(pid)
            for child in children(pid):
                if child in seen:
                    continue
                seen.add(child)
                if child not in self.members:
                    try:
                        member = Member(child, parent, foreign=child in self._foreign)
                    except (OSError, IndexError):
                        continue
                    if not member.read():
                        member.close()
                        continue
                    self.members[child] = member
                todo.append(child)


def children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found += map(int, file.read().split())
    except OSError:
        return found
    return found


def borrows(pid: int, parent: int) -> bool:
    """Whether it runs in the memory of its parent, as between vfork and exec (subprocess, posix_spawn)."""
    try:
        (size, resident), (parent_size, parent_resident) = _sizes(pid), _sizes(parent)
    except (OSError, ValueError):
        return False
    return size == parent_size and abs(resident - parent_resident) < _BORROWED_PAGES


def _sizes(pid: int) -> tuple[int, int]:
    """Pages that are mapped, and resident ones (proc_pid_statm(5))."""
    with open(f"/proc/{pid}/statm", "rb") as file:
        size, resident, *_ = file.read().split()
    return int(size), int(resident)


def stat_fields(pid: int) -> list[bytes]:
    """Fields of /proc/<pid>/stat from the third on; the command before them may hold spaces and parentheses."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()


def command_name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return file.read().strip().decode("utf-8", "replace")
    except OSError:
        return "?"


def anonymous_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return kib_line(file.read(), b"RssAnon:")
    except OSError:
        return 0


def data_bytes(pid: int | str = "self") -> int:
    """What RLIMIT_DATA is held against: VmData (proc_pid_status(5))."""
    with _open(f"/proc/{pid}/status", "rb") as file:
        return kib_line(file.read(), b"VmData:")


def takes_signal(pid: int, number: int) -> bool:
    """Whether the process catches the signal and does not block it (proc_pid_status(5): SigBlk, SigCgt)."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            raw = file.read()
    except OSError:
        return False
    bit = 1 << (number - 1)
    return bool(_hex_line(raw, b"SigCgt:") & bit) and not _hex_line(raw, b"SigBlk:") & bit


def kib_line(raw: bytes, label: bytes) -> int:
    at = raw.find(b"\n" + label)
    if at < 0:
        return 0
    return int(raw[at + 1 + len(label) :].split(None, 1)[0]) * 1024


def _hex_line(raw: bytes, label: bytes) -> int:
    at = raw.find(b"\n" + label)
    return int(raw[at + 1 + len(label) :].split(None, 1)[0], 16) if at >= 0 else 0
