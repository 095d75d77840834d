"""Ask a running process what fills its memory: object types, traced lines, mappings, allocators, caches, and what keeps
the type that grew most alive. For that AMM must be inside it (amm run, opentelemetry-instrument, amm.start()).

Of any other process it says what can be seen from outside: its memory by kind and by mapping, and what of that grew.

    amm evidence --pid 1234 > evidence.json
    amm evidence --pid 1234 --output evidence.json --trace 10s
    amm analyze evidence.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from amm_exporter.cli import options
from amm_exporter.control.evidence_outside import INSIDE, amm_may_be_inside, seen_from_outside
from amm_exporter.control.evidence_request import NoAnswerError, ask
from amm_exporter.errors import AMMError
from amm_exporter.units import parse_duration

WAIT_SECONDS = 15.0
"""Beyond the tracing: a busy process looks for requests once a second, a census and a chain take part of one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pid", type=options.pid, required=True, metavar="PID", help="the process")
    parser.add_argument(
        "--trace",
        default="2s",
        metavar="TIME",
        help="trace allocations so long, which slows them (default: 2s; 0: no tracing). Outside: watch growth so long",
    )
    parser.add_argument("--output", metavar="FILE", help="where to write it (default: standard output)")


def run(arguments: argparse.Namespace) -> int:
    seconds = 0.0 if arguments.trace.strip() in ("0", "0s") else parse_duration(arguments.trace)
    text = json.dumps(_evidence(arguments.pid, seconds), indent=1)
    if arguments.output is None:
        print(text)
        return 0
    try:
        Path(arguments.output).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise AMMError(f"evidence: cannot write {arguments.output}: {error.strerror}") from error
    _say(f"written; read it with: amm analyze {arguments.output}")
    return 0


def _evidence(pid: int, seconds: float) -> dict[str, Any]:
    """Of the process itself, or else from outside."""
    why = f"AMM is not inside process {pid}"
    if amm_may_be_inside(pid):
        try:
            return ask(pid, trace_seconds=seconds, wait_seconds=WAIT_SECONDS)
        except NoAnswerError as error:
            why = str(error)
    evidence = seen_from_outside(pid, seconds)
    _say(f"{why}: this is what can be seen from outside. For types, lines and chains: {INSIDE}")
    return evidence


def _say(text: str) -> None:
    print(f"amm: evidence: {text}", file=sys.stderr)
