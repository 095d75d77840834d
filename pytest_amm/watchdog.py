"""The watchdog: one small process a run that sees the process tree grow and stops the test that breaches a budget.

Runs without site-packages and imports nothing of the tested code. It is no child of pytest, so that tests which wait
for any child or list their children do not meet it. It ends when the run ends, in whatever way. What to do next is
decided in `pursuit`; what each process has is read by `proctree` and `slots`; both sides talk through `board`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from typing import Any

from pytest_amm.board import DUMP_SIGNAL, RUNG_CHILD, Board, Header, Stop
from pytest_amm.evidence import Witness, from_text, to_text
from pytest_amm.hostmemory import HostMemory
from pytest_amm.limits import hold
from pytest_amm.pace import IDLE_PAUSE_SECONDS, SHORTEST_PAUSE_SECONDS, Pace
from pytest_amm.proctree import Member, Tree, command_name, stat_fields, takes_signal
from pytest_amm.pursuit import Pursuit, next_action
from pytest_amm.runcgroup import RunCgroup
from pytest_amm.slots import Slot
from pytest_amm.timeline import Timeline

HOST_PAUSE_SECONDS = 0.25


class Watchdog:
    """Looks, judges, acts; `run` until the run it watches has ended."""

    def __init__(self, board: Board, root: int, settings: dict[str, Any]) -> None:
        self._board = board
        self._root = root
        self._tree = Tree(root, frozenset(settings["foreign"]))
        self._slots: dict[int, Slot] = {}
        self._budget_bytes: int | None = settings["budget_bytes"]
        self._least_limit_bytes: int | None = settings["least_limit_bytes"]
        self._stop_ratio: float = settings["stop_ratio"]
        self._stops: bool = settings["stops"]
        self._signal: int = settings["signal"]
        self._host = HostMemory()
        self._host_next = 0.0
        self._cgroup = RunCgroup(settings["run_cgroup"], root)
        self._timeline = Timeline(board)
        self._tree_bytes = 0
        self._peak_bytes = 0
        self._scanned = 0.0
        self._pace = Pace(time.monotonic())

    def run(self) -> bool:
        """True when the run ended in order, False when its process vanished."""
        while True:
            spent = time.thread_time()
            if self._board.ended:
                return True
            if not self._tree.refresh():
                return self._board.ended
            self._look(time.monotonic())
            for slot in self._slots.values():
                self._judge(slot, time.monotonic())
            time.sleep(self._pause(time.thread_time() - spent))

    def seen(self) -> list[tuple[int, int]]:
        """Pids and start times of what the run started and was seen last, its own process first."""
        return [(each.pid, int(each.start)) for each in self._tree.members.values() if not each.foreign]

    def began(self) -> dict[int, float]:
        return {number: slot.began for number, slot in self._slots.items()}

    def _look(self, now: float) -> None:
        board = self._board
        if now - self._scanned > IDLE_PAUSE_SECONDS or not self._slots:
            self._scanned = now
            for number in board.slots():
                if number not in self._slots:
                    self._slots[number] = Slot(number)
        pids = frozenset(slot.owner.pid for slot in self._slots.values())
        extra_bytes = sum([slot.look(board, self._tree, pids) for slot in self._slots.values()])
        tree_bytes = sum(member.counted_bytes() for member in self._tree.members.values())
        self._pace.note(now, tree_bytes)
        self._tree_bytes = tree_bytes
        extra_bytes = self._refine(now, tree_bytes, extra_bytes)
        self._peak_bytes = max(self._peak_bytes, tree_bytes + extra_bytes)
        if now >= self._host_next:
            self._host_next = now + HOST_PAUSE_SECONDS
            self._read_host()
        board.write_header(Header(tree_bytes, self._peak_bytes, *self._host.levels()))
        self._timeline.add(time.time(), tree_bytes + extra_bytes)

    def _read_host(self) -> None:
        if not self._host.watches and (told := self._board.host_settings()):
            self._host = HostMemory(**json.loads(told))
        self._host.read()
        level, ppm, _ = self._host.levels()
        if level:
            before = self._board.tightest()
            self._board.write_tightest(max(level, before[0]), max(ppm, before[1]))

    def _refine(self, now: float, tree_bytes: int, extra_bytes: int) -> int:
        """How much more than now the tree had at one time since the last look, by the run's cgroup where it has one.

        The marks of its processes need not have been reached together: their sum is only the most it can be.
        """
        members = self._tree.members
        look = self._cgroup.look(now, members)
        if look is None:
            self._board.write_tree_peak_source(cgroup=False)
            return extra_bytes
        self._board.write_tree_peak_source(cgroup=self._cgroup.rose)
        if look.risen:
            extra_bytes = sum([member.most_bytes() for member in members.values()]) - tree_bytes
        return max(0, min(extra_bytes, look.above_bytes))

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
        if not self._is_worst(slot) or not self._stops:
            return None
        if self._budget_bytes and self._tree_bytes > self._budget_bytes:
            return self._pursuit(slot, "session", self._budget_bytes, self._tree_bytes, now)
        if self._host.level >= 2:
            return self._pursuit(slot, "emergency", self._host.stop_bytes, self._host.used_bytes, now)
        return None

    def _pursuit(self, slot: Slot, scope: str, budget_bytes: int, used_bytes: int, now: float) -> Pursuit:
        return Pursuit(
            generation=slot.owner.generation, scope=scope, budget_bytes=budget_bytes, started=now, used_bytes=used_bytes
        )

    def _is_worst(self, slot: Slot) -> bool:
        """Whether it, which runs a test now, grew most of all that do."""
        return slot.growth_bytes >= max(each.growth_bytes for each in self._slots.values() if each.owner.armed)

    def _endangers(self, slot: Slot) -> bool:
        """Whether the run passes the ceiling of its budget before a kill would help, or the machine is half of the way
        from the stop to full; not by what another process of the run takes."""
        if not self._is_worst(slot):
            return False
        tree_bytes = self._tree_bytes + self._pace.coming_bytes(slot.untouched_bytes)
        if self._budget_bytes and tree_bytes > self._budget_bytes * self._stop_ratio:
            return True
        return self._host.level >= 2 and self._host.used_bytes > (self._host.stop_bytes + self._host.total_bytes) // 2

    def _used_bytes(self, slot: Slot, scope: str) -> int:
        if scope == "test":
            return slot.growth_bytes
        return self._tree_bytes if scope == "session" else self._host.used_bytes

    def _pursue(self, slot: Slot, pursuit: Pursuit, now: float) -> None:
        grew = pursuit.see(now, used_bytes := self._used_bytes(slot, pursuit.scope))
        self._testify(slot)
        pid = slot.owner.pid
        answered = self._board.answer(slot.number)[0] == pursuit.generation
        culprit = slot.grown_child()
        action = next_action(
            pursuit,
            now=now,
            used_bytes=used_bytes,
            answered=answered,
            signalable=takes_signal(pid, self._signal),
            child_to_blame=culprit is not None,
            endangers=self._endangers(slot),
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
        self._act(action, slot, culprit)
        self._testify(slot)

    def _act(self, action: str, slot: Slot, culprit: Member | None) -> None:
        pid = slot.owner.pid
        try:
            if action == "signal":
                os.kill(pid, self._signal)
            elif action == "limit":
                self._hold(slot)
            elif action == "child" and culprit is not None and _same(culprit):
                os.kill(culprit.pid, signal.SIGKILL)
            elif action == "kill" and _same(self._tree.members[pid]):
                os.kill(pid, signal.SIGKILL)
        except OSError:  # it has just ended, or may not be touched: the next look decides anew
            return

    def _hold(self, slot: Slot) -> None:
        """C code that does not answer cannot say what it does either."""
        pid = slot.owner.pid
        if takes_signal(pid, DUMP_SIGNAL):
            os.kill(pid, DUMP_SIGNAL)
        release = hold(pid)
        if self._board.owner(slot.number)[:2] != slot.owner[:2]:  # it ended meanwhile, and could not undo this
            release()
            return
        slot.witness = Witness(pid, self._board.answer(slot.number)[2])

    def _testify(self, slot: Slot) -> None:
        found = slot.witness.news() if slot.witness is not None else None
        if found is not None:
            board, generation = self._board, slot.owner.generation
            told = [each for each in from_text(board.evidence(slot.number, generation)) if each.label == "child"]
            board.write_evidence(slot.number, generation, to_text([*told, *found]))

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
            slot.subtree_bytes,
            name,
        )
        self._board.write_stop(slot.number, stop)

    def _pause(self, spent_seconds: float) -> float:
        slots = self._slots.values()
        if any(slot.pursuit for slot in slots):
            return SHORTEST_PAUSE_SECONDS
        armed = [slot for slot in slots if slot.owner.armed]
        limits = ((slot.owner.growth_limit_bytes, slot.growth_bytes) for slot in armed)
        headrooms = [limit_bytes - growth_bytes for limit_bytes, growth_bytes in limits if limit_bytes]
        if self._budget_bytes:
            headrooms.append(self._budget_bytes - self._tree_bytes)
        if self._least_limit_bytes:
            headrooms.append(self._least_limit_bytes)
        least_bytes = min(headrooms, default=sys.maxsize)
        quick = any(slot.children or slot.untouched_bytes > least_bytes for slot in slots)
        return self._pace.pause_seconds(headrooms, armed=bool(armed), quick=quick, spent_seconds=spent_seconds)


def _same(member: Member) -> bool:
    """Whether the pid still belongs to the process that was seen: nothing else is ever signalled."""
    try:
        return stat_fields(member.pid)[19] == member.start
    except (OSError, IndexError):
        return False


def _come_first() -> None:
    """A look that comes late lets more through. Only root may; but in a pursuit it sleeps nine tenths of the time."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        with contextlib.suppress(OSError):
            os.nice(-5)


def _stand_back() -> None:
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def main(arguments: list[str]) -> None:
    """`watchdog BOARD_FD ROOT_PID SETTINGS`: leave the family, then watch."""
    if os.fork():
        os._exit(0)
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _come_first()
    settings = json.loads(arguments[2])
    root = int(arguments[1])
    board = Board(int(arguments[0]))
    try:
        watchdog = Watchdog(board, root, settings)
    except OSError:  # the run has ended already
        return
    ended = watchdog.run()
    _stand_back()
    if not ended:
        from pytest_amm.aftermath import clear_up

        clear_up(board, settings, watchdog.seen(), watchdog.began())
