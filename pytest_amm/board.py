"""The shared page between the processes that run tests and the watchdog: who runs what, up to where, and what happened.

A message by pipe for every test would wake the watchdog three times a test; writing a few words to shared memory costs
under a microsecond and the watchdog looks by itself. Each field has one writer. Standard library only: the watchdog
runs without site-packages.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from pytest_amm.unnamed import unnamed_file

HEADER_BYTES = 4 * 4096  # has room for three paths of any length
SLOT_BYTES = 1024
SLOT_COUNT = 255
_POINTS_AT = HEADER_BYTES + SLOT_COUNT * SLOT_BYTES
_POINT = struct.Struct("<dQ")  # unix seconds, tree bytes
POINT_COUNT = 2048
_EVIDENCE_AT = _POINTS_AT + POINT_COUNT * _POINT.size
_EVIDENCE_BYTES = 4096
_SIZE = _EVIDENCE_AT + SLOT_COUNT * _EVIDENCE_BYTES  # pages that nobody writes take no memory
_NAME_BYTES = 400

_HEADER = struct.Struct("<QQIII")  # tree, tree peak, host level, host ppm, stall ppm
_ENDED = struct.Struct("<I")
_ENDED_AT = 64
_POINTS = struct.Struct("<I")
_POINTS_COUNT_AT = 68
_OWNER = struct.Struct("<IIQQQ")  # pid, generation, base, growth limit, number of the test
_ANSWER = struct.Struct("<III")  # generation answered, how often, evidence fd
_ANSWER_AT = 40
_NAME_AT = 64
_SEEN = struct.Struct("<IIQQQQQQQ")  # as `Seen`
_SEEN_AT = 512
_STOP = struct.Struct("<IIQQIIddQ32s")  # as `Stop`
_STOP_AT = 592

_LEVEL = struct.Struct("<I")
_EVIDENCE = struct.Struct("<II")  # generation, length of the text
_TIGHT = struct.Struct("<II")  # level, ppm
_EXACT_TREE_AT, _TIGHT_AT, _HIDDEN_AT = 72, 76, 84
_HOST_AT = 88  # the length of the text, and the text up to the end of the header
GENERATION, SEEN, STOPPED = 1, _SEEN_AT // 4, _STOP_AT // 4
"""Where generations stand among the 32-bit words of a slot: the owner's, and those of what was seen and of the stop."""
_HOST_LEVEL_AT = 16

SCOPES = ("session", "test", "emergency")

SIGNAL = getattr(signal, "SIGRTMIN", 34) + 7
"""What the watchdog sends. A real-time signal: SIGUSR1, SIGALRM and their like belong to the tests."""
DUMP_SIGNAL = SIGNAL + 1
"""Has faulthandler write down the stacks of C code that does not answer. A signal of its own: chained to the other one,
handlers would nest, and four that come late together overrun the 20 kB that faulthandler gives them. Never sent while
Python code may run: a thread that changes its frames while they are read crashes the process (3.13, 1 of 800)."""

RUNG_SIGNAL, RUNG_LIMIT, RUNG_CHILD, RUNG_KILL = 1, 2, 4, 8
"""What was done to stop a test, as bits: a signal, a lowered limit, a child killed, the process itself killed."""


class Header(NamedTuple):
    """What the watchdog knows of the whole."""

    tree_bytes: int
    tree_peak_bytes: int
    host_level: int
    host_ppm: int
    stall_ppm: int


class Owner(NamedTuple):
    """What a process that runs tests says about the present one. An odd generation is armed."""

    pid: int
    generation: int
    base_bytes: int
    growth_limit_bytes: int
    test_number: int

    @property
    def armed(self) -> bool:
        return bool(self.generation & 1)


class Seen(NamedTuple):
    """What the watchdog saw of one generation. Children that were there before its test are the earlier ones."""

    generation: int
    child_count: int
    tree_peak_bytes: int
    children_peak_bytes: int
    inherited_bytes: int = 0  # by a forked child, the most of all; 0 when all had called exec
    earlier_bytes: int = 0  # of the tree's peak, what earlier ones had when the test began
    mark_bytes: int = 0  # the largest high-water mark of a child
    earlier_mark_bytes: int = 0  # the same of the earlier ones
    test_number: int = 0


