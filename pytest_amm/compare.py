"""Compares a run with earlier ones: which tests grew by more than the noise. Pure: records in, changes out.

The noise is measured, not guessed. Between two runs of the same code some tests use less than before; nobody made them
better, so what they differ by is what a difference means nothing below. Regressions only go up and leave that side
alone. Several base reports add what each test differed by among them.

With xdist the tests of a process come in another order each time. What earlier tests left resident the next can take
without growing: where that was more in the base than now, it can be all that makes a difference.

A test that failed or was skipped has not done its work: what it took then is no measure of it.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amm_exporter.units import format_ratio, format_size
from pytest_amm.terminal import shorten

_MAD_TO_SIGMA = 1.4826  # of a normal distribution
_SIGMAS = 4
_SHRINK_QUANTILE = 0.98
_SHRINK_FACTOR = 2
"""Noise goes up as often and as far as down: every second run has a test that rose by more than any fell. How often
twice that is passed, and what the order of tests explains: benchmarks/pytest_compare.py."""
LEAST_NOISE_BYTES = 256 * 1024  # the kernel counts resident pages in batches of this size on a small machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One test, before and now: its growth above where it started."""

    nodeid: str
    base_bytes: int
    now_bytes: int
    noise_bytes: int
    location: tuple[str, int] = ("", 0)

    @property
    def difference_bytes(self) -> int:
        return self.now_bytes - self.base_bytes

    @property
    def ratio(self) -> float:
        """Difference over what it was; a test that grew by nothing before is held against the noise."""
        return self.difference_bytes / max(self.base_bytes, self.noise_bytes, 1)

    @property
    def beyond_noise(self) -> bool:
        return abs(self.difference_bytes) > self.noise_bytes


def compare(bases: Sequence[Mapping[str, Any]], tests: Sequence[Mapping[str, Any]]) -> list[Change]:
    """Changes of all tests that did their work in the newest base too, the largest growth first."""
    before = [_growths(base["tests"]) for base in bases]
    now = _growths(tests)
    newest = before[-1]
    places = {test["nodeid"]: (test.get("file", ""), test.get("line", 0)) for test in tests}
    common = [key for key in now if key in newest]
    noise_bytes = noise(now[key] - newest[key] for key in common)
    lay_before, lies_now = _lay_resident(bases[-1]["tests"]), _lay_resident(tests)
    changes = [
        Change(
            nodeid=nodeid,
            base_bytes=newest[nodeid, outcome],
            now_bytes=now[nodeid, outcome],
            noise_bytes=max(
                noise_bytes,
                _spread([base[nodeid, outcome] for base in before if (nodeid, outcome) in base]),
                lay_before.get(nodeid, 0) - lies_now.get(nodeid, 0),
            ),
            location=places[nodeid],
        )
        for nodeid, outcome in common
    ]
    return sorted(changes, key=lambda change: -change.difference_bytes)


def caveats(base: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    """What the comparison with the newest base leaves out, and what may differ by itself."""
    before, now = ({test["nodeid"] for test in report["tests"]} for report in (base, document))
    compared = {nodeid for nodeid, _ in _growths(base["tests"]).keys() & _growths(document["tests"]).keys()}
    left_out = (
        (len(now - before), "new or renamed here"),
        (len(before - now), "only in the base"),
        (len((before & now) - compared), "that did not pass in both"),
    )
    if told := ", ".join(f"{count} {words}" for count, words in left_out if count):
        yield f"not compared: {told}"
    was, is_now = (_environment(report.get("session")) for report in (base, document))
    if was and was != is_now:
        yield f"the base is of {was}, this run of {is_now}: what tests take differs by that as well"


def _environment(session: object) -> str:
    """Python without its patch release, and the system; empty where the report does not say."""
    if not isinstance(session, Mapping) or not {"python", "system"} <= session.keys():
        return ""
    return f"Python {'.'.join(str(session['python']).split('.')[:2])} on {session['system']}"


def noise(differences: Iterator[int] | Sequence[int]) -> int:
    """What a difference between two runs means nothing below."""
    values = sorted(differences)
    if not values:
        return LEAST_NOISE_BYTES
    middle = statistics.median_low(values)  # of few tests: not half way to the one that changed
    sigma = _MAD_TO_SIGMA * statistics.median_low(abs(value - middle) for value in values)
    shrunk = sorted(-value for value in values if value < 0)
    # of one or two tests that shrank the largest may be a real improvement: it takes a crowd to be noise
    shrink = shrunk[min(len(shrunk) - 1, int(_SHRINK_QUANTILE * len(shrunk)))] if len(shrunk) >= 5 else 0
    return max(LEAST_NOISE_BYTES, round(_SIGMAS * sigma), _SHRINK_FACTOR * shrink)


def regressions(changes: Sequence[Change], fail_ratio: float) -> list[Change]:
    """The changes that fail the run."""
    return [change for change in changes if change.beyond_noise and change.ratio > fail_ratio]


def lines(changes: Sequence[Change], *, fail_ratio: float | None, count: int, width: int = 120) -> Iterator[str]:
    """The comparison for the terminal: what grew or shrank beyond the noise."""
    if not changes:
        yield "no test passed in both runs: nothing was compared"
        return
    told = [change for change in changes if change.beyond_noise]
    if not told:
        most = max(change.noise_bytes for change in changes)
        yield f"no test differs by more than the noise ({format_size(most)} here) among {len(changes)} in both runs"
        return
    failing = set(regressions(changes, fail_ratio)) if fail_ratio is not None else set()
    yield f"{'before':>10}{'now':>10}{'change':>10}{'noise':>10}  test"
    for change in told[:count]:
        figures = (change.base_bytes, change.now_bytes, change.difference_bytes, change.noise_bytes)
        row = "".join(f"{format_size(figure):>10}" for figure in figures)
        note = f" (more than {format_ratio(fail_ratio or 0)})" if change in failing else ""
        yield f"{row}  {shorten(change.nodeid, max(20, width - len(row) - len(note) - 2))}{note}"
    if len(told) > count:
        yield f"and {len(told) - count} more (all with -vv)"
    if failing:
        grew = "1 test grew" if len(failing) == 1 else f"{len(failing)} tests grew"
        yield f"this fails the run: {grew} by more than {format_ratio(fail_ratio or 0)} and more than the noise"


def _growths(tests: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], int]:
    """Growth by test and outcome; of several runs of one test (reruns) the last. Not of one that failed, or whose
    process ended unseen; an expected failure (`skipped`) did the same each time."""
    ended = {(test["nodeid"], test["outcome"]): test for test in tests if test["outcome"] in ("passed", "skipped")}
    return {key: int(test["growth_bytes"]) for key, test in ended.items() if test.get("phases") != []}


def _lay_resident(tests: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """By test, what was resident at its start beyond the least that its process started a test with."""
    starts = {test["nodeid"]: (test.get("worker", ""), _start_bytes(test)) for test in tests if _start_bytes(test)}
    least: dict[str, int] = {}
    for worker, start_bytes in starts.values():
        least[worker] = min(start_bytes, least.get(worker, start_bytes))
    return {nodeid: start_bytes - least[worker] for nodeid, (worker, start_bytes) in starts.items()}


def _start_bytes(test: Mapping[str, Any]) -> int:
    """0 where it is not known: its process was killed."""
    return next((int(phase["start_bytes"]) for phase in test.get("phases", ())), 0)


def _spread(values: Sequence[int]) -> int:
    return max(values) - min(values) if len(values) > 1 else 0
