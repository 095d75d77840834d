"""For all tests: signals as a program started from a terminal has them.

A shell that starts the suite in the background leaves SIGINT and SIGQUIT ignored, nohup SIGHUP; programs under test
would inherit that and could not be interrupted.
"""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("SIGQUIT", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
