"""The id of a run, borne by all that it starts: by this its watchdog knows what a killed run has left (`remains`).

It stands in two places. The variable goes to programs that are started, and says which run is inside which. The soft
limit of file locks goes to every process below, by fork and by exec, whatever environment it was given: since Linux 2.6
nothing is held against it (getrlimit(2), RLIMIT_LOCKS), so any number does. Both are as before once the run has ended.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import pytest

from pytest_amm.remains import VARIABLE

if sys.platform != "win32":
    import resource

RLIMIT_LOCKS = 10
"""Of every architecture; the module `resource` has no name for it."""
RUN_ID = pytest.StashKey[str]()


def mark(config: pytest.Config) -> str:
    """The id of this run. From the first call on all that is started here bears it."""
    if RUN_ID not in config.stash:
        config.stash[RUN_ID] = run_id = new_id()
        patch = pytest.MonkeyPatch()
        config.add_cleanup(patch.undo)
        patch.setenv(VARIABLE, run_id, prepend=":")
        with suppress(OSError, ValueError, OverflowError):  # a sandbox, a hard limit below it, 32 bits
            before = resource.getrlimit(RLIMIT_LOCKS)
            resource.setrlimit(RLIMIT_LOCKS, (int(run_id), before[1]))
            config.add_cleanup(lambda: resource.setrlimit(RLIMIT_LOCKS, before))
    return config.stash[RUN_ID]


def new_id() -> str:
    """19 digits: a number that a limit can be."""
    return str(10**18 + int.from_bytes(os.urandom(7), "big"))


def mark_early(config: pytest.Config) -> None:
    """Before conftest files are imported: they may fork as well. A worker of xdist bears the id of its controller;
    what is started by a test in a worker has xdist's variable too, and may be a run of its own."""
    if not ("PYTEST_XDIST_WORKER" in os.environ and VARIABLE in os.environ):
        mark(config)
