"""Running a program as a child that cannot tell it is one: its signals, its terminal, its exit status."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from amm_exporter.cli.outside import Watch
from amm_exporter.errors import AMMError, ProbeError
from amm_exporter.policy import Policy

_FORWARDED = {
    signal.Signals(number)
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGWINCH", "SIGCONT")
    if (number := getattr(signal, name, None)) is not None
}
_FROM_KERNEL = 0x80
"""si_code SI_KERNEL: the terminal sent it, to the child as well, which is in the same process group (sigaction(2))."""


def run_child(executable: str, command: Sequence[str], policy: Policy, open_watch: Callable[[], Watch]) -> int:
    """Start the program, watch it from outside, and end as it does."""
    logging.getLogger("amm").addHandler(logging.NullHandler())  # stderr is the program's
    waited_for = _FORWARDED | {signal.SIGCHLD}
    # Blocked before any thread starts, so that every thread inherits it and only sigwaitinfo below takes them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
    try:
        return _end_like(_watched(executable, command, policy, open_watch(), before))
    finally:
        while signal.sigtimedwait(waited_for, 0):
            pass  # came when the program had ended: for nobody
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _watched(
    executable: str, command: Sequence[str], policy: Policy, watch: Watch, mask: set[signal.Signals | int]
) -> int:
    """The wait status of the program. The watch was opened before: an address that cannot be had is told first."""
    try:
        pid = _spawn(executable, command, mask)
        _attach(watch, policy, pid)
        return _wait(pid, _FORWARDED | {signal.SIGCHLD})
    finally:
        watch.stop()


def _attach(watch: Watch, policy: Policy, pid: int) -> None:
    try:
        watch.attach(policy, pid)
    except ProbeError:
        pass  # it ended at once: nothing to watch, its status is still to come
    except Exception as error:  # noqa: BLE001 - the program has started and goes on without AMM
        sys.stderr.write(f"amm: off, since it could not start: {type(error).__name__}: {error}\n")


def _spawn(executable: str, command: Sequence[str], mask: set[signal.Signals | int]) -> int:
    """With the signal mask and dispositions of a program started directly."""
    try:
        return os.posix_spawn(
            executable,
            list(command),
            os.environ,
            setsigmask=mask,
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )
    except OSError as error:
        raise AMMError(f"run: {executable} cannot be executed: {error.strerror}") from error


def _wait(pid: int, waited_for: set[signal.Signals]) -> int:
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        info = signal.sigwaitinfo(waited_for)
        if info.si_signo != signal.SIGCHLD and info.si_code != _FROM_KERNEL:
            with suppress(ProcessLookupError):
                os.kill(pid, info.si_signo)


def _end_like(status: int) -> int:
    """The child's exit status; where a signal ended it, end by the same one, as a shell would see it."""
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status)
    number = os.WTERMSIG(status)
    sys.stdout.flush()
    with suppress(ImportError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the child's core is the one of interest
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    return 128 + number
