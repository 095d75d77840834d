"""The files in a family's directory: of each process its socket and last snapshot, and the book of those that ended.

What they say is snapshot.py's. The book is read and written only while the directory's lock is held.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

from amm_exporter.export.descriptors import is_still
from amm_exporter.export.family_directory import LOCK_NAME, FamilyError
from amm_exporter.export.snapshot import Book, Snapshot, dump_book, dump_snapshot, load_book, load_snapshot
from amm_exporter.probes.procfs import identity

log = logging.getLogger("amm.export")


class FamilyFiles:
    """Reads what all have left, writes for one process, `own`. Writing raises FamilyError, reading never fails."""

    def __init__(self, directory: Path, own: str) -> None:
        self._directory = directory
        self._own = own
        self._snapshot = -1
        self._identity = (0, 0)

    def names(self) -> list[str]:
        """Who has appeared, dead or alive, in order."""
        try:
            return sorted(entry.removesuffix(".sock") for entry in os.listdir(self._directory) if _is_socket(entry))
        except OSError:  # not there yet, or not this user's any more
            return []

    def socket(self, name: str) -> Path:
        return self._path(name, "sock")

    def remove(self, name: str) -> None:
        for suffix in ("sock", "snap", "tmp"):
            self._path(name, suffix).unlink(missing_ok=True)

    def clear(self) -> None:
        for entry in self._directory.iterdir():
            if entry.name != LOCK_NAME:
                entry.unlink(missing_ok=True)

    # -- snapshots

    def keep_open(self) -> None:
        """Hold the own snapshot open, to be able to write it without the right to enter the directory."""
        self.let_go()
        with suppress(OSError):
            path = self._path(self._own, "snap")
            self._snapshot = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._identity = identity(self._snapshot)

    def let_go(self) -> None:
        if self._snapshot >= 0 and is_still(self._snapshot, self._identity):
            os.close(self._snapshot)
        self._snapshot = -1

    def is_shut_out(self) -> bool:
        """Whether this process has given up the user that the directory belongs to."""
        return self._snapshot >= 0 and not os.access(self._directory, os.W_OK | os.X_OK)

    def write_snapshot(self, snapshot: Snapshot) -> None:
        """Replaces the last one as a whole, where this process may still do that."""
        if self.is_shut_out():
            self._overwrite(dump_snapshot(snapshot))
            return
        self._replace(self._path(self._own, "snap"), self._path(self._own, "tmp"), dump_snapshot(snapshot))
        if self._snapshot >= 0:
            self.keep_open()

    def read_snapshot(self, name: str) -> Snapshot | None:
        try:
            data = self._path(name, "snap").read_bytes()
            return load_snapshot(data) if data else None  # empty: it had appeared, and not published
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("the snapshot of process %s cannot be read: %s", name, error)
            return None

    def is_young(self, name: str) -> bool:
        """Whether it is a child that appeared a moment ago: it neither answers yet nor has anything to show."""
        try:
            return self._path(name, "snap").stat().st_size == 0
        except OSError:
            return False

    # -- the book

    def has_book(self) -> bool:
        try:
            return self._book.exists()
        except OSError:
            return False

    def read_book(self) -> Book:
        try:
            return load_book(self._book.read_bytes())
        except FileNotFoundError:
            return Book()
        except (OSError, ValueError) as error:
            log.warning("sums of ended processes begin anew: %s", error)
            return Book()

    def write_book(self, book: Book) -> None:
        self._replace(self._book, self._path("book", "tmp"), dump_book(book))

    @property
    def _book(self) -> Path:
        return self._directory / "book"

    def _path(self, name: str, suffix: str) -> Path:
        return self._directory / f"{name}.{suffix}"

    def _overwrite(self, data: bytes) -> None:
        # Not as a whole, like a replaced file; but who asks reads only when it is told that this is done.
        if not is_still(self._snapshot, self._identity):
            raise FamilyError("cannot write the snapshot: the program has closed it")
        try:
            os.pwrite(self._snapshot, data, 0)
            os.ftruncate(self._snapshot, len(data))
        except OSError as error:
            raise FamilyError(f"cannot write the snapshot: {error}") from error

    def _replace(self, path: Path, partial: Path, data: bytes) -> None:
        try:
            partial.write_bytes(data)
            partial.replace(path)
        except OSError as error:
            raise FamilyError(f"cannot write to {self._directory}: {error}") from error


def _is_socket(entry: str) -> bool:
    return entry.endswith(".sock")
