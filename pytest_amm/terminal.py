"""The memory section at the end of a run: which tests were heaviest, over budget or stopped. Pure: lines of text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from amm_exporter.units import MIB, format_ratio, format_size
from pytest_amm.records import Record

_COLUMNS = ("peak", "growth", "kept")
_FIGURE_WIDTH = 10
_BAR_WIDTH = 8
_LEAST_WITH_BAR = 72
"""Columns below which there are no bars: what they leave for the names of tests would tell too little."""
_DECISIONS = ("leak", "clean", "undecided", "not repeatable")
_NOTES = (" (leaks)", " (stopped)", " (over budget)")
_SLACK_TOLD_BYTES = 16 * MIB
_EIGHTHS = " ▏▎▍▌▋▊▉█"
HIDDEN = "a caught MemoryError was not looked for: a debugger or coverage traces calls, before Python 3.12"


def section(records: Sequence[Record], *, width: int, top_count: int, budget_bytes: int | None) -> Iterator[str]:
    """Tests that broke a budget or leak, then the heaviest by growth, each with a bar relative to the heaviest."""
    failed = [record for record in records if fails(record)]
    others = [record for record in records if not fails(record)]
    shown = sorted(failed, key=_weight) + sorted(others, key=_weight)
    shown = shown[: max(top_count, len(failed) if top_count else 0)]
    space = " " * (_BAR_WIDTH + 2) if width >= _LEAST_WITH_BAR else ""
    if shown:
        yield "".join(f"{name:>{_FIGURE_WIDTH}}" for name in _COLUMNS) + f"{space}  test"
    most_bytes = max((record.growth_bytes for record in records), default=0)
    for record in shown:
        yield _row(record, width=width, most_bytes=most_bytes)
    yield from footer(records, budget_bytes=budget_bytes)
    yield from warned(records)
    yield from slack(records)
    yield from leaks(records)


def warned(records: Sequence[Record]) -> Iterator[str]:
    """By how much tests went over that passed all the same, or failed as expected (`--amm-on-breach=warn`): no failure
    says it."""
    from pytest_amm.failure import headline

    for record in records:
        if record.breach is not None and record.outcome in ("passed", "skipped"):
            yield f"warning: {record.nodeid}: {headline(record.breach)}"


def fails(record: Record) -> bool:
    """Whether memory is what is wrong with the test: it is shown however light it is."""
    return record.breach is not None or record.leak == "leak"


def is_bad(line: str) -> bool:
    """Whether a line of the section is of a test that broke a budget or leaks."""
    return line.endswith(_NOTES)


def slack(records: Sequence[Record]) -> Iterator[str]:
    """How much the growth of a test may hide, where that is enough to matter."""
    most_bytes = max((record.slack_bytes or 0 for record in records), default=0)
    if most_bytes >= _SLACK_TOLD_BYTES:
        yield f"slack: up to {format_size(most_bytes)} of free heap could be taken again without showing as growth"


def footer(records: Sequence[Record], *, budget_bytes: int | None) -> Iterator[str]:
    """The highest point of the run against the budget."""
    top = max(records, key=lambda record: record.peak_bytes, default=None)
    if top is None:
        return
    share = _share(top.peak_bytes, budget_bytes)
    yield f"highest: {format_size(top.peak_bytes)} in {top.peak_phase} of {top.nodeid}{share}"


def tree(peak_bytes: int, source: str, *, budget_bytes: int | None) -> str:
    """The most that all processes of the run had at one time, and who saw it."""
    who = "the run's own cgroup" if source == "cgroup" else "the watchdog's samples"
    return f"process tree: at most {format_size(peak_bytes)} at one time, by {who}{_share(peak_bytes, budget_bytes)}"


def _share(peak_bytes: int, budget_bytes: int | None) -> str:
    if not budget_bytes:
        return ""
    return f", {format_ratio(peak_bytes / budget_bytes)} of the budget of {format_size(budget_bytes)}"


def tight(used_ratio: float, warn_ratio: float | None) -> str:
    """The warning that the machine was nearly full, or stood still for memory."""
    since = "every task stood still for memory and" if warn_ratio is None else f"from {format_ratio(warn_ratio)} on"
    return (
        f"warning: up to {format_ratio(used_ratio)} of the memory of this machine or container was in use; "
        f"{since} free memory was given back after each test"
    )


def leaks(records: Sequence[Record]) -> Iterator[str]:
    """What the leak gate decided, and which tests it could not decide."""
    decided = [record.leak for record in records if record.leak]
    if not decided:
        return
    yield "leak gate: " + ", ".join(f"{decided.count(word)} {word}" for word in _DECISIONS if word in decided)
    for record in records:
        if record.leak in ("undecided", "not repeatable"):
            yield f"  {record.leak}: {record.nodeid}"
    if "undecided" in decided:
        yield '  next: -rP says what was measured; @pytest.mark.amm_leak(time_limit="1m") gives a test longer'


def bar(ratio: float, width: int) -> str:
    """A bar of eighths of a character; empty at 0, full at 1."""
    eighths = round(min(1.0, max(0.0, ratio)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def shorten(text: str, width: int) -> str:
    """The text, or its end: in a test id the end tells more than the path does. Parameters leave room for the name."""
    if _columns(text) <= width:
        return text
    name, bracket, parameters = text.partition("[")
    return _end(name + bracket + _end(parameters, width // 2), width)


def _end(text: str, width: int) -> str:
    if _columns(text) <= width:
        return text
    kept = text[-max(1, width - 1) :]
    while len(kept) > 1 and _columns(kept) > width - 1:
        kept = kept[1:]
    return "…" + kept


def _columns(text: str) -> int:
    """How wide it is drawn: signs of Chinese, Japanese and Korean take two columns."""
    return len(text) + sum(unicodedata.east_asian_width(sign) in "WF" for sign in text)


def _weight(record: Record) -> tuple[int, int]:
    return (-record.growth_bytes, -record.peak_bytes)


def _row(record: Record, *, width: int, most_bytes: int) -> str:
    figures = (record.peak_bytes, record.growth_bytes, record.kept_bytes)
    start = "".join(f"{format_size(figure):>{_FIGURE_WIDTH}}" for figure in figures)
    if width >= _LEAST_WITH_BAR:
        start += "  " + bar(record.growth_bytes / most_bytes if most_bytes else 0.0, _BAR_WIDTH)
    note = _note(record)
    return f"{start}  {shorten(record.nodeid, max(12, width - len(start) - len(note) - 2))}{note}"


def _note(record: Record) -> str:
    leaks, stopped, over = _NOTES
    if record.breach is None:
        return leaks if record.leak == "leak" else ""
    return stopped if record.breach.stopped else over
