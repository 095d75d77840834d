"""Ask a running process what fills its memory: object types, traced lines, mappings, allocators, caches, and what keeps
the type that grew most alive. AMM must be inside it (amm run, opentelemetry-instrument, amm.start()).

    amm evidence --pid 1234 > evidence.json
    amm evidence --pid 1234 --output evidence.json --trace 10s
    amm analyze evidence.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from amm_exporter.cli import options
from amm_exporter.control.evidence_request import ask
from amm_exporter.errors import AMMError
from amm_exporter.units import parse_duration

WAIT_SECONDS = 15.0
"""Beyond the tracing: a busy process looks for requests once a second, a census and a chain take part of one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pid", type=options.pid, required=True, metavar="PID", help="the process")
    parser.add_argument(
        "--trace", default="2s", metavar="TIME", help="trace allocations so long, which slows them; 0 for none"
    )
    parser.add_argument("--output", metavar="FILE", help="where to write it (default: standard output)")


def run(arguments: argparse.Namespace) -> int:
    seconds = 0.0 if arguments.trace.strip() in ("0", "0s") else parse_duration(arguments.trace)
    text = json.dumps(ask(arguments.pid, trace_seconds=seconds, wait_seconds=WAIT_SECONDS), indent=1)
    if arguments.output is None:
        print(text)
        return 0
    try:
        Path(arguments.output).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise AMMError(f"evidence: cannot write {arguments.output}: {error.strerror}") from error
    return 0
