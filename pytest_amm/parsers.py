"""How the text of each kind of option is read. Total: what is not accepted raises UnitError with the accepted forms."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Mapping

import pytest

from amm_exporter.errors import AMMError, UnitError, did_you_mean, nearest
from amm_exporter.units import RATIO_FORMS, SIZE_FORMS, parse_ratio, parse_size
from pytest_amm.budget import DirectoryBudget
from pytest_amm.options import BREACH_MODES

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")
_LEAST_SESSION_BYTES = 1 << 20  # no Python process is this small: a smaller session budget is a forgotten unit
_RECEIVER = r"https?://[^\W_][!-~]*|https?://\[[!-~]+"
EXPORT_FORMS = "a file ending in .prom, 'otlp', or the http(s) address of an OTLP receiver"


def parse(kind: str, source: str, raw: object) -> object:
    """The value of an option of this kind. Raises pytest.UsageError with one line that names the source."""
    try:
        return _PARSERS[kind](raw)
    except AMMError as error:
        raise pytest.UsageError(f"{source}: {error}") from None


def _boolean(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    word = str(raw).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise UnitError(raw, "true or false", did_you_mean(word, (*_TRUE, *_FALSE)))


def _size(raw: object) -> int:
    size_bytes = parse_size(_number(raw))
    if size_bytes == 0:
        raise UnitError(raw, SIZE_FORMS + ", more than zero")
    return size_bytes


def _session_size(raw: object) -> int:
    size_bytes = _size(raw)
    if size_bytes < _LEAST_SESSION_BYTES:
        hint = f"write '{str(raw).strip()}MB' if megabytes are meant" if str(raw).strip().isdigit() else None
        raise UnitError(raw, SIZE_FORMS + ", at least 1MB for the whole session", hint)
    return size_bytes


def _ratio(raw: object) -> float:
    ratio = parse_ratio(raw)
    if ratio == 0:
        raise UnitError(raw, RATIO_FORMS + ", more than zero")
    return ratio


def _emergency(raw: object) -> float | None:
    if isinstance(raw, str) and raw.strip().lower() == "off":
        return None
    try:
        return _ratio(raw)
    except UnitError as error:
        hint = "did you mean 'off'?" if nearest(str(raw).strip(), ("off",)) else error.hint
        raise UnitError(raw, error.expected + ", or 'off'", hint) from None


def _mode(raw: object) -> str:
    word = str(raw).strip().lower()
    if word in BREACH_MODES:
        return word
    raise UnitError(raw, "stop, fail or warn", did_you_mean(word, BREACH_MODES))


def _count(raw: object) -> int:
    text = str(raw).strip()
    if not (text.isascii() and text.isdigit()) or len(text) > 6:
        raise UnitError(raw, "a whole number from 0 to 999999")
    return int(text)


def _path(raw: object) -> str:
    text = str(raw)
    if not text.strip() or "\0" in text:
        raise UnitError(raw, "the name of a file")
    path = os.path.abspath(text)  # "missing/.." is there only once it is resolved
    if os.path.exists(path) and not os.path.isfile(path):  # a report replaces its file: never a device
        raise UnitError(raw, "the name of a file", "it is a directory" if os.path.isdir(path) else "it is a device")
    return path


def _destination(raw: object) -> str:
    text = str(raw).strip()
    if text.lower() == "otlp":
        return "otlp"
    if re.fullmatch(_RECEIVER, text):
        return text
    if "://" in text or not text.endswith(".prom"):
        raise UnitError(raw, EXPORT_FORMS, "did you mean 'otlp'?" if nearest(text, ("otlp",)) else None)
    return _path(text)


def _paths(raw: object) -> tuple[str, ...]:
    paths = tuple(_path(each) for each in _lines(raw, separator=os.pathsep))
    for path in paths:
        if not os.path.isfile(path):
            raise UnitError(os.path.basename(path), "an existing JSON report, as --amm-json writes it")
    return paths


def _directories(raw: object) -> tuple[DirectoryBudget, ...]:
    found = []
    for line in _lines(raw, separator=","):
        where, equals, size = line.rpartition("=")
        if not equals or not where.strip():
            raise UnitError(line, "DIR=SIZE such as 'tests/unit=64MB'")
        file, colons, names = where.strip().partition("::")
        path = posixpath.normpath(file)
        if path.startswith(("/", "../")) or path == "..":
            raise UnitError(where.strip(), "a directory or file below the rootdir, as 'tests/unit'")
        found.append(DirectoryBudget(path=path + colons + names, size_bytes=_size(size.strip())))
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
