"""What was measured of one test, as a value and as plain data that crosses process borders and stands in reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from pytest_amm.budget import Breach

PHASES = ("setup", "call", "teardown")


class Phase(NamedTuple):
    """Setup, call or teardown. `peak_bytes` is the own process's exact peak, `tree_peak_bytes` that of the process tree
    (the same where no child ran), `children_bytes` the most that child processes had at one time.

    A tuple, as three are made for each test; a frozen dataclass takes four times as long to make.
    """

    name: str
    start_bytes: int
    peak_bytes: int
    end_bytes: int
    tree_peak_bytes: int
    children_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One test. `kept_bytes` is what stayed resident after its teardown; `slack_bytes` the free heap that was resident
    when it started, which it could use again without growing."""

    nodeid: str
    outcome: str
    start_seconds: float
    seconds: float
    phases: tuple[Phase, ...]
    worker: str = ""
    slack_bytes: int = 0
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
        return max(0, self.peak_bytes - self.start_bytes)

    @property
    def kept_bytes(self) -> int:
        return self.phases[-1].end_bytes - self.start_bytes if self.phases else 0

    @property
    def peak_phase(self) -> str:
        return max(self.phases, key=lambda phase: phase.tree_peak_bytes).name if self.phases else "call"


def killed_record(nodeid: str, breach: Breach) -> Record:
    """What is known of a test whose process was killed."""
    phase = Phase("call", 0, breach.peak_bytes, 0, breach.peak_bytes)
    path = nodeid.partition("::")[0]
    return Record(
        nodeid=nodeid,
        outcome="failed",
        start_seconds=0.0,
        seconds=0.0,
        phases=(phase,),
        location=(path, 1),
        breach=breach,
    )


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
    breach = data.get("breach")
    return Record(
        nodeid=data["nodeid"],
        outcome=data["outcome"],
        start_seconds=data["start_seconds"],
        seconds=data["seconds"],
        worker=data.get("worker", ""),
        location=(data.get("file", ""), data.get("line", 0)),
        slack_bytes=data.get("slack_bytes", 0),
        budget_bytes=data.get("budget_bytes"),
        leak=data.get("leak", ""),
        phases=tuple(Phase(**phase) for phase in data["phases"]),
        breach=Breach(**breach) if breach else None,
    )


def pack(record: Record) -> tuple[Any, ...]:
    """Tuples, numbers and strings alone: what xdist carries from a worker to the controller."""
    values = [getattr(record, name) for name in _FIELDS]
    values[_BREACH] = tuple(asdict(record.breach).items()) if record.breach else None
    values[_PHASES] = tuple(tuple(phase) for phase in record.phases)
    return tuple(values)


def unpack(packed: Sequence[Any]) -> Record:
    """The record of `pack`."""
    values: dict[str, Any] = dict(zip(_FIELDS, packed, strict=True))
    values["phases"] = tuple(Phase(*phase) for phase in values["phases"])
    values["breach"] = Breach(**dict(values["breach"])) if values["breach"] else None
    values["location"] = tuple(values["location"])
    return Record(**values)


_FIELDS = tuple(each.name for each in fields(Record))
_PHASES, _BREACH = _FIELDS.index("phases"), _FIELDS.index("breach")
