"""Export a process that already runs, from outside: memory, limits, tier. Nothing is loaded into it.

Ends with exit status 0 when the process does, or at Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
import time

from amm_exporter.cli import options
from amm_exporter.cli.outside import Watch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pid", type=_pid, required=True, metavar="PID", help="the process, with its children")
    options.add_address_options(parser)
    options.add_policy_options(parser)


def run(arguments: argparse.Namespace) -> int:
    policy = options.policy(arguments)
    watch = Watch(host=arguments.listen, port=arguments.port)
    watch.attach(policy, arguments.pid)
    print(f"watching process {arguments.pid}: {watch.url}", file=sys.stderr)
    try:
        while watch.alive():
            time.sleep(0.2)
        print(f"process {arguments.pid} has ended", file=sys.stderr)
    except KeyboardInterrupt:
        pass
    finally:
        watch.stop()
    return 0


def _pid(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) < 2**22 + 1:
        return int(text)
    raise argparse.ArgumentTypeError(f"got {text!r}; expected the number of a process")
