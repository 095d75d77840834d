"""What to do next about a test that is over its budget: pure decisions, one step at a time.

A signal whose handler raises ends Python code and blocked calls within a millisecond. C code that holds the GIL ends
only with a MemoryError, so it gets no more memory than it has. What neither ends is killed. One thing at a
time: a signal and a lowered limit together raise twice, the second time inside `finally` blocks.
"""

from __future__ import annotations

MIB = 1 << 20

QUICK_GROWTH_BYTES = 8 * MIB
"""Growing by this right after a signal means that the handler cannot run: C code holds the GIL. The longer there is no
answer, the less growth says so: C code that builds many small objects grows slowly, and slower on a busy machine."""
ANSWER_SECONDS = 0.02
"""How long a handler may take while memory still grows. Python code answers within 1 ms."""
AGAIN_SECONDS = 0.1
"""A test that swallowed the exception, or a thread that goes on, is interrupted again after this."""
PATIENCE_SECONDS = 10.0
"""A test that stays over its budget without growing (one long C call) is killed after this."""


class Pursuit:
    """The stop of one generation of one slot. Kept by the watchdog, changed only by `see` and `note`.

    No dataclass: to load what makes one takes a quarter of the time in which the watchdog starts, in every run.
    """

    def __init__(
        self,
        *,
        generation: int,
        scope: str,
        budget_bytes: int,
        started: float,
        used_bytes: int,
        rungs: int = 0,
    ) -> None:
        self.generation = generation
        self.scope = scope
        self.budget_bytes = budget_bytes
        self.started = started
        self.used_bytes = used_bytes
        self.rungs = rungs
        self.stepped = self.grew_until = started
        self.used_at_step_bytes = used_bytes

    def see(self, now: float, used_bytes: int) -> bool:
        """Whether memory went on growing, by more than what a page or two of bookkeeping takes."""
        if used_bytes <= self.used_bytes + MIB // 4:
            return False
        self.used_bytes = used_bytes
        self.grew_until = now
        return True

    def note(self, action: str, now: float, used_bytes: int) -> None:
        self.stepped = now
        self.used_at_step_bytes = used_bytes
        self.rungs |= {"signal": 1, "limit": 2, "child": 4, "kill": 8}[action]


def next_action(
    pursuit: Pursuit,
    *,
    now: float,
    used_bytes: int,
    answered: bool,
    signalable: bool,
    child_to_blame: bool,
    endangers: bool,
) -> str | None:
    """`signal`, `limit`, `child` (kill the child that grew), `kill`, or None to wait.

    Call it only while the generation is armed; the end of the test ends the pursuit. `endangers` says that the process
    is past the ceiling of the session budget or of the machine: a test that is over its own budget alone is never worth
    a session.
    """
    since = now - pursuit.stepped
    over = used_bytes > pursuit.budget_bytes
    grown_bytes = used_bytes - pursuit.used_at_step_bytes
    if child_to_blame and over:
        return "child" if not pursuit.rungs & 4 or since > 0.005 else None
    if not pursuit.rungs & 1 and signalable:
        return "signal"
    if not pursuit.rungs & 2:
        if not signalable and over:
            return "limit"
        left_ratio = 1.0 if answered else max(0.0, 1 - since / ANSWER_SECONDS)
        if grown_bytes > QUICK_GROWTH_BYTES * left_ratio or (left_ratio == 0 and over):
            return "limit"
        return None
    if endangers or (over and pursuit.scope != "test" and now - pursuit.started > PATIENCE_SECONDS):
        return "kill"
    if signalable and since > AGAIN_SECONDS and (grown_bytes > 0 or not answered or since > 1.0) and over:
        return "signal"
    return None
