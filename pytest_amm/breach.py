"""A budget that did not hold: judged at the end of a phase, or by what the watchdog did. Pure.

Which budget a test has is in `budget`, the words for people in `failure`, how they get to them in `breach_report`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_amm.board import RUNG_CHILD, RUNG_LIMIT, RUNG_SIGNAL, Stop

if TYPE_CHECKING:
    from pytest_amm.budget import TestBudget


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """A budget that did not hold. `scope` is session, test or emergency.

    `peak_bytes` is what is held against `budget_bytes`: for the session the absolute peak of the tree, for a test its
    growth, for an emergency the memory in use on the machine.
    """

    scope: str
    budget_bytes: int
    peak_bytes: int
    phase: str
    source: str
    stopped: bool = False
    stop_seconds: float | None = None
    """From the first look that saw the budget passed to the last that saw memory grow."""
    refused: bool = False
    """Whether a limit set beforehand refused an allocation: the peak then stays below the budget."""

    @property
    def over_bytes(self) -> int:
        return self.peak_bytes - self.budget_bytes


def judge(
    *,
    phase: str,
    tree_peak_bytes: int,
    growth_bytes: int,
    session_budget_bytes: int | None,
    test_budget: TestBudget | None,
) -> Breach | None:
    """The breach of one phase, the session's before the test's; None where both hold. Reaching a budget is allowed."""
    if session_budget_bytes is not None and tree_peak_bytes > session_budget_bytes:
        return Breach(
            scope="session",
            budget_bytes=session_budget_bytes,
            peak_bytes=tree_peak_bytes,
            phase=phase,
            source="--amm-budget",
        )
    if test_budget is not None and growth_bytes > test_budget.size_bytes:
        return Breach(
            scope="test",
            budget_bytes=test_budget.size_bytes,
            peak_bytes=growth_bytes,
            phase=phase,
            source=test_budget.source,
        )
    return None


def refusal(
    *,
    phase: str,
    refuses_bytes: int,
    tree_peak_bytes: int,
    growth_bytes: int,
    session_budget_bytes: int | None,
    test_budget: TestBudget | None,
) -> Breach:
    """The breach of a test that asked for more than a limit set beforehand allowed."""
    own = test_budget if test_budget is not None and test_budget.size_bytes == refuses_bytes else None
    return Breach(
        scope="test" if own else "session",
        budget_bytes=own.size_bytes if own else session_budget_bytes or 0,
        peak_bytes=growth_bytes if own else tree_peak_bytes,
        phase=phase,
        source=own.source if own else "--amm-budget",
        stopped=True,
        refused=True,
    )


def breach_of(stop: Stop, *, phase: str, source: str = "", tree_bytes: int = 0, growth_bytes: int = 0) -> Breach:
    """The breach that the watchdog acted on. Its last look was before the end: the peak is at least the exact one."""
    sources = {"session": "--amm-budget", "test": source or "--amm-test-budget", "emergency": "--amm-emergency"}
    least_bytes = {"session": tree_bytes, "test": growth_bytes, "emergency": 0}[stop.scope]
    return Breach(
        scope=stop.scope,
        budget_bytes=stop.budget_bytes,
        peak_bytes=max(stop.used_bytes, least_bytes),
        phase=phase,
        source=sources[stop.scope],
        stopped=True,
        stop_seconds=round(stop.grew_until_seconds - stop.started_seconds, 4),
    )


def stop_notes(stop: Stop, *, at_line: bool = False) -> list[str]:
    """How a test was stopped, in words. `at_line`: its failure shows where."""
    notes = []
    if stop.rungs & RUNG_CHILD:
        notes.append(f"its child process {stop.culprit_pid} ({stop.culprit}) had grown most and was killed")
    if stop.rungs & RUNG_LIMIT:
        notes.append("C code did not let go, so it was given no more memory")
    if stop.rungs & RUNG_SIGNAL and not stop.rungs & RUNG_LIMIT:
        notes.append("it was interrupted at the line above" if at_line else "it was interrupted")
    return notes


def one_line(error: BaseException) -> str:
    """What went wrong in a hook of somebody else, for a line of the terminal."""
    return " ".join(f"{type(error).__name__}: {error}".split())
