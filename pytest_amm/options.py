"""The options of the plugin: one table, and where the values come from.

Every option is a flag, an ini key and an environment variable; later wins in the order ini < environment < flag. This
file is loaded by every run, also where nothing is asked for. What the values mean is in `settings`, how they are read
in `parsers`; what a marker says about one test is in `budget`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import pytest

BREACH_MODES = ("stop", "fail", "warn")


class Option(NamedTuple):
    """One option: `amm_budget` is the flag `--amm-budget`, the ini key `amm_budget` and the variable `AMM_BUDGET`.

    A tuple: a frozen dataclass takes ten times as long to define, in every run of pytest.
    """

    name: str
    kind: str
    help: str
    metavar: str | None = None

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return self.name.upper()


OPTIONS = (
    Option(name="amm_peaks", kind="bool", help="measure the memory of every test and show the heaviest"),
    Option(
        name="amm_budget",
        kind="session_size",
        metavar="SIZE",
        help="the pytest process tree never exceeds this; the test that breaches it fails (1536MB is 1.5 GiB)",
    ),
    Option(
        name="amm_test_budget",
        kind="size",
        metavar="SIZE",
        help="how far each test may grow above where it started; @pytest.mark.amm_budget('64MB') overrides it",
    ),
    Option(
        name="amm_budget_for",
        kind="directories",
        metavar="DIR=SIZE",
        help="the test budget of one directory or file, relative to the rootdir; repeatable, the longest match wins",
    ),
    Option(
        name="amm_on_breach",
        kind="mode",
        metavar="|".join(BREACH_MODES),
        help="stop the test at once (default), fail it when it has ended, or only warn",
    ),
    Option(
        name="amm_hard",
        kind="bool",
        help="hold the budget with a limit set beforehand: one giant allocation is a MemoryError at its line",
    ),
    Option(
        name="amm_isolate", kind="bool", help="run every test in a forked child, so that a stop costs that test only"
    ),
    Option(
        name="amm_emergency",
        kind="emergency",
        metavar="RATIO",
        help="memory of the host or container in use at which the run is stopped in order (default 85%%; 'off')",
    ),
    Option(
        name="amm_emergency_warn",
        kind="ratio",
        metavar="RATIO",
        help="memory of the host or container in use at which to warn and clean up (default 80%%)",
    ),
    Option(
        name="amm_emergency_stall",
        kind="emergency",
        metavar="RATIO",
        help="share of 10 s in which every task stood still for memory (PSI full) that stops the run (default 40%%)",
    ),
    Option(name="amm_json", kind="path", metavar="FILE", help="write the report as JSON, valid after every test"),
    Option(name="amm_html", kind="path", metavar="FILE", help="write the report as one self-contained page"),
    Option(
        name="amm_export",
        kind="destination",
        metavar="DESTINATION",
        help="send the results to Prometheus at the end: a .prom file, 'otlp', or the http(s) address of a receiver",
    ),
    Option(name="amm_compare", kind="paths", metavar="BASE.json", help="compare with earlier JSON reports; repeatable"),
    Option(
        name="amm_fail_growth",
        kind="ratio",
        metavar="RATIO",
        help="with --amm-compare: fail the run when a test grew by more than this and more than the noise",
    ),
    Option(name="amm_leaks", kind="bool", help="run every test until it is decided whether it leaks"),
    Option(name="amm_top", kind="count", metavar="N", help="how many of the heaviest tests to show (default 10)"),
)


def add_options(parser: pytest.Parser) -> None:
    """Register every option of the table as a flag and an ini key."""
    group = parser.getgroup("amm", "memory budgets, exact peaks and leak gates (pytest_amm)")
    for option in OPTIONS:
        several = option.kind in ("directories", "paths")
        ini_type: Literal["linelist", "string"] = "linelist" if several else "string"
        if option.kind == "bool":
            group.addoption(option.flag, dest=option.name, action="store_true", default=None, help=option.help)
        else:
            action = "append" if several else "store"
            group.addoption(
                option.flag, dest=option.name, action=action, default=None, metavar=option.metavar, help=option.help
            )
        # read as text even where it means a number or a switch, so that every wrong spelling gets our own message
        ini_help = option.help.replace("%%", "%")
        parser.addini(option.name, ini_help, type=ini_type, default=None)


def asked(
    config: pytest.Config, environ: Mapping[str, str] = os.environ, flags: argparse.Namespace | None = None
) -> dict[str, tuple[str, object]]:
    """What was asked for: option name to (source, raw value), the winner of ini < environment < flag.

    `flags`: those known so far, before conftest files are imported and all are in `config`.
    """
    found: dict[str, tuple[str, object]] = {}
    for option in OPTIONS:
        value = getattr(flags or config.option, option.name, None)
        if value not in (None, []):
            found[option.name] = (option.flag, value)
        elif environ.get(option.variable):
            found[option.name] = (option.variable, environ[option.variable])
        else:
            raw = _ini(config, option)
            if raw not in (None, "", []):
                found[option.name] = (f"{option.name} ({_ini_file(config)})", raw)
    return found


def check_variables(environ: Mapping[str, str] = os.environ) -> None:
    """A misspelt variable would hold nothing, and nobody would know. One that is near to none of ours is of others.

    Raises pytest.UsageError.
    """
    ours = {option.variable for option in OPTIONS}
    unknown = [name for name in environ if name.startswith("AMM_") and name not in ours]
    if not unknown:
        return
    from amm_exporter.policy.keys import KEYS, environment_variable

    for name in set(unknown).difference(map(environment_variable, KEYS)):
        near = _near(name, ours)
        if near:
            raise pytest.UsageError(f"{name}: unknown variable; did you mean {near!r}?")


def check_ini(config: pytest.Config) -> None:
    """The same of a key of the ini file, of which pytest warns only, among others. Raises pytest.UsageError."""
    ours = {option.name for option in OPTIONS}
    keys = getattr(config, "_inicfg", None) or (config.inicfg if pytest.version_tuple < (9,) else {})
    for name in keys:
        if name.startswith("amm_") and name not in ours:
            near = _near(name, ours)
            if near:
                raise pytest.UsageError(f"{name} ({_ini_file(config)}): unknown key; did you mean {near!r}?")


def _near(name: str, ours: Iterable[str]) -> str | None:
    """One of ours that was meant, past the prefix that all have."""
    import difflib

    known = [each[4:] for each in ours]
    found = difflib.get_close_matches(name[4:], known, 1, 0.8)
    return name[:4] + found[0] if found else None


def _ini(config: pytest.Config, option: Option) -> object:
    try:
        return config.getini(option.name)
    except (TypeError, ValueError) as error:  # a native TOML value of another type: pytest refuses it with a traceback
        source = f"{option.name} ({_ini_file(config)})"
        raise pytest.UsageError(f"{source}: {error}; write it as a string in quotes") from None


def _ini_file(config: pytest.Config) -> str:
    return config.inipath.name if config.inipath else "command line -o"
