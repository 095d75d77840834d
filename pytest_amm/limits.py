"""Limits of the own process: set beforehand so that one giant allocation is refused at its line, undone afterwards.

RLIMIT_DATA counts private writable memory, reserved or touched. Tight to the budget it makes false stops (100 idle
threads, a sparse array, private file maps), so by default it refuses only what is absurd; `--amm-hard` makes it tight.
"""

from __future__ import annotations

import contextlib
import sys

from pytest_amm.proctree import address_space_bytes, data_bytes

if sys.platform != "win32":
    import resource

ABSURD_RATIO = 16
"""By default an allocation is refused beforehand only from this multiple of the session budget on..."""
ABSURD_LEAST_BYTES = 4 << 30
"""...and never below this: reserving some gigabytes and touching few pages is common."""

HEAP_ROOM_BYTES = (64 << 20) - (1 << 16)
"""glibc reserves 64 MiB for a thread's heap (HEAP_MAX_SIZE) and makes it writable piece by piece. The kernel refuses a
piece by RLIMIT_DATA only while RLIMIT_AS has room for it (mprotect_fixup in mm/mprotect.c); one more heap has none."""


def hold(pid: int) -> None:
    """Let another process have no more than it has: its next allocation is a MemoryError. Raises OSError."""
    _lower(pid, resource.RLIMIT_DATA, data_bytes(pid))
    _lower(pid, resource.RLIMIT_AS, address_space_bytes(pid) + HEAP_ROOM_BYTES)


class Limits:
    """The limits of this process. Made once; with no budget it changes nothing."""

    def __init__(self, budget_bytes: int | None, *, hard: bool) -> None:
        self.hard = hard and sys.platform.startswith("linux")
        self.allowed_bytes: int | None = None
        """The growth that the limit in force allows; None where none is."""
        self._budget_bytes = budget_bytes
        self._data = self._address_space = (-1, -1)
        self._soft_data = -1
        if sys.platform.startswith("linux"):
            self._data = resource.getrlimit(resource.RLIMIT_DATA)
            self._soft_data = self._data[0]
            self._address_space = resource.getrlimit(resource.RLIMIT_AS)
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
        for kind, soft in ((resource.RLIMIT_AS, self._address_space[0]), (resource.RLIMIT_DATA, self._soft_data)):
            _, hard = resource.getrlimit(kind)
            with contextlib.suppress(ValueError, OSError):  # a hard limit that the test itself lowered
                resource.setrlimit(kind, (soft, hard))

    def close(self) -> None:
        if self._budget_bytes is not None or self.hard:
            self._restore_data()

    def _set_data(self, growth_bytes: int) -> None:
        soft, hard = self._data
        wanted = data_bytes() + growth_bytes
        bounds = [bound for bound in (wanted, soft, hard) if bound != resource.RLIM_INFINITY]
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_DATA, (min(bounds), hard))
            self._soft_data = min(bounds)

    def _restore_data(self) -> None:
        if sys.platform.startswith("linux"):
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_DATA, self._data)
                self._soft_data = self._data[0]


def _lower(pid: int, kind: int, soft: int) -> None:
    _, hard = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (soft, hard))
