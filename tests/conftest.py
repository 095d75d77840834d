"""For all tests: signals as a program started from a terminal has them.

A shell that starts the suite in the background leaves SIGINT and SIGQUIT ignored, nohup SIGHUP; programs under test
would inherit that and could not be interrupted.
"""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator

import pytest


def pytest_configure() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("SIGQUIT", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@pytest.fixture(scope="module")
def frozen_imports() -> Iterator[None]:
    """A full collection costs 0.1 s while it visits all that the imports of the tests made.

    Not for what looks for the holders of an object: what is frozen is not found.
    """
    gc.freeze()
    yield
    gc.unfreeze()
