"""Kernel files that are read again and again: opened once, read by pread, and the few shapes their text has.

Reading a kept file costs an eighth of opening it each time (benchmarks/probes.py). What the numbers mean is known by
the probes; this file knows files only.
"""

from __future__ import annotations

import errno
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from amm_exporter.errors import ProbeError
from amm_exporter.units import KIB

if sys.platform != "win32":
    import fcntl

PROC = Path("/proc")
_OUT_OF_THE_WAY = 500
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class KeptFile:
    """One open file of /proc or a cgroup.

    `own=True` is for paths under /proc/self, which the kernel resolves when they are opened: in a forked child the
    kept descriptor would go on telling about the parent, so it is opened anew there. Any failure closes the file; the
    next read opens it again.
    """

    __slots__ = ("_fd", "_flags", "_identity", "_own", "_pid", "path")

    def __init__(self, path: Path, *, own: bool = False, flags: int = os.O_RDONLY) -> None:
        self.path = path
        self._own = own
        self._flags = flags | getattr(os, "O_CLOEXEC", 0)
        self._fd = -1
        self._pid = 0
        self._identity: tuple[int, int] | None = None

    @property
    def pid(self) -> int:
        """The process that opened the file."""
        return self._pid

    @property
    def is_open(self) -> bool:
        return self._fd >= 0

    @property
    def is_lost(self) -> bool:
        """Whether the descriptor was closed by somebody else, and so may be that of another file."""
        try:
            return self._fd >= 0 and identity(self._fd) != self._identity
        except OSError:
            return True

    def fileno(self) -> int:
        """The descriptor, for who reads it at once. Raises ProbeError."""
        if self._fd < 0 or (self._own and self._pid != os.getpid()):
            self._open()
        return self._fd

    def read(self, size: int = 4096) -> bytes:
        """The first `size` bytes as they are now. Raises ProbeError."""
        if self._fd < 0 or (self._own and self._pid != os.getpid()):
            self._open()
        try:
            return os.pread(self._fd, size, 0)
        except OSError as error:
            self.close()
            raise unreadable(self.path, error) from error

    def write(self, data: bytes) -> None:
        if self._fd < 0 or (self._own and self._pid != os.getpid()):
            self._open()
        try:
            os.pwrite(self._fd, data, 0)
        except OSError as error:
            self.close()
            raise unreadable(self.path, error) from error

    def close(self) -> None:
        """Close the descriptor if it is still ours: a daemon may have closed it and its number gone to another file."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            if identity(fd) == self._identity:
                os.close(fd)
        except OSError:
            return  # closed already: what was wanted

    def _open(self) -> None:
        self.close()
        try:
            fd = os.open(self.path, self._flags)
            if self._flags & os.O_WRONLY:
                fd = out_of_the_way(fd)
            found = identity(fd)
        except OSError as error:
            raise unreadable(self.path, error) from error
        if self.is_open:  # another thread was quicker: keep its descriptor, not both
            os.close(fd)
            return
        self._identity = found
        self._pid = os.getpid()
        self._fd = fd

    def __del__(self) -> None:
        self.close()


def identity(fd: int) -> tuple[int, int]:
    """What tells this open file from another one under the same number."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def out_of_the_way(fd: int) -> int:
    """The same open file under a number that no other file gets by chance, as open() gives the lowest that is free:
    where somebody has closed it, what is written to it fails, and does not land in a file of theirs."""
    try:
        high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY)
    except OSError:  # so many are not allowed here (RLIMIT_NOFILE)
        return fd
    os.close(fd)
    return high


def read_once(path: Path) -> bytes:
    """The whole of a small file. Raises ProbeError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> ProbeError:
    """A ProbeError that says which file, and why, in words."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in (errno.EACCES, errno.EPERM):
        reason += " (it belongs to another user, or the container forbids it)"
    return ProbeError(f"cannot read {path}: {reason}")


def unexpected(path: Path, raw: bytes) -> ProbeError:
    """A ProbeError for content that is not what the kernel writes there."""
    return ProbeError(f"cannot read {path}: unexpected content {raw[:60]!r}")


def kib_field(raw: bytes, label: bytes) -> int | None:
    """Bytes of a line such as `VmHWM:	    1768 kB`; None where there is no such line. `label` ends with the colon."""
    start = raw.find(label)
    while start > 0 and raw[start - 1] != 10:  # in the middle of a line: another field that ends the same way
        start = raw.find(label, start + 1)
    if start < 0:
        return None
    words = raw[start + len(label) : raw.find(b"\n", start) % (len(raw) + 1)].split()
    kib = digits(words[0]) if words else None
    return None if kib is None else kib * KIB


def keyed_number(raw: bytes, key: bytes) -> int | None:
    """The number of a line `key 123`, as in memory.stat and memory.events; None where there is no such line."""
    start = raw.find(key + b" ")
    while start > 0 and raw[start - 1] != 10:
        start = raw.find(key + b" ", start + 1)
    if start < 0:
        return None
    return digits(raw[start + len(key) + 1 : raw.find(b"\n", start) % (len(raw) + 1)].strip())


def digits(word: bytes) -> int | None:
    """A number of up to 20 digits, as 64 bits can hold; anything else is none."""
    return int(word) if word.isdigit() and len(word) <= 20 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """The fields of /proc/<pid>/stat that probes use (proc_pid_stat(5))."""

    state: str
    parent_pid: int
    minor_faults: int
    major_faults: int
    start_ticks: int


def parse_stat(path: Path, raw: bytes) -> Stat:
    """Fields are counted from the last parenthesis: a command name may hold spaces and parentheses itself."""
    fields = raw.rpartition(b")")[2].split()
    try:
        return Stat(
            state=fields[0].decode("ascii"),
            parent_pid=int(fields[1]),
            minor_faults=int(fields[7]),
            major_faults=int(fields[9]),
            start_ticks=int(fields[19]),
        )
    except (ValueError, IndexError):
        raise unexpected(path, raw) from None
