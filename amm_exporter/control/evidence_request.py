"""Evidence on request: `amm evidence --pid` leaves a request file, the process with that pid answers beside it.

The files lie in a directory that only the user can enter. The process looks for a request every few seconds (2 us);
it answers in a thread of its own, since tracing takes seconds and the sampling must go on.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from amm_exporter.control.private_directory import make_private, private_bases
from amm_exporter.errors import AMMError

if sys.platform != "win32":
    import fcntl

log = logging.getLogger("amm.control")

MAX_TRACE_SECONDS = 60.0
MAX_REQUEST_BYTES = 4096
POLL_SECONDS = 0.05


Answer = Callable[[float], dict[str, Any]]
"""Seconds to trace allocations -> the evidence."""


class NoAnswerError(AMMError):
    """A process that is there does not answer."""


class RequestBox:
    """The process's side. `look()` is called every few seconds; `answer` does the work, in a thread."""

    def __init__(self, answer: Answer, *, environ: Mapping[str, str] = os.environ) -> None:
        self._answer = answer
        self._directories = [os.fspath(base / "evidence") for base in private_bases(environ)]
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._busy = threading.Lock()
        self._requests = [f"{directory}/{self._pid}.request" for directory in self._directories]

    def look(self) -> None:
        if self._pid != os.getpid():  # a forked child: the lock may have been held, by a thread that is not here
            self._begin()
        for request in self._requests:
            if os.access(request, os.F_OK) and self._busy.acquire(blocking=False):
                self._begin_to_serve(Path(request))
                return

    def _begin_to_serve(self, request: Path) -> None:
        try:
            threading.Thread(target=self._serve, args=(request,), name="amm-evidence", daemon=True).start()
        except RuntimeError:  # no thread to be had: again at the next look
            self._busy.release()
            raise

    def _serve(self, request: Path) -> None:
        try:
            with open(request, encoding="utf-8") as file:
                asked = json.loads(file.read(MAX_REQUEST_BYTES))
            request.unlink()
            evidence = self._answer(min(MAX_TRACE_SECONDS, max(0.0, float(asked["trace_seconds"]))))
            write_whole(request.with_suffix(".answer"), evidence)
        except Exception:
            log.warning("a request for evidence could not be answered", exc_info=True)
            with suppress(OSError):
                request.unlink()
        finally:
            self._busy.release()


def ask(pid: int, *, trace_seconds: float, wait_seconds: float, proc: Path = Path("/proc")) -> dict[str, Any]:
    """The evidence of a running process. Raises AMMError where it does not answer, saying why that may be."""
    if not 0 <= trace_seconds <= MAX_TRACE_SECONDS:
        raise AMMError(f"evidence: got {trace_seconds:g} s of tracing; expected 0 to {MAX_TRACE_SECONDS:g} s")
    uid, gid = _owner(pid, proc)
    bases = private_bases(_environment(pid, proc), uid)
    with _acting_as(pid, uid, gid):
        request = _request_file(pid, bases)
        with _one_after_the_other(pid, request.parent, MAX_TRACE_SECONDS + wait_seconds):
            evidence = _asked(pid, request, trace_seconds, wait_seconds, proc)
    if evidence is None:
        raise NoAnswerError(f"process {pid} did not answer within {trace_seconds + wait_seconds:g} s")
    return evidence


def _asked(pid: int, request: Path, trace_seconds: float, wait_seconds: float, proc: Path) -> dict[str, Any] | None:
    answer = request.with_suffix(".answer")
    try:
        answer.unlink(missing_ok=True)
        write_whole(request, {"trace_seconds": trace_seconds})
    except OSError as error:
        raise AMMError(f"evidence: process {pid} cannot be asked: {error}") from error
    try:
        return _answered(pid, answer, time.monotonic() + trace_seconds + wait_seconds, proc)
    finally:
        request.unlink(missing_ok=True)
        answer.unlink(missing_ok=True)


@contextmanager
def _one_after_the_other(pid: int, directory: Path, wait_seconds: float) -> Iterator[None]:
    """There is one request and one answer for each process. Who asks holds one byte of a file for that long, the one at
    the place of its pid; the lock goes with who holds it (fcntl(2), record locks)."""
    try:
        fd = os.open(directory / "asking.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise AMMError(f"evidence: process {pid} cannot be asked: {error}") from error
    try:
        _lock_byte(fd, pid, time.monotonic() + wait_seconds)
        yield
    finally:
        os.close(fd)


def _lock_byte(fd: int, pid: int, until: float) -> None:
    while True:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, pid)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise NoAnswerError(f"process {pid} is being asked by somebody else") from None
        time.sleep(POLL_SECONDS)


def _answered(pid: int, answer: Path, until: float, proc: Path) -> dict[str, Any] | None:
    while time.monotonic() < until:
        if answer.exists():
            evidence: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
            return evidence
        if not (proc / str(pid)).exists():
            raise AMMError(f"evidence: process {pid} has ended before it answered")
        time.sleep(POLL_SECONDS)
    return None


def write_whole(path: Path, content: dict[str, Any]) -> None:
    """So that no reader meets half a file. Raises OSError, and leaves nothing then."""
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
        os.replace(partial, path)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


@contextmanager
def _acting_as(pid: int, uid: int, gid: int) -> Iterator[None]:
    """Root does this as the user of the process: the files are theirs then, and a link that they have laid there leads
    root no further than themselves."""
    if os.geteuid() != 0 or uid == 0:
        yield
        return
    own, groups = os.getegid(), os.getgroups()
    try:
        _become(pid, uid, gid)
        yield
    finally:
        with suppress(OSError):  # where it could not be given up
            os.seteuid(0)
            os.setegid(own)
            os.setgroups(groups)


def _become(pid: int, uid: int, gid: int) -> None:
    try:
        os.setgroups([])
        os.setegid(gid)
        os.seteuid(uid)
    except OSError as error:
        raise AMMError(f"evidence: cannot act as the user of process {pid}: {error.strerror}") from error


def _request_file(pid: int, bases: Iterable[Path]) -> Path:
    """In the first directory that the process looks into and that can be had."""
    problems = []
    for base in bases:
        try:
            make_private(base)
            (base / "evidence").mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            problems.append(str(error))
        else:
            return base / "evidence" / f"{pid}.request"
    raise AMMError(f"evidence: process {pid} cannot be asked: " + "; ".join(problems))


def _owner(pid: int, proc: Path) -> tuple[int, int]:
    try:
        status = (proc / str(pid)).stat()
    except OSError as error:
        raise AMMError(f"evidence: no process {pid}") from error
    return status.st_uid, status.st_gid


def _environment(pid: int, proc: Path) -> dict[str, str]:
    """The process's own, as it was started: it says where the process looks."""
    try:
        raw = (proc / str(pid) / "environ").read_bytes()
    except PermissionError as error:
        raise AMMError(f"evidence: process {pid} belongs to another user; ask as that user or as root") from error
    except OSError as error:
        raise AMMError(f"evidence: no process {pid}") from error
    pairs = (entry.split(b"=", 1) for entry in raw.split(b"\0") if b"=" in entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, value in pairs}
