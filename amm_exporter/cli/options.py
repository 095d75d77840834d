"""Options that several subcommands share: the policy's, and the address's."""

from __future__ import annotations

import argparse

from amm_exporter.control.sampling import Sampler
from amm_exporter.errors import AMMError
from amm_exporter.export.reader import HOST_VARIABLE, PORT_VARIABLE, WEB_CONFIG_VARIABLE
from amm_exporter.policy import Policy, load_policy

MAX_PORT = 65535
LARGEST_PID = 2**22
"""PID_MAX_LIMIT of 64-bit kernels (proc(5), pid_max)."""


def add_policy_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("policy")
    group.add_argument("--config", metavar="FILE", help="policy file (default: nearest amm.yaml or [tool.amm])")
    group.add_argument("--limit", metavar="SIZE", help="memory limit, as 4GB (default: auto)")
    group.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="any policy key, as tiers.high=75%%; repeatable"
    )


def add_address_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("address of /metrics")
    group.add_argument("--port", type=port, metavar="PORT", help=f"default: {PORT_VARIABLE}, or 9464")
    group.add_argument("--listen", metavar="HOST", help=f"default: {HOST_VARIABLE}, or localhost")
    group.add_argument(
        "--web-config", "--web.config.file", metavar="FILE", help=f"TLS and passwords (default: {WEB_CONFIG_VARIABLE})"
    )


def port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) <= MAX_PORT:
        return int(text)
    raise argparse.ArgumentTypeError(f"got {text!r}; expected a port from 0 (any that is free) to {MAX_PORT}")


def pid(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) <= LARGEST_PID:
        return int(text)
    raise argparse.ArgumentTypeError(f"got {text!r}; expected the number of a process")


def flags(arguments: argparse.Namespace) -> dict[str, str]:
    """Policy keys given as flags; --set last, so that the most explicit one wins."""
    given = {} if arguments.limit is None else {"limit": arguments.limit}
    for assignment in arguments.set:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise AMMError(f"--set: got {assignment!r}; expected KEY=VALUE, as tiers.high=75%")
        given[key.strip()] = value.strip()
    return given


def policy(arguments: argparse.Namespace) -> Policy:
    return load_policy(arguments.config, flags=flags(arguments))


def usable_policy(arguments: argparse.Namespace) -> Policy:
    """The policy, once it is known to fit this machine's limit too: told before anything starts."""
    loaded = policy(arguments)
    sampler = Sampler(loaded)
    limit = sampler.take().limit
    sampler.close()
    if limit is not None:
        loaded.enter_ratios(limit.size_bytes)
    return loaded
