"""One process's part in serving an address: whoever has the port serves for all, the next one takes over when it dies.

A node has one thread (loop.py) and does four things on it: it serves HTTP if it has the port, tries for the port if it
has not, answers a sibling's scrape with a snapshot, and leaves one now and then for the case that it is killed, which
is family_upkeep.py's. In a forked child it begins anew, as a sibling of its parent.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from amm_exporter.errors import AMMError
from amm_exporter.export.complaints import Complaints
from amm_exporter.export.exposition import Family, negotiate, render
from amm_exporter.export.family import FamilyMember
from amm_exporter.export.family_directory import FamilyError, family_directory
from amm_exporter.export.family_upkeep import FamilyUpkeep
from amm_exporter.export.forks import hand_over_at_exit
from amm_exporter.export.group import Baseline, counts_anything, describes_a_process, is_inherited
from amm_exporter.export.loop import READ, Loop
from amm_exporter.export.scrape_gate import ScrapeGate
from amm_exporter.export.server import Handler, PortTakenError, Server

if TYPE_CHECKING:
    from amm_exporter.export.web_config import WebConfig

log = logging.getLogger("amm.export")

TAKEOVER_SECONDS = 1.0
"""How often a process without the port tries for it. A failed bind costs 20 us."""
JOIN_SECONDS = 0.2
"""How long a forked child lives before it is shown: a helper that runs for milliseconds leaves no trace of files."""
LOOK_SECONDS = 0.5
"""The longest a forked child waits for its first look at what it inherited: a callback may wait for ever."""


class Node:
    """Collects with `collect()`, shows the whole family.

    `inherit()` is called in a forked child, before anything else of the child runs; it returns the names of the metrics
    whose counts the child has inherited.
    """

    def __init__(
        self,
        host: str,
        port: int,
        collect: Callable[[], list[Family]],
        *,
        inherit: Callable[[], frozenset[str]] = frozenset,
        routes: Mapping[str, Handler] | None = None,
        web_config: WebConfig | None = None,
    ) -> None:
        self._host, self._port = host, port
        self._collect, self._inherit = collect, inherit
        self.routes: dict[str, Handler] = dict(routes or {})
        self._web_config = web_config
        self._baseline = Baseline()
        self._member: FamilyMember | None = None
        self._running = False
        self._complaints = Complaints()
        self._begin()

    def _begin(self) -> None:
        """State of a fresh start, here and in a forked child."""
        self._gate = ScrapeGate()
        self._open()

    def _open(self) -> None:
        self._loop = Loop(lost=self._open_anew)
        self._server = Server(
            self.render,
            self._host,
            self._port,
            routes=self.routes,
            **(self._web_config.options() if self._web_config else {}),
            loop=self._loop,
        )
        self._upkeep = FamilyUpkeep(
            self._loop,
            lambda: self._member,
            publish=self._publish,
            serves=lambda: self._server.listening,
            complaints=self._complaints,
        )

    # -- life

    def start(self) -> None:
        """Serve, or stand by where a sibling does. Raises AMMError where the address cannot be had at all."""
        if self._port != 0:
            self._join()
        try:
            self._server.start()
        except AMMError as error:
            if not isinstance(error, PortTakenError) or not self._has_siblings():
                self._leave()
                self._loop.abandon()
                raise
        self._port = self._server.address[1]
        if self._member is None:
            self._join()
        self._run()

    def close(self) -> None:
        """Serve no more: no thread, descriptor or file is left, and the counters go to the siblings."""
        if not self._running:
            return
        self._running = False
        self._loop.close()
        self._server.abandon()
        self._leave()

    @property
    def address(self) -> tuple[str, int] | None:
        """Where this process's numbers can be read: at its own port or at a sibling's."""
        return (self._host, self._port) if self._running else None

    def _run(self) -> None:
        self._running = True
        if self._member is not None and self._member.socket is not None:
            self._loop.watch(self._member.socket, READ, self._asked)
            self._member.ask_others()
        self._loop.later(TAKEOVER_SECONDS, self._take_over)
        self._upkeep.expect_company()
        self._loop.start()

    def _join(self) -> None:
        try:
            self._member = FamilyMember(family_directory(self._host, self._port))
            self._member.join()
        except FamilyError as error:
            self._member = None
            log.warning("%s; each process shows only itself", error)

    def _leave(self) -> None:
        member, self._member = self._member, None
        if member is None:
            return
        try:
            families = self._own() if self._running or member.has_company() else []
            if member.socket is None:  # a child that ends before it was shown
                if not counts_anything(families):
                    return
                member.join()
            member.leave(families)
        except FamilyError as error:
            log.warning("the last counts of this process are lost: %s", error)

    def _has_siblings(self) -> bool:
        return self._member is not None and self._member.has_company()

    def _take_over(self) -> None:
        if self._server.listening:  # for good: whoever serves has no reason to wake up every second
            return
        self._loop.later(TAKEOVER_SECONDS, self._take_over)
        with self._complaints.once("cannot take over from the process that served before"), suppress(PortTakenError):
            self._server.start()
            log.info("serving metrics on port %d of %s now", self._port, self._host)

    def _open_anew(self) -> None:
        """After the program has closed all descriptors. On the thread of the loop that lost its own."""
        log.info("the exporter's descriptors were closed, as a daemon does at its start; it opens them anew")
        self._server.abandon()
        self._loop.abandon()
        member, self._member = self._member, None
        if member is not None:
            try:
                member.vanish()
            except FamilyError as error:
                log.warning("counts of this process may be shown twice: %s", error)
        self._open()
        self._member = self._unborn()
        self._loop.later(JOIN_SECONDS, self._be_born)
        self._loop.start()

    # -- scrapes

    def render(self, accept: str = "") -> tuple[str, bytes]:
        """Content type and text: of this process alone, or of all where it has siblings."""
        content_type = negotiate(accept)
        return content_type, render(self.families(), content_type)

    def families(self) -> list[Family]:
        """What `render` writes."""
        with self._gate.passing():
            own = self._own()
            with self._complaints.once("a scrape shows only the process that answers it"):
                together = self._member.gather(own) if self._member and self._member.socket else None
                if together is not None:
                    self._upkeep.soon_expect_company()
                return together or own
            return own

    def _own(self) -> list[Family]:
        return self._baseline.take_off(self._collect())

    def _asked(self, _events: int) -> None:
        if self._member is not None:
            self._member.answer(self._publish)
            self._upkeep.expect_company()

    def _publish(self) -> None:
        with self._gate.passing(), self._complaints.once("the others show old numbers of this process"):
            if self._member is not None:
                self._member.publish(self._own())

    # -- forks

    def before_fork(self) -> None:
        """A child must inherit no state half-read."""
        self._gate.shut()

    def after_fork_in_parent(self) -> None:
        self._gate.reopen()
        if self._running:
            self._upkeep.soon_expect_company()

    def after_fork_in_child(self) -> None:
        """Let go of what is the parent's (an inherited listener would keep the port when it dies); begin anew."""
        self._server.abandon()
        self._loop.abandon()
        if self._member is not None:
            self._member.abandon()
            self._member = None
        inherited = self._inherit()
        self._begin()
        if not self._running:
            return
        self._member = self._unborn()
        hand_over_at_exit(self)
        self._loop.later(JOIN_SECONDS, self._be_born)
        looked = threading.Event()
        self._loop.call(lambda: self._first_look(inherited, looked))
        self._loop.start()
        if not all(map(describes_a_process, inherited)):
            looked.wait(LOOK_SECONDS)  # what the child counts from here on is its own

    def _unborn(self) -> FamilyMember | None:
        try:
            member = FamilyMember(family_directory(self._host, self._port))
            if os.geteuid() == 0:  # as gunicorn's workers do with --user, it may be another user in a moment
                member.appear()
        except FamilyError as error:
            log.warning("%s; this child shows only itself", error)
            return None
        return member

    def _first_look(self, inherited: frozenset[str], looked: threading.Event) -> None:
        try:
            if any(map(is_inherited, inherited)):
                with self._gate.passing():
                    self._baseline = Baseline(self._collect(), inherited)
        finally:
            looked.set()

    def _be_born(self) -> None:
        if self._member is not None:
            try:
                if self._member.socket is None:
                    self._member.join()
            except FamilyError as error:
                log.warning("%s; this child shows only itself", error)
            if self._member.socket is not None:
                self._loop.watch(self._member.socket, READ, self._asked)
                self._publish()
        self._take_over()
        self._upkeep.expect_company()
