"""Evidence that processes of this user have written, found again by pid. Written by `evidence`."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from amm_exporter.control.evidence_shape import is_evidence
from amm_exporter.control.holders import SUMMED


def written(directory: Path, starts: Mapping[int, float]) -> list[dict[str, Any]]:
    """That of these processes (pid to when it began): an older file is of another process that had the pid."""
    found = []
    for path in directory.glob("amm-evidence-*.json"):
        pid, _, unix_seconds = path.stem.removeprefix("amm-evidence-").partition("-")
        if pid.isdecimal() and unix_seconds.isdecimal() and int(unix_seconds) >= starts.get(int(pid), math.inf):
            found.append((path, _read(path)))
    return [{**evidence, "file": str(path)} for path, evidence in found if evidence]


def telling_most(evidence: Collection[dict[str, Any]]) -> dict[str, Any] | None:
    """The newest; but one that only saw a sum grow, its children's, comes after that of whoever grew."""
    return max(evidence, key=_weight, default=None)


def _read(path: Path) -> dict[str, Any]:
    """Empty for a file that is gone meanwhile, or none of ours."""
    try:
        evidence = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return evidence if is_evidence(evidence) else {}


def _weight(evidence: dict[str, Any]) -> tuple[bool, float]:
    leaking = [name for name, verdict in evidence["verdicts"].items() if verdict["leaking"]]
    return any(name not in SUMMED for name in leaking), float(evidence["unix_seconds"])
