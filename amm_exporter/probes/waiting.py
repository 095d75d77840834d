"""How long a thread had to wait for a processor: what a loaded machine takes from a measurement that has little time.

Linux tells it in the second field of /proc/thread-self/schedstat, in nanoseconds on the run queue (the kernel's
Documentation/scheduler/sched-stats.rst). Where there is no such file, as on other systems, nothing is ever waited.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from amm_exporter.errors import ProbeError
from amm_exporter.probes.procfs import PROC, KeptFile

MOST_WAITED = 2 / 3
"""Share of the time that counts as waited at most: whoever set a time limit did not mean to wait for ever."""


class UnhinderedClock:
    """Seconds that pass for the thread that made it, less what it waited for a processor. To be closed."""

    def __init__(self, *, proc: Path = PROC, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._file = KeptFile(proc / "thread-self" / "schedstat")
        self._start = clock()
        self._waited_at_start = self._waited_seconds()

    def __call__(self) -> float:
        passed = self._clock() - self._start
        waited = self._waited_seconds() - self._waited_at_start
        return passed - min(max(0.0, waited), passed * MOST_WAITED)

    def close(self) -> None:
        self._file.close()

    def _waited_seconds(self) -> float:
        if self._file.is_lost:  # a daemon has closed it, and its number may be another file's
            self._file.close()
        try:
            return int(self._file.read(128).split()[1]) / 1e9
        except (ProbeError, IndexError, ValueError):
            return 0.0
