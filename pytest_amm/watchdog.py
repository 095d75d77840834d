"""The watchdog: one small process a run that sees the process tree grow and stops the test that breaches a budget.

Runs without site-packages and imports nothing of the tested code. It is no child of pytest, so that tests which wait
for any child or list their children do not meet it. It ends when the run ends, in whatever way. What to do next is
decided in `pursuit`; the memory of the tree is read by `proctree`; both sides talk through `board`.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import time
from typing import Any

from pytest_amm.board import POINT_COUNT, RUNG_CHILD, RUNG_KILL, SLOT_COUNT, Board, Header, Owner, Seen, Stop
from pytest_amm.hostmemory import HostMemory
from pytest_amm.proctree import Member, Tree, address_space_bytes, command_name, stat_fields, takes_signal
from pytest_amm.pursuit import Pursuit, next_action

FILL_BYTES_PER_SECOND = 4 << 30
"""How fast one process can touch new memory here; the pause is what the headroom lasts at this rate."""
LONGEST_PAUSE_SECONDS = 0.01
SHORTEST_PAUSE_SECONDS = 0.001
IDLE_PAUSE_SECONDS = 0.05
CHILDREN_PAUSE_SECONDS = 0.002
HOST_PAUSE_SECONDS = 0.25


class Slot:
    """One process that runs tests, as seen from here."""

    def __init__(self, number: int, owner: Owner) -> None:
        self.number = number
        self.owner = owner
        self.seen = Seen(0, 0, 0, 0)
        self.pursuit: Pursuit | None = None
        self.baselines: dict[int, int] = {}
        self.children: list[Member] = []
        self.subtree_bytes = 0

    @property
    def growth_bytes(self) -> int:
        baseline_bytes = sum(self.baselines.get(child.pid, 0) for child in self.children)
        return self.subtree_bytes - self.owner.base_bytes - baseline_bytes


class Timeline:
    """The tree over time, in a bounded number of points: when they are full, every two become their maximum."""

    def __init__(self, board: Board, interval_seconds: float = 0.05) -> None:
        self._board = board
        self._interval_seconds = interval_seconds
        self._points: list[tuple[float, int]] = []

    def add(self, unix_seconds: float, tree_bytes: int) -> None:
        points = self._points
        if points and unix_seconds - points[-1][0] < self._interval_seconds:
            if tree_bytes > points[-1][1]:
                points[-1] = (points[-1][0], tree_bytes)
                self._board.write_points(points, len(points) - 1)
            return
        if len(points) == POINT_COUNT:
            pairs = zip(points[::2], points[1::2], strict=True)
            self._points = points = [(first[0], max(first[1], second[1])) for first, second in pairs]
            self._interval_seconds *= 2
            self._board.write_points(points)
        points.append((unix_seconds, tree_bytes))
        self._board.write_points(points, len(points) - 1)


class Watchdog:
    """Looks, judges, acts; `run` until the run it watches has ended."""

    def __init__(self, board: Board, root: int, settings: dict[str, Any]) -> None:
        self._board = board
        self._root = root
        self._tree = Tree(root)
        self._slots: dict[int, Slot] = {}
        self._budget_bytes: int | None = settings["budget_bytes"]
        self._least_limit_bytes: int | None = settings["least_limit_bytes"]
        self._stop_ratio: float = settings["stop_ratio"]
        self._stops: bool = settings["stops"]
        self._signal: int = settings["signal"]
        self._host = HostMemory(
            settings["emergency_ratio"], settings["warn_ratio"], settings["stall_ratio"], settings["cgroup"]
        )
        self._host_next = 0.0
        self._timeline = Timeline(board)
        self._tree_bytes = 0
        self._peak_bytes = 0
        self._scanned = 0.0

    def run(self) -> bool:
        """True when the run ended in order, False when its process vanished."""
        while True:
            started = time.monotonic()
            if self._board.ended:
                return True
            if not self._tree.refresh():
                return self._board.ended
            self._look(started)
            for slot in self._slots.values():
                self._judge(slot, time.monotonic())
            spent = time.monotonic() - started
            time.sleep(max(self._pause(), min(9 * spent, 0.02)))

    def orphans(self) -> list[Member]:
        """What the run had started and left behind: still the same processes, by their start time."""
        return [member for member in self._tree.members.values() if member.pid != self._root and _same(member)]

    def _look(self, now: float) -> None:
        board = self._board
        if now - self._scanned > IDLE_PAUSE_SECONDS or not self._slots:
            self._scanned = now
            for number in board.slots():
                if number not in self._slots:
                    self._slots[number] = Slot(number, Owner(0, 0, 0, 0, 0))
        members = self._tree.members
        pids = frozenset(slot.owner.pid for slot in self._slots.values())
        extra_bytes = 0
        for slot in self._slots.values():
            extra_bytes += self._look_at(slot, pids)
        self._tree_bytes = sum(member.counted_bytes() for member in members.values())
        self._peak_bytes = max(self._peak_bytes, self._tree_bytes + extra_bytes)
        if now >= self._host_next:
            self._host_next = now + HOST_PAUSE_SECONDS
            self._host.read()
        board.write_header(Header(self._tree_bytes, self._peak_bytes, *self._host.levels()))
        self._timeline.add(time.time(), self._tree_bytes + extra_bytes)

    def _look_at(self, slot: Slot, pids: frozenset[int]) -> int:
        """Update one slot; returns how much its children's peaks exceed what they have now."""
        owner = self._board.owner(slot.number)
        member = self._tree.members.get(owner.pid)
        if member is None:
            slot.subtree_bytes = 0
            slot.pursuit = None
            slot.owner = owner._replace(generation=0)
            return 0
        slot.children = self._tree.below(owner.pid, pids) if len(self._tree.members) > 1 else []
        if owner.generation != slot.owner.generation or owner.pid != slot.owner.pid:
            slot.pursuit = None
            if owner.test_number != slot.owner.test_number or owner.pid != slot.owner.pid:
                slot.baselines = {child.pid: child.counted_bytes() for child in slot.children if child.mark_bytes}
        slot.owner = owner
        children_bytes = sum(child.counted_bytes() for child in slot.children)
        slot.subtree_bytes = member.rss_bytes + children_bytes
        if not slot.children:
            return 0
        peaks_bytes = sum(child.interval_peak_bytes() for child in slot.children)
        before = slot.seen if slot.seen.generation == owner.generation else Seen(owner.generation, 0, 0, 0)
        slot.seen = Seen(
            owner.generation,
            max(before.child_count, len(slot.children)),
            max(before.tree_peak_bytes, member.rss_bytes + peaks_bytes),
            max(before.children_peak_bytes, peaks_bytes),
            max(child.inherited_bytes for child in slot.children),
        )
        self._board.write_seen(slot.number, slot.seen)
        return max(0, peaks_bytes - children_bytes)

    def _judge(self, slot: Slot, now: float) -> None:
        if not slot.owner.armed:
            return
        if slot.pursuit is None:
            slot.pursuit = self._new_pursuit(slot, now)
        if slot.pursuit is not None:
            self._pursue(slot, slot.pursuit, now)

    def _new_pursuit(self, slot: Slot, now: float) -> Pursuit | None:
        limit_bytes = slot.owner.growth_limit_bytes if self._stops else 0
        if limit_bytes and slot.growth_bytes > limit_bytes:
            return self._pursuit(slot, "test", limit_bytes, slot.growth_bytes, now)
        worst = max(
            (each for each in self._slots.values() if each.owner.armed),
            key=lambda each: each.growth_bytes,
            default=None,
        )
        if worst is not slot:
            return None
        if not self._stops:
            return None
        if self._budget_bytes and self._tree_bytes > self._budget_bytes:
            return self._pursuit(slot, "session", self._budget_bytes, self._tree_bytes, now)
        if self._host.level >= 2:
            return self._pursuit(slot, "emergency", self._host.stop_bytes, self._host.used_bytes, now)
        return None

    def _pursuit(self, slot: Slot, scope: str, budget_bytes: int, used_bytes: int, now: float) -> Pursuit:
        return Pursuit(
            generation=slot.owner.generation,
            scope=scope,
            budget_bytes=budget_bytes,
            started=now,
            grew_until=now,
            used_bytes=used_bytes,
            stepped=now,
            used_at_step_bytes=used_bytes,
        )

    def _endangers(self) -> bool:
        """Whether the run is past the ceiling of its budget, or the machine half of the way from the stop to full."""
        if self._budget_bytes and self._tree_bytes > self._budget_bytes * self._stop_ratio:
            return True
        return self._host.level >= 2 and self._host.used_bytes > (self._host.stop_bytes + self._host.total_bytes) // 2

    def _used_bytes(self, slot: Slot, scope: str) -> int:
        if scope == "test":
            return slot.growth_bytes
        return self._tree_bytes if scope == "session" else self._host.used_bytes

    def _pursue(self, slot: Slot, pursuit: Pursuit, now: float) -> None:
        used_bytes = self._used_bytes(slot, pursuit.scope)
        grew = pursuit.see(now, used_bytes)
        pid = slot.owner.pid
        answered = self._board.answer(slot.number)[0] == pursuit.generation
        culprit = self._grown_child(slot)
        action = next_action(
            pursuit,
            now=now,
            used_bytes=used_bytes,
            answered=answered,
            signalable=takes_signal(pid, self._signal),
            child_to_blame=culprit is not None,
            endangers=self._endangers(),
        )
        # look again before acting: the test may have ended since
        if action is None:
            if grew and pursuit.rungs:
                self._tell(slot, pursuit, None)
            return
        if self._board.owner(slot.number)[:2] != slot.owner[:2]:
            return
        pursuit.note(action, now, used_bytes)
        self._tell(slot, pursuit, culprit)
        self._act(action, pid, culprit)

    def _act(self, action: str, pid: int, culprit: Member | None) -> None:
        try:
            if action == "signal":
                os.kill(pid, self._signal)
            elif action == "limit":
                _, hard = resource.prlimit(pid, resource.RLIMIT_AS)
                resource.prlimit(pid, resource.RLIMIT_AS, (address_space_bytes(pid), hard))
            elif action == "child" and culprit is not None and _same(culprit):
                os.kill(culprit.pid, signal.SIGKILL)
            elif action == "kill" and _same(self._tree.members[pid]):
                os.kill(pid, signal.SIGKILL)
        except OSError:  # it has just ended, or may not be touched: the next look decides anew
            return

    def _tell(self, slot: Slot, pursuit: Pursuit, culprit: Member | None) -> None:
        before = self._board.stop(slot.number)
        pid, name = 0, ""
        if pursuit.rungs & RUNG_CHILD:
            pid, name = before.culprit_pid, before.culprit
            if culprit is not None:
                pid, name = culprit.pid, command_name(culprit.pid)
        stop = Stop(
            pursuit.generation,
            pursuit.scope,
            pursuit.used_bytes,
            pursuit.budget_bytes,
            pursuit.rungs,
            pid,
            pursuit.started,
            pursuit.grew_until,
            name,
        )
        self._board.write_stop(slot.number, stop)

    def _grown_child(self, slot: Slot) -> Member | None:
        """The child that grew most, when the children grew more than the process itself."""
        if not slot.children:
            return None
        grown = {child.pid: child.counted_bytes() - slot.baselines.get(child.pid, 0) for child in slot.children}
        own = self._tree.members[slot.owner.pid].rss_bytes - slot.owner.base_bytes
        if sum(grown.values()) <= own:
            return None
        return max(slot.children, key=lambda child: grown[child.pid])

    def _pause(self) -> float:
        if any(slot.pursuit for slot in self._slots.values()):
            return SHORTEST_PAUSE_SECONDS
        headrooms = [self._budget_bytes - self._tree_bytes] if self._budget_bytes else []
        armed = False
        children = False
        for slot in self._slots.values():
            armed |= slot.owner.armed
            children |= bool(slot.children)
            if slot.owner.armed and slot.owner.growth_limit_bytes:
                headrooms.append(slot.owner.growth_limit_bytes - slot.growth_bytes)
        if self._least_limit_bytes:
            headrooms.append(self._least_limit_bytes)
        longest = CHILDREN_PAUSE_SECONDS if children else LONGEST_PAUSE_SECONDS if armed else IDLE_PAUSE_SECONDS
        wanted = min(headrooms, default=FILL_BYTES_PER_SECOND) / FILL_BYTES_PER_SECOND
        return max(SHORTEST_PAUSE_SECONDS, min(longest, wanted))


def _same(member: Member) -> bool:
    """Whether the pid still belongs to the process that was seen: nothing else is ever signalled."""
    try:
        return stat_fields(member.pid)[19] == member.start
    except (OSError, IndexError):
        return False


def killed_slots(board: Board) -> list[int]:
    """The slots whose process was killed."""
    return [slot for slot in range(SLOT_COUNT) if board.stop(slot).rungs & RUNG_KILL]


def main(arguments: list[str]) -> None:
    """`watchdog BOARD_FD ROOT_PID SETTINGS`: leave the family, then watch."""
    if os.fork():
        os._exit(0)
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # only root may: a look that comes late lets more through
        os.nice(-5)
    settings = json.loads(arguments[2])
    root = int(arguments[1])
    board = Board(int(arguments[0]))
    try:
        watchdog = Watchdog(board, root, settings)
    except OSError:  # the run has ended already
        return
    if not watchdog.run():
        for member in watchdog.orphans():
            with contextlib.suppress(OSError):  # it has ended by itself meanwhile
                os.kill(member.pid, signal.SIGKILL)
        if settings["aftermath"]:
            from pytest_amm.aftermath import tell

            tell(board, settings["aftermath"], sys.stderr)
