"""What is left to do when pytest itself was killed: the JUnit file and a few lines, from the JSON report so far.

Which processes are left, and how they end, is in `remains`. Runs in the watchdog, so: standard library only.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO
from xml.sax.saxutils import escape, quoteattr

from pytest_amm.board import RUNG_KILL, Board, Stop
from pytest_amm.evidence import from_text
from pytest_amm.remains import Remains

_ENDING = b"\n]}\n"


def clear_up(
    board: Board, settings: dict[str, Any], seen: list[tuple[int, int]], began: Mapping[int, float] | None = None
) -> None:
    """`seen`: pids and start times of the tree, the run's own process first; `began`: when the test in each slot did.

    The reports come before the search: to read the memory map of a process may take long on a machine out of memory.
    """
    (_, since), *others = seen
    remains = Remains(settings["run_id"], since, others)
    remains.ask()
    try:
        if settings["aftermath"]:
            tell(board, settings["aftermath"], sys.stderr, began or {})
    finally:
        remains.end()


def tell(board: Board, settings: dict[str, Any], terminal: TextIO, began: Mapping[int, float]) -> None:
    """Complete the reports that were asked for with the test that ran last, and say what happened."""
    killed = last_test(board, began)
    journal = settings.get("json")
    tests: list[dict[str, Any]] = []
    if journal and os.path.exists(journal):
        report = _read(journal)
        tests = report["tests"]
        if killed:
            killed["start_seconds"] = _since_start(report, killed["start_seconds"])
            append(journal, killed)
            tests.append(killed)
    if settings.get("junit"):
        fresh = f"{settings['junit']}.tmp"
        with open(fresh, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(junit(tests or ([killed] if killed else [])))
        os.replace(fresh, settings["junit"])
    if settings.get("temporary") and journal:
        os.unlink(journal)
    if killed:
        terminal.write(f"\namm: {killed['message']}\namm: killed pytest in {killed['nodeid']}; reports are complete\n")
    else:
        terminal.write("\namm: pytest was killed from outside; the reports hold what had finished\n")
    terminal.flush()


def _read(journal: str) -> dict[str, Any]:
    with open(journal, encoding="utf-8") as file:
        report: dict[str, Any] = json.load(file)
    return report


def _since_start(report: Mapping[str, Any], unix_seconds: float) -> float:
    """0 where it is not known, or the clock on the wall was set back."""
    started = report["session"]["started_unix_seconds"]
    return round(max(0.0, unix_seconds - started), 3) if unix_seconds else 0.0


def last_test(board: Board, began: Mapping[int, float]) -> dict[str, Any] | None:
    """The record of the test that was running, and why it was killed. Its start is in unix seconds yet."""
    for slot in board.slots():
        stop, owner = board.stop(slot), board.owner(slot)
        ours = bool(stop.rungs & RUNG_KILL)
        if ours or owner.armed:
            nodeid, since = board.name(slot), began.get(slot, 0.0)
            base_bytes, peak_bytes = owner.base_bytes, max(owner.base_bytes, stop.own_bytes)
            return {
                "nodeid": nodeid,
                "outcome": "killed",
                "start_seconds": since,
                "seconds": round(max(0.0, time.time() - since), 3) if since else 0.0,
                "worker": "",
                "file": nodeid.partition("::")[0],
                "line": 0,
                "peak_bytes": peak_bytes if ours else 0,
                "growth_bytes": peak_bytes - base_bytes if ours else 0,
                "kept_bytes": 0,
                "slack_bytes": None,
                "budget_bytes": owner.growth_limit_bytes or None,
                "leak": "",
                "phases": [_phase(base_bytes, peak_bytes)] if ours else [],
                "breach": _breach(stop) if ours else None,
                "message": _message(board, slot, stop) if ours else "killed from outside",
            }
    return None


def _phase(base_bytes: int, peak_bytes: int) -> dict[str, Any]:
    return {
        "name": "call",
        "start_bytes": base_bytes,
        "peak_bytes": peak_bytes,
        "end_bytes": base_bytes,
        "tree_peak_bytes": peak_bytes,
        "children_bytes": 0,
    }


def _breach(stop: Stop) -> dict[str, Any]:
    return {
        "scope": stop.scope,
        "budget_bytes": stop.budget_bytes,
        "peak_bytes": stop.used_bytes,
        "phase": "call",
        "source": {"session": "--amm-budget", "test": "--amm-test-budget", "emergency": "--amm-emergency"}[stop.scope],
        "stopped": True,
        "stop_seconds": round(stop.grew_until_seconds - stop.started_seconds, 4),
        "refused": False,
    }


def append(path: str, test: dict[str, Any]) -> None:
    """Add a test to a JSON report that was not completed."""
    with open(path, "r+b") as file:
        raw = file.read()
        if not raw.endswith(_ENDING):
            return
        file.seek(len(raw) - len(_ENDING))
        first = raw.endswith(b'"tests": [' + _ENDING)
        file.write((b"\n" if first else b",\n") + json.dumps(test).encode() + _ENDING)


def junit(tests: list[dict[str, Any]]) -> str:
    """A JUnit file of the xunit2 family, as pytest's own."""
    failures = sum(test["outcome"] in ("failed", "killed") for test in tests)
    skipped = sum(test["outcome"] == "skipped" for test in tests)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S")
    cases = "".join(_case(test) for test in tests)
    return (
        f'<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest" errors="0" failures="{failures}" '
        f'skipped="{skipped}" tests="{len(tests)}" time="{sum(test["seconds"] for test in tests):.3f}" '
        f'timestamp="{stamp}">{cases}</testsuite></testsuites>\n'
    )


def _case(test: dict[str, Any]) -> str:
    path, _, rest = test["nodeid"].partition("::")
    head, bracket, tail = rest.partition("[")
    *classes, name = head.split("::")
    classname = ".".join([path.removesuffix(".py").replace("/", "."), *classes])
    inner = "".join(
        f'<property name="amm_{key}" value="{test[key]}" />' for key in ("peak_bytes", "growth_bytes", "kept_bytes")
    )
    inner = f"<properties>{inner}</properties>"
    message = test.get("message", "")
    if test["outcome"] in ("failed", "killed"):
        inner += f"<failure message={quoteattr(_clean(message.splitlines()[0] if message else 'failed'))}>"
        inner += f"{escape(_clean(message))}</failure>"
    if test["outcome"] == "skipped":
        inner += "<skipped />"
    full = quoteattr(_clean(name + bracket + tail))
    return f'<testcase classname={quoteattr(classname)} name={full} time="{test["seconds"]:.3f}">{inner}</testcase>'


def _clean(text: str) -> str:
    """Without the control characters that XML 1.0 does not know."""
    return "".join(char if char >= " " or char in "\t\n" else "?" for char in text)


def _message(board: Board, slot: int, stop: Stop) -> str:
    what = {"session": "the process tree reached", "test": "the test grew by", "emergency": "the machine had in use"}
    head = (
        f"{what[stop.scope]} {stop.used_bytes >> 20} MiB, the budget is {stop.budget_bytes >> 20} MiB, "
        "and nothing softer ended it"
    )
    found = from_text(board.evidence(slot, stop.generation))
    rows = [
        f"  {each.label:<8} {f'{each.size_bytes >> 20} MiB ' if each.size_bytes else ''}{each.text}" for each in found
    ]
    return "\n".join([head, *rows])
