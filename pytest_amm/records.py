"""What was measured of one test, as a value and as plain data that crosses process borders and stands in reports."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pytest_amm.breach import Breach

PHASES = ("setup", "call", "teardown")
RERUN = "rerun"
"""The outcome of a run that failed and does not count, as another follows (pytest-rerunfailures)."""


class Phase(NamedTuple):
    """Setup, call or teardown. `peak_bytes` is the own process's exact peak, `tree_peak_bytes` that of the process tree
    (the same where no child ran), `children_bytes` the most that child processes had at one time, `earlier_bytes` what
    those that were there before the test had when it began, as far as it is in the tree's peak.

    A tuple, as three are made for each test; a frozen dataclass takes four times as long to make.
    """

    name: str
    start_bytes: int
    peak_bytes: int
    end_bytes: int
    tree_peak_bytes: int
    children_bytes: int = 0
    earlier_bytes: int = 0

    @property
    def reached_bytes(self) -> int:
        """How far the test went in it, whatever a server of the session has: the own peak is exact, and may be the
        higher one though the tree's peak has more in it."""
        return max(self.peak_bytes, self.tree_peak_bytes - self.earlier_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One test. `kept_bytes` is what stayed resident after its teardown; `slack_bytes` the free heap that was resident
    when it started, which it could use again without growing, or None where malloc does not tell."""

    nodeid: str
    outcome: str
    start_seconds: float
    seconds: float
    phases: tuple[Phase, ...]
    worker: str = ""
    slack_bytes: int | None = None
    location: tuple[str, int] = ("", 0)
    breach: Breach | None = None
    budget_bytes: int | None = None
    leak: str = ""
    """What the leak gate decided: leak, clean, undecided or not repeatable; empty where it was not asked."""

    @property
    def start_bytes(self) -> int:
        return self.phases[0].start_bytes if self.phases else 0

    @property
    def peak_bytes(self) -> int:
        return max((phase.tree_peak_bytes for phase in self.phases), default=0)

    @property
    def growth_bytes(self) -> int:
        return max(0, max((phase.reached_bytes for phase in self.phases), default=0) - self.start_bytes)

    @property
    def kept_bytes(self) -> int:
        return self.phases[-1].end_bytes - self.start_bytes if self.phases else 0

    @property
    def peak_phase(self) -> str:
        return max(self.phases, key=lambda phase: phase.tree_peak_bytes).name if self.phases else "call"


def to_data(record: Record) -> dict[str, Any]:
    """Plain dicts, lists, numbers and strings: the `tests` entries of the JSON report."""
    return {
        "nodeid": record.nodeid,
        "outcome": record.outcome,
        "start_seconds": round(record.start_seconds, 6),
        "seconds": round(record.seconds, 6),
        "worker": record.worker,
        "file": record.location[0],
        "line": record.location[1],
        "peak_bytes": record.peak_bytes,
        "growth_bytes": record.growth_bytes,
        "kept_bytes": record.kept_bytes,
        "slack_bytes": record.slack_bytes,
        "budget_bytes": record.budget_bytes,
        "leak": record.leak,
        "phases": [phase._asdict() for phase in record.phases],
        "breach": asdict(record.breach) if record.breach else None,
    }


def from_data(data: Mapping[str, Any]) -> Record:
    """The record of `to_data`. Raises KeyError or TypeError for anything else."""
    from pytest_amm.breach import Breach

    breach = data.get("breach")
    return Record(
        nodeid=data["nodeid"],
        outcome=data["outcome"],
        start_seconds=data["start_seconds"],
        seconds=data["seconds"],
        worker=data.get("worker", ""),
        location=(data.get("file", ""), data.get("line", 0)),
        slack_bytes=data.get("slack_bytes"),
        budget_bytes=data.get("budget_bytes"),
        leak=data.get("leak", ""),
        phases=tuple(Phase(**phase) for phase in data["phases"]),
        breach=Breach(**breach) if breach else None,
    )


def pack(
    nodeid: str,
    outcome: str,
    start_seconds: float,
    seconds: float,
    worker: str,
    path: str,
    line: int,
    breach: Breach | None,
    budget_bytes: int | None,
    leak: str,
    slack_bytes: int | None,
    growth_bytes: int,
    peak_bytes: int,
    numbers: tuple[Any, ...],
) -> tuple[Any, ...]:
    """A record of numbers and strings in two flat tuples: what xdist carries from a worker to the controller.

    One is made for each test and few are read, so it is no Record yet, which takes ten times as long to make; and flat,
    since such a tuple the collector stops to track (a named tuple it walks at every full collection).
    """
    carried = tuple(asdict(breach).items()) if breach is not None else None
    return (
        nodeid, outcome, start_seconds, seconds, worker, path, line, carried, budget_bytes, leak, slack_bytes,
        growth_bytes, peak_bytes, numbers,
    )  # fmt: skip


def packed(record: Record) -> tuple[Any, ...]:
    """The same of a record that is there already."""
    return pack(
        record.nodeid,
        record.outcome,
        record.start_seconds,
        record.seconds,
        record.worker,
        *record.location,
        record.breach,
        record.budget_bytes,
        record.leak,
        record.slack_bytes,
        record.growth_bytes,
        record.peak_bytes,
        tuple(chain.from_iterable(record.phases)),
    )


_OUTCOME, _BREACH, _LEAK, _GROWTH, _PEAK = 1, 7, 9, 11, 12
"""Where they stand in a packed record."""


def of_outcome(values: Sequence[Any], outcome: str) -> tuple[Any, ...]:
    """The packed record with another outcome."""
    return (*values[:_OUTCOME], outcome, *values[_OUTCOME + 1 :])


def to_tell(packed_records: Sequence[Sequence[Any]], top_count: int) -> list[Record]:
    """The records that a summary of the run speaks of: breaches, leak decisions, the highest, the `top_count` that grew
    most. The others stay packed."""
    chosen = {index for index, values in enumerate(packed_records) if values[_BREACH] or values[_LEAK]}
    heaviest = heapq.nlargest(top_count, enumerate(packed_records), key=lambda each: (each[1][_GROWTH], each[1][_PEAK]))
    chosen.update(index for index, _ in heaviest)
    if packed_records:
        peaks = list(map(itemgetter(_PEAK), packed_records))
        chosen.add(peaks.index(max(peaks)))
    return [unpack(packed_records[index]) for index in sorted(chosen)]


def unpack(values: Sequence[Any]) -> Record:
    """The record of `pack`."""
    (
        nodeid, outcome, start_seconds, seconds, worker, path, line, carried, budget_bytes, leak, slack_bytes,
        _, _, numbers,
    ) = values  # fmt: skip
    return Record(
        nodeid=nodeid,
        outcome=outcome,
        start_seconds=start_seconds,
        seconds=seconds,
        phases=tuple(phases_of(numbers)),
        worker=worker,
        slack_bytes=slack_bytes,
        location=(path, line),
        breach=_breach(carried),
        budget_bytes=budget_bytes,
        leak=leak,
    )


def phases_of(numbers: Sequence[Any]) -> list[Phase]:
    """The phases whose fields follow one another in a packed record."""
    width = len(Phase._fields)
    return [Phase(*numbers[at : at + width]) for at in range(0, len(numbers), width)]


END = Phase._fields.index("end_bytes") - len(Phase._fields)
"""Where the numbers of phases have what the last one ended with."""


def with_end(numbers: tuple[Any, ...], end_bytes: int) -> tuple[Any, ...]:
    """The numbers of phases of which the last ended with so much: more was given back after it."""
    return (*numbers[:END], end_bytes, *numbers[END + 1 :])


def _breach(carried: Sequence[Any] | None) -> Breach | None:
    if not carried:
        return None
    from pytest_amm.breach import Breach

    return Breach(**dict(carried))


def junit_properties(record: Record) -> list[tuple[str, object]]:
    """What stands as properties of the test case in a JUnit file."""
    figures: list[tuple[str, object]] = []
    if record.phases:  # else its process is gone, and nobody saw its peak
        figures += [
            ("amm_peak_bytes", record.peak_bytes),
            ("amm_growth_bytes", record.growth_bytes),
            ("amm_kept_bytes", record.kept_bytes),
        ]
    if record.breach:
        from pytest_amm.failure import headline

        figures.append(("amm_breach", headline(record.breach)))
    return figures
