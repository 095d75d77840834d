"""Start a program with AMM: inside it when it is a Python program, from outside when it is any other.

A Python program replaces this process, so signals and the exit status are its own. Any other program runs as a child
that gets the signals sent here, and its exit status (or fatal signal) becomes this one's. Nothing is written to its
stdout or stderr.

    amm run -- python app.py
    amm run --port 9500 --limit 2GB -- gunicorn -w 3 app:app
    amm run -- ./server --flag
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from amm_exporter.cli import options
from amm_exporter.cli.child import run_child
from amm_exporter.cli.outside import Watch
from amm_exporter.control.fleet import program_name
from amm_exporter.errors import AMMError
from amm_exporter.export.autostart import DIRECTORY, MARKER_VARIABLE
from amm_exporter.export.instrumentor import METRICS_EXPORTER_VARIABLE
from amm_exporter.export.node import Node
from amm_exporter.export.reader import (
    HOST_VARIABLE,
    PORT_VARIABLE,
    WEB_CONFIG_VARIABLE,
    address_from,
    web_config_from,
)
from amm_exporter.export.server import Server
from amm_exporter.policy import environment_variable

CANNOT_EXECUTE, NOT_FOUND = 126, 127
"""The shell's exit statuses for a command that is there but not executable, and for one that is not there."""
_PYTHON = re.compile(r"(python|pypy)\d*(\.\d+)?t?")
_SHEBANG = re.compile(rb"#![ \t]*(\S+)(?:[ \t]+(\S+))?")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_address_options(parser)
    options.add_policy_options(parser)
    parser.add_argument("--outside", action="store_true", help="watch from outside even if it is a Python program")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND ...", help="the program")


def run(arguments: argparse.Namespace) -> int:
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        raise AMMError("run: no command; write it after two dashes, as: amm run -- python app.py")
    policy = options.usable_policy(arguments)
    executable = shutil.which(command[0])
    if executable is None:
        return _cannot_start(command[0])
    interpreter = None if arguments.outside else python_of(executable, command)
    if interpreter is not None and has_amm(interpreter):
        _check_address(arguments)
        become(executable, command, environment(arguments))
    program = program_name(command[0])
    watch = partial(Watch, host=arguments.listen, port=arguments.port, web_config=arguments.web_config, program=program)
    return run_child(executable, command, policy, watch)


def python_of(executable: str, command: Sequence[str]) -> str | None:
    """The interpreter that will run the command: itself one, or a script's; None for other programs.

    Also None where the interpreter is told to ignore PYTHONPATH or the site module (-I, -E, -S).
    """
    if _PYTHON.fullmatch(Path(executable).name):
        return None if _ignores_autostart(command[1:]) else executable
    try:
        with open(executable, "rb") as file:
            shebang = _SHEBANG.match(file.read(256))
    except OSError:  # it may be executed but not read: no script then
        return None
    if shebang is None:
        return None
    program, argument = (os.fsdecode(word or b"") for word in shebang.groups())
    if Path(program).name == "env":
        program = shutil.which(argument) or ""
    elif argument:
        return None  # an interpreter with flags of its own: not worth guessing at
    return program if _PYTHON.fullmatch(Path(program).name) else None


def _ignores_autostart(arguments: Sequence[str]) -> bool:
    """Whether -I, -E or -S is among the interpreter's own options, which end where the program begins (python -h)."""
    words = iter(arguments)
    for word in words:
        if word == "--check-hash-based-pycs":
            next(words, None)
        elif word in ("-", "--") or not word.startswith("-"):
            return False
        elif not word.startswith("--"):
            for place, letter in enumerate(word[1:], start=2):
                if letter in "IES":
                    return True
                if letter in "cm":
                    return False
                if letter in "WX":
                    if place == len(word):
                        next(words, None)  # its value
                    break
    return False


def has_amm(interpreter: str) -> bool:
    """Whether AMM can be imported there: the program may run in another environment than this command.

    Asked as sitecustomize will be: without the current directory, which comes to sys.path only for the program.
    """
    probe = [
        interpreter,
        "-c",
        "import sys; sys.path[:] = filter(None, sys.path); import amm_exporter.export.autostart",
    ]
    return subprocess.run(probe, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def environment(arguments: argparse.Namespace) -> dict[str, str]:
    """What makes the program start AMM: autostart first on PYTHONPATH, the flags as variables."""
    variables = dict(os.environ)
    path = [entry for entry in variables.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != str(DIRECTORY)]
    variables["PYTHONPATH"] = os.pathsep.join([str(DIRECTORY), *path])
    variables[MARKER_VARIABLE] = str(os.getpid())
    for key, value in options.flags(arguments).items():
        variables[environment_variable(key)] = value
    if arguments.config is not None:
        variables["AMM_CONFIG"] = os.path.abspath(arguments.config)
    if arguments.port is not None:
        variables[PORT_VARIABLE] = str(arguments.port)
    if arguments.listen is not None:
        variables[HOST_VARIABLE] = arguments.listen
    if arguments.web_config is not None:
        variables[WEB_CONFIG_VARIABLE] = os.path.abspath(arguments.web_config)
    return variables


def _check_address(arguments: argparse.Namespace) -> None:
    """Say here that the address cannot be had: in the program nobody would see it. A family of ours may share it."""
    if os.environ.get(METRICS_EXPORTER_VARIABLE) not in (None, "", "amm"):
        return
    web_config_from(os.environ, arguments.web_config)
    host, port = address_from(os.environ, arguments.listen, arguments.port)
    anywhere = Server(lambda _: ("", b""), host, 0)  # not at the port itself: another program may be about to take it
    anywhere.start()
    anywhere.close()
    if port and _listening(host, port):
        node = Node(host, port, list)
        node.start()  # raises, but for a sibling
        node.close()


def _listening(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def become(executable: str, command: Sequence[str], variables: dict[str, str]) -> None:
    try:
        os.execve(executable, list(command), variables)
    except OSError as error:
        raise AMMError(f"run: {executable} cannot be executed: {error.strerror}") from error


def _cannot_start(name: str) -> int:
    import sys

    there = Path(name).exists()
    problem = "it is not executable" if there else "no such program on PATH"
    print(f"amm: run: cannot start {name!r}: {problem}", file=sys.stderr)
    return CANNOT_EXECUTE if there else NOT_FOUND
