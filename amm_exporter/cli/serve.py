r"""Export processes that already run, from outside: memory, peak, limit, tier. Nothing is loaded into them.

    amm serve --pid 1234                    one with its children, in detail
    amm serve --match 'gunicorn|celery'     all that match, now and later
    amm serve --match '(?P<name>\w+)\.py'   each named after its script

A match is looked for in the whole command line. The first ends when its process does, Ctrl-C ends either.
"""

from __future__ import annotations

import argparse
import re
import resource
import sys
import time

from amm_exporter.cli import options
from amm_exporter.cli.outside import Watch, open_server
from amm_exporter.control.fleet import Fleet, program_of
from amm_exporter.export.fleet import render_fleet
from amm_exporter.export.fleet_page import fleet_routes
from amm_exporter.policy import Policy


def add_arguments(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--pid", type=options.pid, metavar="PID", help="one process, with its children")
    which.add_argument(
        "--match",
        type=_pattern,
        metavar="RE",
        help="all whose command line has a match; a group in it, (?P<name>...), names them",
    )
    options.add_address_options(parser)
    options.add_policy_options(parser)


def run(arguments: argparse.Namespace) -> int:
    policy = options.policy(arguments)
    try:
        if arguments.match is not None:
            return _serve_fleet(arguments, policy)
        return _serve_one(arguments, policy)
    except KeyboardInterrupt:
        return 0


def _serve_one(arguments: argparse.Namespace, policy: Policy) -> int:
    program = program_of(arguments.pid)
    watch = Watch(host=arguments.listen, port=arguments.port, web_config=arguments.web_config, program=program)
    try:
        watch.attach(policy, arguments.pid)
        _tell(f"watching process {arguments.pid}: {watch.url}")
        while watch.alive():
            time.sleep(0.2)
        _tell(f"process {arguments.pid} has ended")
    finally:
        watch.stop()
    return 0


def _serve_fleet(arguments: argparse.Namespace, policy: Policy) -> int:
    _allow_many_files()
    fleet = Fleet(policy, arguments.match)
    server, url = open_server(
        lambda accept: render_fleet(fleet, accept),
        host=arguments.listen,
        port=arguments.port,
        web_config=arguments.web_config,
        routes=fleet_routes(fleet),
    )
    _tell(f"watching processes that match '{arguments.match.pattern}': {url}")
    try:
        while True:
            fleet.tick()
            time.sleep(policy.interval_seconds)
    finally:
        server.close()
        fleet.close()


def _allow_many_files() -> None:
    """Two files are kept open for each process: the usual soft limit of 1,024 is soon reached, the hard one is not."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"got {text!r}; expected a regular expression: {error}") from error
