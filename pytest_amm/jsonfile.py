"""The JSON report: a valid document after every test, so that a killed run leaves what it had finished.

The file ends with the same few bytes at all times. A new test is written over them together with a new ending, in one
write. The schema is in docs/pytest.md; fields are only added within a version of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from os import pwrite
from typing import Any

from amm_exporter.errors import AMMError
from amm_exporter.probes.procfs import out_of_the_way
from amm_exporter.units import MIB

SCHEMA = "amm-pytest/1"
_ENDING = b"\n]}\n"


class JsonReport:
    """Writes one report. `add` after each test, `complete` at the end of the run."""

    def __init__(self, path: str, session: Mapping[str, Any]) -> None:
        self.path = os.path.realpath(path)  # behind a link the file is replaced, not the link
        self._fd = self._open(os.O_CREAT | os.O_TRUNC)
        head = json.dumps({"schema": SCHEMA, "complete": False, "session": dict(session)})[:-1] + ', "tests": ['
        self._end = self._write(head.encode(), at=0)
        self._empty = True

    def add(self, test: Mapping[str, Any]) -> None:
        text = ("\n" if self._empty else ",\n") + json.dumps(test)
        self._end = self._write(text.encode(), at=self._end)
        self._empty = False

    def complete(self, document: Mapping[str, Any]) -> None:
        """Replace the file by the whole report: the summary before the tests, where a reader looks first."""
        document = {"schema": SCHEMA, "complete": True, **document}
        fresh = f"{self.path}.{os.getpid()}.tmp"
        with open(fresh, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1, allow_nan=False)  # others add to it; NaN is no JSON
            file.write("\n")
        os.replace(fresh, self.path)
        self.close()

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(OSError):  # a test has closed all descriptors
                os.close(fd)

    def _open(self, flags: int = 0) -> int:
        return out_of_the_way(os.open(self.path, os.O_WRONLY | flags | getattr(os, "O_CLOEXEC", 0), 0o644))

    def _write(self, text: bytes, *, at: int) -> int:
        try:
            pwrite(self._fd, text + _ENDING, at)
        except OSError:  # a test has closed it
            self._fd = self._open()
            pwrite(self._fd, text + _ENDING, at)
        return at + len(text)


class ReportError(AMMError, ValueError):
    """A file that is no JSON report of this plugin."""


def load(path: str) -> dict[str, Any]:
    """A report of `JsonReport`. Raises ReportError with one line when the file is none."""
    name = os.path.basename(path)
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise ReportError(f"{name}: not a JSON report of --amm-json ({error})") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ReportError(f"{name}: not a JSON report of --amm-json (no schema {SCHEMA!r})")
    tests = document.get("tests")
    if not isinstance(tests, list) or not all(map(_is_test, tests)):
        raise ReportError(f"{name}: not a JSON report of --amm-json (its tests are not as documented)")
    return document


def _is_test(test: object) -> bool:
    """Whether it has what is read of it again: by `--amm-compare`, and to suggest budgets."""
    return (
        isinstance(test, dict)
        and all(isinstance(test.get(name), str) for name in ("nodeid", "outcome"))
        and all(isinstance(test.get(name), int) for name in ("peak_bytes", "growth_bytes"))
        and isinstance(test.get("worker", ""), str)
        and isinstance(test.get("phases"), list)
        and all(isinstance(phase, dict) and isinstance(phase.get("start_bytes"), int) for phase in test["phases"])
    )


def summary(tests: Sequence[Mapping[str, Any]], budget_bytes: int | None) -> dict[str, Any]:
    """The figures of the whole run."""
    peak_bytes = max((test["peak_bytes"] for test in tests), default=0)
    return {
        "tests": len(tests),
        "over_budget": sum(test["breach"] is not None for test in tests),
        "stopped": sum(bool(test["breach"] and test["breach"]["stopped"]) for test in tests),
        "peak_bytes": peak_bytes,
        "budget_bytes": budget_bytes,
        "budget_ratio": round(peak_bytes / budget_bytes, 4) if budget_bytes else None,
        "peak_mib": round(peak_bytes / MIB, 1),
    }
