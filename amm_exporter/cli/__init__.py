"""The `amm` command. One file a subcommand; this one finds it, and makes AMM's errors one line, exit status 2."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence

from amm_exporter import __version__
from amm_exporter.errors import AMMError, did_you_mean

COMMANDS = {
    "demo": "a real workload under a small limit; --leak: with a leak",
    "run": "start a program with AMM in it; beside it, if not Python",
    "serve": "export processes that already run, from outside",
    "evidence": "ask a running process what fills its memory",
    "analyze": "read what was recorded, in words",
    "check": "validate a policy on this machine",
    "policy": "print the policy in force, and where each value came from",
    "budget": "suggest memory budgets for tests from earlier runs",
    "rules": "print the Prometheus rules for a policy",
    "dashboards": "write the Grafana dashboards",
}
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
"""What a shell reports of a program that Ctrl-C ended."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _prepare_output()
    try:
        status = _dispatch(arguments)
        sys.stdout.flush()
        return status
    except AMMError as error:
        print(f"amm: {error}", file=sys.stderr)
        return EXIT_USAGE
    except BrokenPipeError:  # `amm policy | head`
        _drop_output()
        return 0
    except OSError as error:  # such as a full disk under standard output
        _drop_output()
        print(f"amm: cannot go on: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _prepare_output() -> None:
    """Neither a closed output (`amm policy >&-`) nor one that lacks a character of ours is a reason to fail."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - until exit, as any standard output
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as Python does for stderr


def _drop_output() -> None:
    """What is left in the buffer would fail again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else EXIT_USAGE
    if arguments[0] in ("-V", "--version"):
        print(f"amm {__version__}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        raise AMMError(f"unknown command {name!r}; {did_you_mean(name, COMMANDS)} (amm --help shows all)")
    module = importlib.import_module(f"amm_exporter.cli.{name}")
    parser = Parser(prog=f"amm {name}", description=module.__doc__, allow_abbrev=False,
                    formatter_class=Prose)  # fmt: skip
    module.add_arguments(parser)
    return int(module.run(parser.parse_args(rest)))


class Prose(argparse.HelpFormatter):
    """Paragraphs as wide as the terminal; what is indented stays as it is."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        paragraphs = text.strip().split("\n\n")
        return "\n\n".join(part if part.startswith(" ") else fill(part, width, indent) for part in paragraphs)


class Parser(argparse.ArgumentParser):
    """argparse, with AMM's way of saying what is wrong: one line, exit status 2."""

    def error(self, message: str) -> None:  # type: ignore[override] # raises, like NoReturn
        raise AMMError(f"{self.prog.removeprefix('amm ')}: {message}; see {self.prog} --help")


def _help() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  amm {name:<{width}}  {text}" for name, text in COMMANDS.items())
    return f"Adaptive memory management for Python processes.\n\n{rows}\n\namm COMMAND --help tells more of each."
