"""Limits of the own process: set beforehand so that one giant allocation is refused at its line, undone afterwards.

RLIMIT_DATA counts private writable memory, reserved or touched. Tight to the budget it makes false stops (100 idle
threads, a sparse array, private file maps), so by default it refuses only what is absurd; `--amm-hard` makes it tight.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable

from pytest_amm.proctree import data_bytes

if sys.platform != "win32":
    import resource

ABSURD_RATIO = 16
"""By default an allocation is refused beforehand only from this multiple of the session budget on..."""
ABSURD_LEAST_BYTES = 4 << 30
"""...and never below this: reserving some gigabytes and touching few pages is common."""

ROOM_BYTES = 1 << 20
"""What a held process may still take, so that an exception finds the memory to end what C code had begun."""


def hold(pid: int) -> Callable[[], None]:
    """Let another process have hardly more than it has: its next allocation is a MemoryError. Returns what undoes it.

    By RLIMIT_DATA alone. RLIMIT_AS also refuses the stack to grow, and that is a SIGSEGV (acct_stack_growth in
    mm/vma.c), which needs no more than a deep call once shared maps have filled it. Raises OSError.
    """
    before, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
    held = (_least(data_bytes(pid) + ROOM_BYTES, before), hard)
    resource.prlimit(pid, resource.RLIMIT_DATA, held)

    def release() -> None:
        if resource.prlimit(pid, resource.RLIMIT_DATA) == held:  # else somebody has set it anew
            resource.prlimit(pid, resource.RLIMIT_DATA, (before, hard))

    return release


class Limits:
    """The limits of this process. Made once; with no budget it changes nothing."""

    def __init__(self, budget_bytes: int | None, *, hard: bool) -> None:
        self.hard = hard and sys.platform.startswith("linux")
        self.allowed_bytes: int | None = None
        """The growth that the limit in force allows; None where none is."""
        self._budget_bytes = budget_bytes
        self._data = (-1, -1)
        self._soft_data = -1
        if sys.platform.startswith("linux"):
            self._data = resource.getrlimit(resource.RLIMIT_DATA)
            self._soft_data = self._data[0]
            self.loosen()

    def tighten(self, tree_bytes: int, limit_bytes: int) -> None:
        """What is left of the session budget, or the test's own limit if that is less."""
        allowances = [limit_bytes] if limit_bytes else []
        if self._budget_bytes is not None:
            allowances.append(max(0, self._budget_bytes - tree_bytes))
        if allowances:
            self.allowed_bytes = min(allowances)
            self._set_data(self.allowed_bytes)

    def loosen(self) -> None:
        """Back to refusing only what is absurd."""
        self.allowed_bytes = None
        if self._budget_bytes is not None:
            self.allowed_bytes = max(ABSURD_RATIO * self._budget_bytes, ABSURD_LEAST_BYTES)
            self._set_data(self.allowed_bytes)
        elif self.hard:
            self._restore_data()

    def restore(self) -> None:
        """Undo what the watchdog lowered."""
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        with contextlib.suppress(ValueError, OSError):  # a hard limit that the test itself lowered
            resource.setrlimit(resource.RLIMIT_DATA, (self._soft_data, hard))

    def close(self) -> None:
        if self._budget_bytes is not None or self.hard:
            self._restore_data()

    def _set_data(self, growth_bytes: int) -> None:
        soft, hard = self._data
        wanted = _least(data_bytes() + growth_bytes, soft, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
            self._soft_data = wanted

    def _restore_data(self) -> None:
        if sys.platform.startswith("linux"):
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_DATA, self._data)
                self._soft_data = self._data[0]


def _least(*limits: int) -> int:
    return min(limit for limit in limits if limit != resource.RLIM_INFINITY)
