"""What a process with siblings does now and then: it leaves a snapshot; whoever serves buries the dead.

A process that stays alone need not wake up for it: others ask as they begin, are forked here, or are met by a scrape.
node.py, which learns of them so, says that company is to be expected.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from amm_exporter.export.complaints import Complaints
from amm_exporter.export.family import FamilyMember
from amm_exporter.export.loop import Loop

UPKEEP_SECONDS = 15.0
"""The longest a process with siblings goes without a snapshot: what a SIGKILL can lose of what no scrape has shown."""


class FamilyUpkeep:
    """A timer on the loop for as long as there is company.

    `member()` is the process as its siblings see it, if they can, `publish()` leaves its snapshot, `serves()` says
    whether it has the port.
    """

    def __init__(
        self,
        loop: Loop,
        member: Callable[[], FamilyMember | None],
        *,
        publish: Callable[[], None],
        serves: Callable[[], bool],
        complaints: Complaints,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop, self._member = loop, member
        self._publish, self._serves = publish, serves
        self._complaints = complaints
        self._clock = clock
        self._expecting = False

    def expect_company(self) -> None:
        """Look in a while, then for as long as there are others. On the thread of the loop, or before it starts."""
        if not self._expecting:
            self._expecting = True
            self._loop.later(UPKEEP_SECONDS, self._look)

    def soon_expect_company(self) -> None:
        """From any thread."""
        if not self._expecting:
            self._loop.call(self.expect_company)

    def _look(self) -> None:
        self._expecting = False
        member = self._member()
        if member is None or member.socket is None or not member.has_company():
            return
        self.expect_company()
        if self._clock() - member.published_at >= UPKEEP_SECONDS:
            self._publish()
        if self._serves():
            with self._complaints.once("processes that were killed are not taken away"):
                member.tidy()
