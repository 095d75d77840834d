"""What there is to see when a leak is found: captured once, bounded in time and size, at most every ten minutes.

Types and what grew among them, traced lines, the largest mappings, allocators, caches and their sizes. Returned as
plain data (exporters attach it to a log record or span event) and written to a JSON file. Nothing runs until asked.
"""

from __future__ import annotations

import logging
import math
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from amm_exporter.analysis.leaks import Verdict
from amm_exporter.control.evidence_request import write_whole
from amm_exporter.errors import ProbeError
from amm_exporter.probes.allocations import SiteTrace
from amm_exporter.probes.allocator import AllocatorProbe
from amm_exporter.probes.objects import Census, ObjectProbe
from amm_exporter.probes.procfs import PROC, read_once

log = logging.getLogger("amm.control")

PAUSE_SECONDS = 600.0
"""Between captures: smaps alone holds up page faults for 13 ms a GB."""

CENSUS_SECONDS = 0.1
BUSY_CENSUS_SECONDS = 1.0
"""Where the program's threads left no time for a single pool in the first one: they run in between."""
TOP = 20
MOST_FILES = 10
LONGEST_TEXT = 200

_MAPPING = re.compile(rb"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+\s*(.*)$")


class EvidenceRecorder:
    """Captures evidence for verdicts that turned to leaking.

    `directory` None keeps it in memory only (`last`). `caches` returns statistics by name, as `CacheRegistry.read`;
    `explain` adds to a verdict that leaks what is known of its origin.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        caches: Callable[[], Mapping[str, object]] | None = None,
        explain: Callable[[str, Verdict], Verdict] = lambda series, verdict: verdict,
        pause_seconds: float = PAUSE_SECONDS,
        proc: Path = PROC,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._caches = caches
        self._explain = explain
        self._pause_seconds = pause_seconds
        self._proc = proc
        self._monotonic = monotonic
        self._wall = wall
        self._not_before = -math.inf
        self._objects = ObjectProbe(proc=proc)
        self._allocators = AllocatorProbe(proc=proc)
        self._leaking: frozenset[str] = frozenset()
        self.last: dict[str, Any] | None = None

    def remember(self) -> None:
        """Take a census to compare later ones with: growth by type is counted from here."""
        if not self._objects.unavailable:
            self._census()

    def consider(self, verdicts: Mapping[str, Verdict]) -> dict[str, Any] | None:
        """Capture if a series has turned to leaking since the last call, and the last capture is long enough ago."""
        now_leaking = frozenset(name for name, verdict in verdicts.items() if verdict.leaking)
        new = now_leaking - self._leaking
        if not new:
            self._leaking = now_leaking
            return None
        evidence = self.capture(verdicts)
        if evidence is not None:  # rate-limited ones are tried again
            self._leaking = now_leaking
        return evidence

    def capture(self, verdicts: Mapping[str, Verdict]) -> dict[str, Any] | None:
        """Capture now; None when the last capture is too recent. A part that cannot be read says why in its place."""
        now = self._monotonic()
        if now < self._not_before:
            return None
        self._not_before = now + self._pause_seconds
        evidence: dict[str, Any] = {
            "unix_seconds": self._wall(),
            "pid": os.getpid(),
            "verdicts": {name: _plain(self._explain(name, verdict)) for name, verdict in list(verdicts.items())[:TOP]},
        }
        parts: dict[str, Callable[[], object]] = {
            "allocators": self._allocators.read,
            "types": self._types,
            "sites": _sites,
            "mappings": self._mappings,
            "caches": lambda: dict(list((self._caches() if self._caches else {}).items())[:TOP]),
        }
        for name, read in parts.items():
            evidence[name] = isolated(name, read)
        self.last = evidence
        self._write(evidence)
        return evidence

    def add_growth(self, growth: Mapping[str, object]) -> dict[str, Any]:
        """Where memory grew since the last capture, into that and its file."""
        self.last = {**(self.last or {}), "growth": _plain(growth)}
        self._write(self.last)
        return self.last

    def _census(self) -> Census:
        census = self._objects.census(CENSUS_SECONDS)
        return census if census.types else self._objects.census(BUSY_CENSUS_SECONDS)

    def _types(self) -> dict[str, object]:
        census = self._census()
        return {
            "most": [(one.name, one.count, one.size_bytes) for one in census.types],
            "grown": [(one.name, one.delta) for one in census.growth],
            "sampled_ratio": census.sampled_ratio,
        }

    def _mappings(self) -> list[tuple[str, int]]:
        """The largest resident mappings by name, bytes."""
        return resident_by_mapping(read_once(self._proc / "self" / "smaps")).most_common(TOP)

    def _write(self, evidence: dict[str, Any]) -> None:
        if self._directory is None:
            return
        name = f"amm-evidence-{evidence['pid']}-{int(evidence['unix_seconds'])}.json"
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            whole = self._directory / name
            write_whole(whole, evidence)
            evidence["file"] = str(whole)
            for old in sorted(self._directory.glob("amm-evidence-*.json"), key=_written_at)[:-MOST_FILES]:
                old.unlink(missing_ok=True)
        except OSError as error:
            log.warning("evidence of a leak could not be written to %s: %s", self._directory, error)


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # a sibling has just made room for its own
        return -math.inf


def resident_by_mapping(smaps: bytes) -> Counter[str]:
    """Resident bytes by the mapping's name ("anonymous" where it has none); proc_pid_smaps(5)."""
    sizes: Counter[str] = Counter()
    name = "anonymous"
    for line in smaps.splitlines():
        if line.startswith(b"Rss:"):
            sizes[name] += int(line.split()[1]) * 1024
        elif match := _MAPPING.match(line):
            name = match[1].decode(errors="replace")[:LONGEST_TEXT] or "anonymous"
    return sizes


def _sites() -> list[tuple[str, float]]:
    return sorted(SiteTrace.sites().items(), key=lambda pair: -pair[1])[:TOP]


def isolated(name: str, read: Callable[[], object]) -> object:
    try:
        return _plain(read())
    except ProbeError as error:
        return {"unavailable": str(error)}
    except Exception as error:  # one broken part must not cost the others, nor stop the program
        log.warning("evidence of a leak: %s could not be read", name, exc_info=True)
        return {"unavailable": repr(error)[:LONGEST_TEXT]}


def _plain(value: object) -> object:
    """JSON's types only: dataclasses as dicts, what is not finite as null, long texts cut."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {_text(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int)):
        return value
    return _text(value)


def _text(value: object) -> str:
    """As UTF-8 can write it: the name of a file may hold bytes that are none."""
    return str(value)[:LONGEST_TEXT].encode(errors="backslashreplace").decode()
