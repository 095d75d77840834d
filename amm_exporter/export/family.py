"""The family of processes behind one address: who lives, what each shows, what the dead leave. A directory on disk.

One private directory for each address and user. In it, for each process, a datagram socket (a process lives as long as
sending to it is not refused: the kernel's own word, no pid to be mistaken) and its last snapshot; and the book, where
the sums of the dead are kept, so that they survive whoever serves. A file lock orders those who write the book.

Where the directory is and how it is locked is family_directory.py's, what the files say is snapshot.py's, what is shown
of it group.py's; who serves is decided in node.py.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from amm_exporter.export.exposition import Family
from amm_exporter.export.family_directory import FamilyError, is_alive, locked, remove, sweep
from amm_exporter.export.group import Worker, add_to, together
from amm_exporter.export.snapshot import Book, Snapshot, dump_book, dump_snapshot, load_book, load_snapshot

log = logging.getLogger("amm.export")

ANSWER_SECONDS = 0.2
"""How long a scrape waits for the snapshots of the others; then it shows their last ones."""
ASK = b"publish"


class FamilyMember:
    """This process among those that share an address. `join` to be seen, `leave` to hand one's counters over.

    Not safe for threads: node.py calls it under its lock.
    """

    def __init__(
        self,
        directory: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._clock, self._wall_clock = clock, wall_clock
        self.name = f"{os.getpid()}-{os.urandom(4).hex()}"
        self.socket: socket.socket | None = None
        self.published_at = float("-inf")
        self._snapshot = -1

    def join(self) -> None:
        """Appear in the directory. The first one there clears away what an earlier family left."""
        with locked(self._directory, self._clock):
            if not self._live_others():
                self._clear()
                sweep(self._directory)
            self._bind()

    def appear(self) -> None:
        """Join beside a parent that is there, and keep the snapshot open: for a child that may soon give up its user.

        Afterwards it cannot enter the directory any more, but can still be asked, and write to what it has open.
        """
        self._bind()
        self._keep_open()

    def _bind(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            sock.bind(str(self._path(self.name, "sock")))
        except OSError as error:
            sock.close()
            raise FamilyError(f"cannot join the processes at {self._directory}: {error}") from error
        sock.setblocking(False)
        self.socket = sock

    def _keep_open(self) -> None:
        self._let_go()
        with suppress(OSError):
            path = self._path(self.name, "snap")
            self._snapshot = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _let_go(self) -> None:
        if self._snapshot >= 0:
            os.close(self._snapshot)
            self._snapshot = -1

    def leave(self, families: Iterable[Family]) -> None:
        """Add this process's counters to the sums of the dead and vanish; the last one takes the directory along."""
        families = list(families)
        if self._is_shut_out():
            self.publish(families)  # whoever may enter will bury what it says
            self.abandon()
            return
        self.abandon()
        with locked(self._directory, self._clock):
            if not self._live_others():
                remove(self._directory)
                return
            book = self._read_book()
            self._fold(book, {self.name: Snapshot(unix_seconds=self._wall_clock(), families=tuple(families))})

    def abandon(self) -> None:
        """Close the descriptor alone: in a forked child it is a copy, and the parent goes on."""
        sock, self.socket = self.socket, None
        if sock is not None:
            sock.close()
        self._let_go()

    def _is_shut_out(self) -> bool:
        """Whether this process has given up the user that the directory belongs to."""
        return self._snapshot >= 0 and not os.access(self._directory, os.W_OK | os.X_OK)

    def has_company(self) -> bool:
        """Whether others have been seen: then snapshots are worth their cost."""
        return self._is_shut_out() or bool(self._others()) or self._has_book()

    def publish(self, families: Iterable[Family]) -> None:
        """Leave a snapshot for whoever scrapes next; it replaces the last one as a whole."""
        snapshot = Snapshot(unix_seconds=self._wall_clock(), families=tuple(families))
        if self._is_shut_out():
            self._overwrite(dump_snapshot(snapshot))
        else:
            self._replace(self._path(self.name, "snap"), dump_snapshot(snapshot))
            if self._snapshot >= 0:
                self._keep_open()
        self.published_at = self._clock()

    def answer(self, publish: Callable[[], None]) -> None:
        """Read what has been asked; publish once for all of it, and tell those who asked."""
        askers = list(self._askers())
        if askers and self.socket is not None:
            publish()
            for asker in askers:
                with suppress(OSError):  # it may not wait any more
                    self.socket.sendto(self.name.encode(), asker)

    def ask_others(self) -> None:
        """Have the others publish, without waiting: their sums shall outlive them from now on."""
        self._ask(self._others(), 0.0)

    def gather(self, own: list[Family]) -> list[Family] | None:
        """The families of the whole group, fresh ones of whoever answers in time; None when this process is alone."""
        others = self._others()
        if not others and not self._has_book():
            return None
        young = {name for name in others if self._is_young(name)}
        dead = self._ask([name for name in others if name not in young], ANSWER_SECONDS)
        dead |= {name for name in young if not is_alive(self._path(name, "sock"))}
        with locked(self._directory, self._clock):
            self.publish(own)  # before it is shown: a sum must not fall when this process dies
            book = self._bury(dead)
            workers = [self._worker(os.getpid(), own), *self._live_workers(dead)]
            if len(workers) > 1 and not book.labelled:
                book.labelled = True
                self._write_book(book)
        return together(workers, book.totals, book.exited_count, labelled=book.labelled)

    def tidy(self) -> None:
        """Bury the dead although nobody scrapes."""
        dead = [name for name in self._others() if not is_alive(self._path(name, "sock"))]
        if dead:
            with locked(self._directory, self._clock):
                self._bury(dead)

    # -- the others

    def _others(self) -> list[str]:
        try:
            names = [entry.removesuffix(".sock") for entry in os.listdir(self._directory) if entry.endswith(".sock")]
        except OSError:  # not there yet, or not this user's any more
            return []
        return sorted(name for name in names if name != self.name)

    def _live_others(self) -> list[str]:
        return [name for name in self._others() if is_alive(self._path(name, "sock"))]

    def _is_young(self, name: str) -> bool:
        """Whether it is a child that appeared a moment ago: it neither answers yet nor has anything to show."""
        try:
            return self._path(name, "snap").stat().st_size == 0
        except OSError:
            return False

    def _askers(self) -> Iterator[str]:
        while self.socket is not None:
            try:
                message, asker = self.socket.recvfrom(64)
            except BlockingIOError:
                return
            if message == ASK:
                yield asker

    def _ask(self, names: list[str], wait_seconds: float) -> set[str]:
        """Ask each to publish, wait for their answers, return who is dead."""
        if not names:
            return set()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind("")  # an address that is no file: Linux picks one and forgets it (unix(7), autobind)
            sock.setblocking(False)
            dead = {name for name in names if not self._reaches(sock, name)}
            waiting = set(names) - dead
            deadline = self._clock() + wait_seconds
            while waiting and (left := deadline - self._clock()) > 0:
                sock.settimeout(left)
                try:
                    waiting.discard(sock.recv(128).decode("ascii", "replace"))
                except TimeoutError:
                    break
        return dead

    def _reaches(self, sock: socket.socket, name: str) -> bool:
        try:
            sock.sendto(ASK, str(self._path(name, "sock")))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # its queue is full: it lives, and is busy
        return True

    def _live_workers(self, dead: set[str]) -> Iterator[Worker]:
        for name in self._others():
            if name in dead or self._is_young(name):
                continue
            snapshot = self._read_snapshot(name)
            pid = int(name.partition("-")[0])
            if snapshot is None:
                yield self._worker(pid, ())
            else:
                yield self._worker(pid, snapshot.families, max(0.0, self._wall_clock() - snapshot.unix_seconds))

    def _worker(self, pid: int, families: Iterable[Family], age_seconds: float = 0.0) -> Worker:
        return Worker(pid=pid, families=tuple(families), age_seconds=age_seconds, rss_bytes=resident_bytes(pid))

    # -- the dead

    def _bury(self, dead: Iterable[str]) -> Book:
        """Fold the dead into the book, under the lock; returns the book."""
        book = self._read_book()
        for name in book.folded:  # whoever folded these may have died before it removed their files
            self._remove(name)
        gone = {name: self._read_snapshot(name) for name in dead if self._path(name, "sock").exists()}
        fresh = {name: snapshot for name, snapshot in gone.items() if name not in book.folded}
        if fresh:
            self._fold(book, fresh)
        return book

    def _fold(self, book: Book, gone: Mapping[str, Snapshot | None]) -> None:
        # Written as a whole with the names that are in it: a crash before their files are gone folds nobody twice.
        for snapshot in gone.values():
            add_to(book.totals, snapshot.families if snapshot else ())
        book.exited_count += len(gone)
        book.folded = list(gone)
        self._write_book(book)
        for name in gone:
            self._remove(name)

    def _remove(self, name: str) -> None:
        for suffix in ("sock", "snap", "tmp"):
            self._path(name, suffix).unlink(missing_ok=True)

    def _clear(self) -> None:
        for entry in self._directory.iterdir():
            if entry.name != "lock":
                entry.unlink(missing_ok=True)

    # -- files

    def _path(self, name: str, suffix: str = "") -> Path:
        return self._directory / (f"{name}.{suffix}" if suffix else name)

    def _read_snapshot(self, name: str) -> Snapshot | None:
        try:
            data = self._path(name, "snap").read_bytes()
            return load_snapshot(data) if data else None  # empty: it had appeared, and not published
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("the snapshot of process %s cannot be read: %s", name, error)
            return None

    def _read_book(self) -> Book:
        try:
            return load_book(self._path("book").read_bytes())
        except FileNotFoundError:
            return Book()
        except (OSError, ValueError) as error:
            log.warning("sums of ended processes begin anew: %s", error)
            return Book()

    def _write_book(self, book: Book) -> None:
        self._replace(self._path("book"), dump_book(book))

    def _has_book(self) -> bool:
        try:
            return self._path("book").exists()
        except OSError:
            return False

    def _overwrite(self, data: bytes) -> None:
        # Not as a whole, like a replaced file; but who asks reads only when it is told that this is done.
        try:
            os.pwrite(self._snapshot, data, 0)
            os.ftruncate(self._snapshot, len(data))
        except OSError as error:
            raise FamilyError(f"cannot write the snapshot: {error}") from error

    def _replace(self, path: Path, data: bytes) -> None:
        partial = self._path(self.name if path.name != "book" else "book", "tmp")
        try:
            partial.write_bytes(data)
            partial.replace(path)
        except OSError as error:
            raise FamilyError(f"cannot write to {self._directory}: {error}") from error


def resident_bytes(pid: int) -> int | None:
    """The resident set of any process of this machine now (proc_pid_statm(5)), None where it cannot be read."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None
