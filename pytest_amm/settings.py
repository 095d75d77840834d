"""The options of the plugin: one table, four sources, one set of values.

Every option is a flag, an ini key and an environment variable; later wins in the order ini < environment < flag. What a
marker says about one test is in `budget`. An unusable value is a `pytest.UsageError` of one line that names its source.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from pytest_amm.budget import DirectoryBudget

BREACH_MODES = ("stop", "fail", "warn")
_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")
_LEAST_SESSION_BYTES = 1 << 20  # no Python process is this small: a smaller session budget is a forgotten unit
_RECEIVER = re.compile(r"https?://[^\W_][!-~]*|https?://\[[!-~]+")
EXPORT_FORMS = "a file ending in .prom, 'otlp', or the http(s) address of an OTLP receiver"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option: `amm_budget` is the flag `--amm-budget`, the ini key `amm_budget` and the variable `AMM_BUDGET`."""

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
        help="with --amm-compare: fail the run when a test's peak grew by more than this and more than the noise",
    ),
    Option(name="amm_leaks", kind="bool", help="run every test until it is decided whether it leaks"),
    Option(name="amm_top", kind="count", metavar="N", help="how many of the heaviest tests to show (default 10)"),
)
_BY_NAME = {option.name: option for option in OPTIONS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options in force. Sizes in bytes, ratios 0 to 1; None where nothing was asked for."""

    peaks: bool = False
    budget_bytes: int | None = None
    test_budget_bytes: int | None = None
    directories: tuple[DirectoryBudget, ...] = ()
    on_breach: str = "stop"
    hard: bool = False
    isolate: bool = False
    emergency_ratio: float | None = None
    emergency_warn_ratio: float = 0.80
    emergency_stall_ratio: float | None = 0.40
    emergency_asked: bool = False
    json_path: str | None = None
    html_path: str | None = None
    export: str | None = None
    compare_paths: tuple[str, ...] = ()
    fail_growth_ratio: float | None = None
    leaks: bool = False
    top_count: int = 10

    @property
    def has_budget(self) -> bool:
        return bool(self.budget_bytes or self.test_budget_bytes or self.directories)

    @property
    def active(self) -> bool:
        """Whether anything has to be measured. `--amm-on-breach`, `--amm-top` and the like only shade what is."""
        return bool(
            self.peaks
            or self.has_budget
            or self.emergency_asked
            or self.json_path
            or self.html_path
            or self.export
            or self.compare_paths
            or self.leaks
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


def asked(config: pytest.Config, environ: Mapping[str, str] = os.environ) -> dict[str, tuple[str, object]]:
    """What was asked for: option name to (source, raw value), the winner of ini < environment < flag."""
    found: dict[str, tuple[str, object]] = {}
    for option in OPTIONS:
        value = config.getoption(option.name, None)
        if value not in (None, []):
            found[option.name] = (option.flag, value)
        elif environ.get(option.variable):
            found[option.name] = (option.variable, environ[option.variable])
        else:
            raw = _ini(config, option)
            if raw not in (None, "", []):
                found[option.name] = (f"{option.name} ({_ini_file(config)})", raw)
    return found


def read(asked_for: Mapping[str, tuple[str, object]]) -> Settings:
    """The values of what `asked` found. Raises pytest.UsageError with one line for the first that cannot be used."""
    values = {name: _parse(_BY_NAME[name], source, raw) for name, (source, raw) in asked_for.items()}
    settings = _settings(values)
    _check_together(settings, asked_for)
    return settings


def _settings(values: Mapping[str, Any]) -> Settings:
    defaults = Settings()
    emergency = values.get("amm_emergency", 0.85)
    return Settings(
        peaks=values.get("amm_peaks", False),
        budget_bytes=values.get("amm_budget"),
        test_budget_bytes=values.get("amm_test_budget"),
        directories=values.get("amm_budget_for", ()),
        on_breach=values.get("amm_on_breach", defaults.on_breach),
        hard=values.get("amm_hard", False),
        isolate=values.get("amm_isolate", False),
        emergency_ratio=emergency,
        emergency_warn_ratio=values.get("amm_emergency_warn", min(defaults.emergency_warn_ratio, emergency or 1.0)),
        emergency_stall_ratio=values.get("amm_emergency_stall", defaults.emergency_stall_ratio),
        emergency_asked=values.get("amm_emergency") is not None or values.get("amm_emergency_stall") is not None,
        json_path=values.get("amm_json"),
        html_path=values.get("amm_html"),
        export=values.get("amm_export"),
        compare_paths=values.get("amm_compare", ()),
        fail_growth_ratio=values.get("amm_fail_growth"),
        leaks=values.get("amm_leaks", False),
        top_count=values.get("amm_top", defaults.top_count),
    )


def _check_together(settings: Settings, asked_for: Mapping[str, tuple[str, object]]) -> None:
    if settings.fail_growth_ratio is not None and not settings.compare_paths:
        source = asked_for["amm_fail_growth"][0]
        raise pytest.UsageError(f"{source}: needs a report to compare with: add --amm-compare BASE.json")
    budgets = (settings.budget_bytes, settings.test_budget_bytes, settings.directories)
    if settings.hard and not any(budgets):
        source = asked_for["amm_hard"][0]
        raise pytest.UsageError(f"{source}: needs a budget to hold: add --amm-budget or --amm-test-budget")
    emergency = settings.emergency_ratio
    if emergency is not None and settings.emergency_warn_ratio > emergency:
        source = asked_for["amm_emergency_warn"][0]
        raise pytest.UsageError(
            f"{source}: {settings.emergency_warn_ratio:.0%} is above the emergency stop at {emergency:.0%}; "
            "the warning has to come first"
        )


def _parse(option: Option, source: str, raw: object) -> object:
    from amm_exporter.errors import AMMError

    try:
        return _PARSERS[option.kind](raw)
    except AMMError as error:
        raise pytest.UsageError(f"{source}: {error}") from None


def _ini(config: pytest.Config, option: Option) -> object:
    try:
        return config.getini(option.name)
    except (TypeError, ValueError) as error:  # a native TOML value of another type: pytest refuses it with a traceback
        source = f"{option.name} ({_ini_file(config)})"
        raise pytest.UsageError(f"{source}: {error}; write it as a string in quotes") from None


def _ini_file(config: pytest.Config) -> str:
    return config.inipath.name if config.inipath else "command line -o"


def _boolean(raw: object) -> bool:
    from amm_exporter.errors import UnitError, did_you_mean

    if isinstance(raw, bool):
        return raw
    word = str(raw).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise UnitError(raw, "true or false", did_you_mean(word, (*_TRUE, *_FALSE)))


def _size(raw: object) -> int:
    from amm_exporter.errors import UnitError
    from amm_exporter.units import SIZE_FORMS, parse_size

    size_bytes = parse_size(_number(raw))
    if size_bytes == 0:
        raise UnitError(raw, SIZE_FORMS + ", more than zero")
    return size_bytes


def _session_size(raw: object) -> int:
    from amm_exporter.errors import UnitError
    from amm_exporter.units import SIZE_FORMS

    size_bytes = _size(raw)
    if size_bytes < _LEAST_SESSION_BYTES:
        hint = f"write '{str(raw).strip()}MB' if megabytes are meant" if str(raw).strip().isdigit() else None
        raise UnitError(raw, SIZE_FORMS + ", at least 1MB for the whole session", hint)
    return size_bytes


def _ratio(raw: object) -> float:
    from amm_exporter.errors import UnitError
    from amm_exporter.units import RATIO_FORMS, parse_ratio

    ratio = parse_ratio(raw)
    if ratio == 0:
        raise UnitError(raw, RATIO_FORMS + ", more than zero")
    return ratio


def _emergency(raw: object) -> float | None:
    from amm_exporter.errors import UnitError, nearest

    if isinstance(raw, str) and raw.strip().lower() == "off":
        return None
    try:
        return _ratio(raw)
    except UnitError as error:
        hint = "did you mean 'off'?" if nearest(str(raw).strip(), ("off",)) else error.hint
        raise UnitError(raw, error.expected + ", or 'off'", hint) from None


def _mode(raw: object) -> str:
    from amm_exporter.errors import UnitError, did_you_mean

    word = str(raw).strip().lower()
    if word in BREACH_MODES:
        return word
    raise UnitError(raw, "stop, fail or warn", did_you_mean(word, BREACH_MODES))


def _count(raw: object) -> int:
    from amm_exporter.errors import UnitError

    text = str(raw).strip()
    if not (text.isascii() and text.isdigit()) or len(text) > 6:
        raise UnitError(raw, "a whole number from 0 to 999999")
    return int(text)


def _path(raw: object) -> str:
    from amm_exporter.errors import UnitError

    path = str(raw)
    if not path.strip() or "\0" in path or os.path.isdir(path):
        raise UnitError(raw, "the name of a file", "it is a directory" if path.strip() and "\0" not in path else None)
    return os.path.abspath(path)


def _destination(raw: object) -> str:
    from amm_exporter.errors import UnitError, nearest

    text = str(raw).strip()
    if text.lower() == "otlp":
        return "otlp"
    if _RECEIVER.fullmatch(text):
        return text
    if "://" in text or not text.endswith(".prom"):
        raise UnitError(raw, EXPORT_FORMS, "did you mean 'otlp'?" if nearest(text, ("otlp",)) else None)
    return _path(text)


def _paths(raw: object) -> tuple[str, ...]:
    from amm_exporter.errors import UnitError

    paths = tuple(_path(each) for each in _lines(raw, separator=os.pathsep))
    for path in paths:
        if not os.path.isfile(path):
            raise UnitError(os.path.basename(path), "an existing JSON report, as --amm-json writes it")
    return paths


def _directories(raw: object) -> tuple[DirectoryBudget, ...]:
    from amm_exporter.errors import UnitError
    from pytest_amm.budget import DirectoryBudget

    found = []
    for line in _lines(raw, separator=","):
        where, equals, size = line.rpartition("=")
        if not equals or not where.strip():
            raise UnitError(line, "DIR=SIZE such as 'tests/unit=64MB'")
        found.append(DirectoryBudget(path=where.strip().rstrip("/"), size_bytes=_size(size.strip())))
    return tuple(found)


def _lines(raw: object, separator: str) -> list[str]:
    if isinstance(raw, (list, tuple)):
        return [str(each) for each in raw if str(each).strip()]
    return [each.strip() for each in str(raw).replace("\n", separator).split(separator) if each.strip()]


def _number(raw: object) -> object:
    """`"1048576"` stays text: parse_size reads a plain number as bytes."""
    return raw.strip() if isinstance(raw, str) else raw


_PARSERS: Mapping[str, Callable[[object], object]] = {
    "bool": _boolean,
    "size": _size,
    "session_size": _session_size,
    "ratio": _ratio,
    "emergency": _emergency,
    "mode": _mode,
    "count": _count,
    "path": _path,
    "destination": _destination,
    "paths": _paths,
    "directories": _directories,
}
