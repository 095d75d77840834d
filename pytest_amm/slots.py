"""One process that runs tests as the watchdog sees it: what it and its children have, what the board says of it."""

from __future__ import annotations

import time

from pytest_amm.board import Board, Owner, Seen
from pytest_amm.evidence import Evidence, Witness, to_text
from pytest_amm.proctree import Member, Tree, command_name
from pytest_amm.pursuit import Pursuit

_CHILDREN_TOLD = 3
_TOLD_AGAIN_RATIO = 1.05
"""The largest children are written down again once the tree's peak has grown so much."""


class Slot:
    """Updated by `look`; `pursuit` is the stop that is under way, `witness` what was seen of it from outside."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.owner = Owner(0, 0, 0, 0, 0)
        self.seen = Seen(0, 0, 0, 0)
        self.pursuit: Pursuit | None = None
        self.witness: Witness | None = None
        self.children: list[Member] = []
        self.subtree_bytes = 0
        self.untouched_bytes = 0
        self._process: Member | None = None
        self._baselines: dict[int, int] = {}
        self._idle_bytes = 0
        self._told_bytes = 0
        self.began = 0.0
        """When the present test was seen first, in unix seconds: at most a pause after it began."""

    @property
    def growth_bytes(self) -> int:
        return self.subtree_bytes - self.owner.base_bytes - self._earlier_bytes()

    def look(self, board: Board, tree: Tree, pids: frozenset[int]) -> int:
        """Update from the board and the tree; returns how much the children's peaks exceed what they have now."""
        owner = board.owner(self.number)
        self._process = member = tree.members.get(owner.pid)
        if member is None:
            self.subtree_bytes = self.untouched_bytes = 0
            self.pursuit = self.witness = None
            self.owner = owner._replace(generation=0)
            return 0
        self.children = tree.below(owner.pid, pids) if len(tree.members) > 1 else []
        if owner.generation != self.owner.generation or owner.pid != self.owner.pid:
            self._begin(owner, member)
        self.owner = owner
        children_bytes = sum(child.counted_bytes() for child in self.children)
        self.subtree_bytes = member.rss_bytes + children_bytes
        self.untouched_bytes = max(0, member.reserved_bytes - member.rss_bytes - self._idle_bytes)
        return self._look_at_children(board, member, children_bytes) if self.children else 0

    def grown_child(self) -> Member | None:
        """The child that grew most, when the children grew more than the process itself, and the run started it."""
        if not self.children or self._process is None:
            return None
        grown = {child.pid: child.counted_bytes() - self._baselines.get(child.pid, 0) for child in self.children}
        if sum(grown.values()) <= self._process.rss_bytes - self.owner.base_bytes:
            return None
        most = max(self.children, key=lambda child: grown[child.pid])
        return None if most.foreign else most

    def _earlier_bytes(self) -> int:
        """What the children that were there before the test had when it began."""
        return sum(self._baselines.get(child.pid, 0) for child in self.children)

    def _begin(self, owner: Owner, member: Member) -> None:
        """A new phase: what is reserved and not touched so far will stay so."""
        self.pursuit = self.witness = None
        self._idle_bytes = member.reserved_bytes - member.rss_bytes
        self._told_bytes = 0
        if owner.test_number != self.owner.test_number or owner.pid != self.owner.pid:
            self.began = time.time()
            self._baselines = {child.pid: child.counted_bytes() for child in self.children if child.mark_bytes}

    def _look_at_children(self, board: Board, member: Member, children_bytes: int) -> int:
        peaks = {child: child.interval_peak_bytes() for child in self.children}
        peaks_bytes = sum(peaks.values())
        generation = self.owner.generation
        before = self.seen if self.seen.generation == generation else Seen(generation, 0, 0, 0)
        tree_peak_bytes, earlier_bytes = before.tree_peak_bytes, before.earlier_bytes
        if member.rss_bytes + peaks_bytes > tree_peak_bytes:
            tree_peak_bytes, earlier_bytes = member.rss_bytes + peaks_bytes, self._earlier_bytes()
        self.seen = Seen(
            generation,
            max(before.child_count, len(peaks)),
            tree_peak_bytes,
            max(before.children_peak_bytes, peaks_bytes),
            max(child.inherited_bytes for child in peaks),
            earlier_bytes,
            max(child.mark_bytes for child in peaks),
            max((child.mark_bytes for child in peaks if child.pid in self._baselines), default=0),
            self.owner.test_number,
        )
        board.write_seen(self.number, self.seen)
        if peaks_bytes > self._told_bytes * _TOLD_AGAIN_RATIO:
            self._told_bytes = peaks_bytes
            largest = sorted(peaks.items(), key=lambda item: -item[1])[:_CHILDREN_TOLD]
            told = [Evidence("child", size, f"{command_name(child.pid)} (pid {child.pid})") for child, size in largest]
            board.write_evidence(self.number, generation, to_text(told))
        return max(0, peaks_bytes - children_bytes)
