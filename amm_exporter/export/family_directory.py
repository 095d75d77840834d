"""The directory in which processes that share an address find each other: private, locked, and gone with the last.

Its place is XDG_RUNTIME_DIR where there is one, else the directory for temporary files; only its user can enter it.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from amm_exporter.control.private_directory import make_private, private_bases
from amm_exporter.errors import AMMError
from amm_exporter.probes.procfs import PROC

LOCK_SECONDS = 1.0
LOCK_RETRY_SECONDS = 0.002
LOCK_NAME = "lock"
_NAME = re.compile(r".+-\d+")
"""Of a family's directory. Others lie beside them: evidence."""
MAX_SOCKET_PATH_BYTES = 107  # unix(7): sun_path is 108 bytes with its end


class FamilyError(AMMError):
    """The family's directory cannot be used; the process shows only itself."""


def family_directory(host: str, port: int, environ: Mapping[str, str] = os.environ, *, proc: Path = PROC) -> Path:
    """The directory for an address, inside one that only this user can enter. Raises FamilyError where none is safe.

    Containers may share the directory for temporary files: what has other pids or other ports is no sibling.
    """
    name = "".join(char if char.isalnum() else "_" for char in host) or "any"
    address = f"{name}-{port}{_namespaces(proc)}"
    problems = []
    for base in private_bases(environ):
        path = base / address
        if len(os.fsencode(path)) + len("/4194304-01234567.sock") > MAX_SOCKET_PATH_BYTES:
            problems.append(f"{base} is too long a path")
            continue
        try:
            make_private(base)
            path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            problems.append(str(error))
        else:
            return path
    raise FamilyError("processes that share a port cannot find each other: " + "; ".join(problems))


def _namespaces(proc: Path) -> str:
    """A number for the namespaces of pids and of the network, together (namespaces(7)); short, as paths must be."""
    try:
        inodes = [(proc / "self" / "ns" / kind).stat().st_ino for kind in ("pid", "net")]
    except OSError:  # no /proc here
        return ""
    return f"-{zlib.crc32(repr(inodes).encode()) % 100_000}"


@contextmanager
def locked(directory: Path, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """Hold a directory's lock; the directory is made if need be. FamilyError rather than wait for a stopped holder."""
    descriptor = _lock(directory, clock)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child forked meanwhile shares the lock: closing would not do
        os.close(descriptor)


def _lock(directory: Path, clock: Callable[[], float]) -> int:
    deadline = clock() + LOCK_SECONDS
    while True:
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            descriptor = _try_lock(directory / LOCK_NAME)
        except OSError as error:
            raise FamilyError(f"cannot lock {directory}: {error}") from error
        if descriptor is not None:
            return descriptor
        if clock() >= deadline:
            raise FamilyError(f"the lock of {directory} is held for more than {LOCK_SECONDS:.0f} s")
        time.sleep(LOCK_RETRY_SECONDS)


def _try_lock(path: Path) -> int | None:
    """The locked descriptor, or None: held by another, or the last of the family has just removed the file."""
    descriptor = -1
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    if descriptor >= 0:
        os.close(descriptor)
    return None


def is_alive(path: Path) -> bool:
    """Whether a process still holds the socket at `path`: connecting to a dead one is refused, and wakes nobody."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


def remove(directory: Path) -> None:
    """Take away a directory whose lock is held, the lock last."""
    with suppress(OSError):
        for entry in directory.iterdir():
            if entry.name != LOCK_NAME:
                entry.unlink(missing_ok=True)
        (directory / LOCK_NAME).unlink(missing_ok=True)
        directory.rmdir()


def sweep(directory: Path) -> None:
    """Take away the directories beside this one whose processes were all killed: nobody else would."""
    for other in directory.parent.iterdir():
        if other == directory or any(map(is_alive, other.glob("*.sock"))):
            continue
        if not (other / LOCK_NAME).exists():
            if _NAME.fullmatch(other.name):
                with suppress(OSError):
                    other.rmdir()  # killed before it had the lock; who is about to have it makes it again
            continue
        with suppress(FamilyError, OSError), locked(other):
            if not any(map(is_alive, other.glob("*.sock"))):
                remove(other)
