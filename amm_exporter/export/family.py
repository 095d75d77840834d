"""The family of processes behind one address: who lives, what each shows, what the dead leave.

Each process has a datagram socket in the family's directory: it lives as long as sending to it is not refused, the
kernel's own word, no pid to be mistaken. Beside it lies its last snapshot, and the book, where the sums of the dead are
kept, so that they survive whoever serves. A file lock orders those who write the book.

Where the directory is and how it is locked is family_directory.py's, its files are family_files.py's, what is shown of
them group.py's; who serves is decided in node.py.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from amm_exporter.export.complaints import Complaints
from amm_exporter.export.descriptors import is_still, let_go
from amm_exporter.export.exposition import Family
from amm_exporter.export.family_directory import FamilyError, is_alive, locked, remove, sweep
from amm_exporter.export.family_files import FamilyFiles
from amm_exporter.export.group import Worker, add_to, together
from amm_exporter.export.snapshot import Book, Snapshot
from amm_exporter.probes.procfs import identity
from amm_exporter.probes.resident import resident_bytes

ANSWER_SECONDS = 0.2
"""How long a scrape waits for the snapshots of the others; then it shows their last ones."""
ASK = b"publish"
SUMS_AT_RISK = "sums may fall when this process ends"
"""Where a disk is full, what can be read is shown all the same: the sums stand as long as nobody dies."""


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
        self._identity = (0, 0)
        self._complaints = Complaints()
        self.published_at = float("-inf")
        self._files = FamilyFiles(directory, self.name)

    def join(self) -> None:
        """Appear in the directory. The first one there clears away what an earlier family left."""
        with locked(self._directory, self._clock):
            if not self._live_others():
                self._files.clear()
                sweep(self._directory)
            self._bind()

    def appear(self) -> None:
        """Join beside a parent that is there, and keep the snapshot open: for a child that may soon give up its user.

        Afterwards it cannot enter the directory any more, but can still be asked, and write to what it has open.
        """
        self._bind()
        self._files.keep_open()

    def _bind(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            sock.bind(str(self._files.socket(self.name)))
        except OSError as error:
            sock.close()
            raise FamilyError(f"cannot join the processes at {self._directory}: {error}") from error
        sock.setblocking(False)
        self.socket, self._identity = sock, identity(sock.fileno())

    def leave(self, families: Iterable[Family]) -> None:
        """Add this process's counters to the sums of the dead and vanish; the last one takes the directory along."""
        families = list(families)
        if self._files.is_shut_out():
            self.publish(families)  # whoever may enter will bury what it says
            self.abandon()
            return
        try:
            with locked(self._directory, self._clock):
                self.abandon()  # not before: a scrape would take it for dead, and its snapshot would count beside this
                self._bequeath(families)
        finally:
            self.abandon()  # also where the lock cannot be had

    def _bequeath(self, families: list[Family]) -> None:
        if self._live_others():
            last = Snapshot(unix_seconds=self._wall_clock(), families=tuple(families))
            self._fold(self._files.read_book(), {self.name: last})
        else:
            remove(self._directory)

    def abandon(self) -> None:
        """Close the descriptor alone: in a forked child it is a copy, and the parent goes on."""
        sock, self.socket = self.socket, None
        if sock is not None:
            let_go(sock, is_still(sock.fileno(), self._identity))
        self._files.let_go()

    def vanish(self) -> None:
        """Leave nothing, not even counts: who was cut off from its socket comes again under another name."""
        self.abandon()
        with locked(self._directory, self._clock):
            self._files.remove(self.name)

    def has_company(self) -> bool:
        """Whether others have been seen: then snapshots are worth their cost."""
        return self._files.is_shut_out() or bool(self._others()) or self._files.has_book()

    def publish(self, families: Iterable[Family]) -> None:
        """Leave a snapshot for whoever scrapes next; it replaces the last one as a whole."""
        self._files.write_snapshot(Snapshot(unix_seconds=self._wall_clock(), families=tuple(families)))
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
        if not others and not self._files.has_book():
            return None
        young = {name for name in others if self._files.is_young(name)}
        dead = self._ask([name for name in others if name not in young], ANSWER_SECONDS)
        dead |= {name for name in young if not is_alive(self._files.socket(name))}
        with locked(self._directory, self._clock):
            with self._complaints.once(SUMS_AT_RISK):
                self.publish(own)  # before it is shown: a sum must not fall when this process dies
            book = self._bury(dead)
            workers = [self._worker(os.getpid(), own), *self._live_workers(dead)]
            if len(workers) > 1 and not book.labelled:
                book.labelled = True
                with self._complaints.once(SUMS_AT_RISK):
                    self._files.write_book(book)
        return together(workers, book.totals, book.exited_count, labelled=book.labelled)

    def tidy(self) -> None:
        """Bury the dead although nobody scrapes."""
        dead = [name for name in self._others() if not is_alive(self._files.socket(name))]
        if dead:
            with locked(self._directory, self._clock):
                self._bury(dead)

    # -- the others

    def _others(self) -> list[str]:
        return [name for name in self._files.names() if name != self.name]

    def _live_others(self) -> list[str]:
        return [name for name in self._others() if is_alive(self._files.socket(name))]

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
            sock.sendto(ASK, str(self._files.socket(name)))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # its queue is full: it lives, and is busy
        return True

    def _live_workers(self, dead: set[str]) -> Iterator[Worker]:
        for name in self._others():
            if name in dead or self._files.is_young(name):
                continue
            snapshot = self._files.read_snapshot(name)
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
        book = self._files.read_book()
        for name in book.folded:  # whoever folded these may have died before it removed their files
            self._files.remove(name)
        gone = {name: self._files.read_snapshot(name) for name in dead if self._files.socket(name).exists()}
        fresh = {name: snapshot for name, snapshot in gone.items() if name not in book.folded}
        if fresh:
            with self._complaints.once(SUMS_AT_RISK):
                self._fold(book, fresh)
        return book

    def _fold(self, book: Book, gone: Mapping[str, Snapshot | None]) -> None:
        # Written as a whole with the names that are in it: a crash before their files are gone folds nobody twice.
        for snapshot in gone.values():
            add_to(book.totals, snapshot.families if snapshot else ())
        book.exited_count += len(gone)
        book.folded = list(gone)
        self._files.write_book(book)
        for name in gone:
            self._files.remove(name)