class Stop(NamedTuple):
    """What the watchdog did about one generation."""

    generation: int
    scope: str
    used_bytes: int
    budget_bytes: int
    rungs: int
    culprit_pid: int
    started_seconds: float  # monotonic, the same clock in all processes
    grew_until_seconds: float
    own_bytes: int  # the process and its children, whatever is held against the budget
    culprit: str


class Line(NamedTuple):
    """What one slot says and asks in each phase of each test, bound to its place: with no function in between."""

    say_owner: Callable[..., None]
    """Takes the fields of `Owner`."""
    words: memoryview
    """Of the slot: `GENERATION` is said for each phase, and `SEEN` and `STOPPED` are all that most phases ask."""


class Board:
    """The mapped page. `create` in the process that starts the watchdog, `open` everywhere else."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, _SIZE)
        self._views: list[memoryview] = []

    @classmethod
    def create(cls, run_id: str = "") -> Board:
        """Its name is seen in the memory map of the run's process and of each forked copy."""
        from amm_exporter.probes.procfs import out_of_the_way  # nothing for the watchdog

        os.ftruncate(fd := out_of_the_way(unnamed_file(f"amm-board-{run_id}")), _SIZE)
        return cls(fd)

    @classmethod
    def open(cls, path: str) -> Board:
        """By `/proc/<pid>/fd/<n>` of a process that has it."""
        return cls(os.open(path, os.O_RDWR | os.O_CLOEXEC))

    @property
    def path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    def header(self) -> Header:
        return Header(*_HEADER.unpack_from(self._map, 0))

    def write_header(self, header: Header) -> None:
        _HEADER.pack_into(self._map, 0, *header)

    @property
    def tree_peak_source(self) -> str:
        """Where the tree's peak comes from: the run's own `cgroup`, or `samples` of the watchdog."""
        (exact,) = _ENDED.unpack_from(self._map, _EXACT_TREE_AT)
        return "cgroup" if exact else "samples"

    def tightest(self) -> tuple[int, int]:
        """The worst level of the host so far, and the most that was in use, in ppm; (0, 0) when all was fine."""
        level, ppm = _TIGHT.unpack_from(self._map, _TIGHT_AT)
        return level, ppm

    def write_tightest(self, level: int, ppm: int) -> None:
        _TIGHT.pack_into(self._map, _TIGHT_AT, level, ppm)

    def write_tree_peak_source(self, *, cgroup: bool) -> None:
        _ENDED.pack_into(self._map, _EXACT_TREE_AT, cgroup)

    @property
    def refusals_hidden(self) -> bool:
        """Whether a test ran in which a refused allocation could not be seen once its MemoryError was caught."""
        return bool(_ENDED.unpack_from(self._map, _HIDDEN_AT)[0])

    def hide_refusals(self) -> None:
        _ENDED.pack_into(self._map, _HIDDEN_AT, 1)

    def host_settings(self) -> str:
        """What the machine is watched by, as JSON; empty until a budget needs it."""
        (length,) = _ENDED.unpack_from(self._map, _HOST_AT)
        return self._map[_HOST_AT + 4 : _HOST_AT + 4 + length].decode()

    def write_host_settings(self, text: str) -> None:
        raw = text.encode()
        self._map[_HOST_AT + 4 : _HOST_AT + 4 + len(raw)] = raw
        _ENDED.pack_into(self._map, _HOST_AT, len(raw))  # last: the watchdog looks at any time

    @property
    def ended(self) -> bool:
        """Whether the run has ended in order."""
        return bool(_ENDED.unpack_from(self._map, _ENDED_AT)[0])

    def end(self) -> None:
        _ENDED.pack_into(self._map, _ENDED_AT, 1)

    def points(self) -> list[tuple[float, int]]:
        """The tree over time: unix seconds and bytes."""
        (count,) = _POINTS.unpack_from(self._map, _POINTS_COUNT_AT)
        return [_POINT.unpack_from(self._map, _POINTS_AT + index * _POINT.size) for index in range(count)]

    def write_points(self, points: list[tuple[float, int]], first: int = 0) -> None:
        for index in range(first, len(points)):
            _POINT.pack_into(self._map, _POINTS_AT + index * _POINT.size, *points[index])
        _POINTS.pack_into(self._map, _POINTS_COUNT_AT, len(points))

    def slots(self) -> list[int]:
        """The slots that were ever taken, in order."""
        taken = []
        for slot in range(SLOT_COUNT):
            if self._map[_at(slot) : _at(slot) + 4] != b"\0\0\0\0":
                taken.append(slot)
        return taken

    def owner(self, slot: int) -> Owner:
        return Owner(*_OWNER.unpack_from(self._map, _at(slot)))

    def write_owner(self, slot: int, owner: tuple[int, int, int, int, int]) -> None:
        _OWNER.pack_into(self._map, _at(slot), *owner)

    def line(self, slot: int) -> Line:
        at = _at(slot)
        self._views.append(memoryview(self._map)[at : at + SLOT_BYTES].cast("I"))
        return Line(partial(_OWNER.pack_into, self._map, at), self._views[-1])

    def answer(self, slot: int) -> tuple[int, int, int]:
        """The generation whose test was interrupted last, how often, and the fd of the evidence file."""
        generation, count, evidence_fd = _ANSWER.unpack_from(self._map, _at(slot) + _ANSWER_AT)
        return generation, count, evidence_fd

    def write_answer(self, slot: int, generation: int, count: int, evidence_fd: int) -> None:
        _ANSWER.pack_into(self._map, _at(slot) + _ANSWER_AT, generation, count, evidence_fd)

    def name(self, slot: int) -> str:
        """The id of the test that runs or ran last."""
        start = _at(slot) + _NAME_AT
        length = int.from_bytes(self._map[start : start + 2], "little")
        return self._map[start + 2 : start + 2 + min(length, _NAME_BYTES)].decode("utf-8", "replace")

    def is_named(self, slot: int, name: str) -> bool:
        """Whether it is this test, whose id may have been too long to be kept whole."""
        return self.name(slot) == _kept(name).decode("utf-8", "replace")

    def write_name(self, slot: int, name: str) -> None:
        raw = _kept(name)
        start = _at(slot) + _NAME_AT
        self._map[start : start + 2 + len(raw)] = len(raw).to_bytes(2, "little") + raw

    def host_level(self) -> int:
        return int(_LEVEL.unpack_from(self._map, _HOST_LEVEL_AT)[0])

    def seen(self, slot: int) -> Seen:
        return Seen(*_SEEN.unpack_from(self._map, _at(slot) + _SEEN_AT))

    def write_seen(self, slot: int, seen: Seen) -> None:
        _SEEN.pack_into(self._map, _at(slot) + _SEEN_AT, *seen)

    def stop(self, slot: int) -> Stop:
        values: tuple[Any, ...] = _STOP.unpack_from(self._map, _at(slot) + _STOP_AT)
        name = values[-1].rstrip(b"\0").decode("utf-8", "replace")
        return Stop._make((values[0], SCOPES[values[1]], *values[2:-1], name))

    def write_stop(self, slot: int, stop: Stop) -> None:
        values = (*stop[:1], SCOPES.index(stop.scope), *stop[2:9], stop.culprit.encode()[:31])
        _STOP.pack_into(self._map, _at(slot) + _STOP_AT, *values)

    def evidence(self, slot: int, generation: int) -> str:
        """What the watchdog found out about this generation; empty where it had nothing to find out."""
        at = _EVIDENCE_AT + slot * _EVIDENCE_BYTES
        of, length = _EVIDENCE.unpack_from(self._map, at)
        start = at + _EVIDENCE.size
        return self._map[start : start + length].decode("utf-8", "replace") if of == generation else ""

    def write_evidence(self, slot: int, generation: int, text: str) -> None:
        raw = text.encode("utf-8", "replace")[: _EVIDENCE_BYTES - _EVIDENCE.size]
        at = _EVIDENCE_AT + slot * _EVIDENCE_BYTES
        _EVIDENCE.pack_into(self._map, at, generation, len(raw))
        self._map[at + _EVIDENCE.size : at + _EVIDENCE.size + len(raw)] = raw

    def close(self) -> None:
        for view in self._views:
            view.release()
        self._map.close()
        with suppress(OSError):  # a test has closed all descriptors
            os.close(self.fd)


def _kept(name: str) -> bytes:
    return name.encode("utf-8", "replace")[:_NAME_BYTES]


def _at(slot: int) -> int:
    return HEADER_BYTES + slot * SLOT_BYTES
