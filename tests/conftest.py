"""For all tests: signals as a program started from a terminal has them, and collections that look at a test's own.

A shell that starts the suite in the background leaves SIGINT and SIGQUIT ignored, nohup SIGHUP; programs under test
would inherit that and could not be interrupted.
"""

from __future__ import annotations

import gc
import signal


def pytest_configure() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("SIGQUIT", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """A full collection costs 0.1 s while it visits all that the imports made, and the unit tests alone ask for 80."""
    gc.collect()
    gc.freeze()
