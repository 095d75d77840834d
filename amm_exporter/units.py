"""Sizes, ratios, durations and rates as people write them, to and from bytes, 0..1, seconds and bytes per second.

Parsers are anchored and total: every spelling that is not documented here raises `UnitError` with the nearest one that
is. `KB MB GB` and `KiB MiB GiB` both mean powers of 1024, as memory is sold.
"""

from __future__ import annotations

import math
import re
from typing import TypeVar

from amm_exporter.errors import UnitError, nearest

KIB, MIB, GIB, TIB = (1024**power for power in (1, 2, 3, 4))
MAX_BYTES = 2**63 - 1
"""The largest size accepted: what a signed 64-bit kernel counter can hold."""

MAX_SECONDS = 100 * 365.25 * 86400
"""A century: the longest duration accepted. threading waits for no more than 292 years."""

_Factor = TypeVar("_Factor", int, float)

_SIZES = {
    "B": 1,
    "KB": KIB, "KiB": KIB,
    "MB": MIB, "MiB": MIB,
    "GB": GIB, "GiB": GIB,
    "TB": TIB, "TiB": TIB,
}  # fmt: skip
_DURATIONS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_QUANTITY = re.compile(rf"\s*{_NUMBER}\s*([A-Za-zµ]*)\s*", re.ASCII)
_PERCENT = re.compile(rf"\s*{_NUMBER}\s*%\s*", re.ASCII)
_PLAIN = re.compile(rf"\s*{_NUMBER}\s*", re.ASCII)
_MULTIPLE = re.compile(rf"\s*{_NUMBER}\s*x\s+target\s*", re.ASCII | re.IGNORECASE)

SIZE_FORMS = "a size such as '512MB', '1.5 GiB' or a whole number of bytes (units: B KB MB GB TB, KiB MiB GiB TiB)"
RATIO_FORMS = "a ratio such as '85%' or 0.85"
DURATION_FORMS = "a duration such as '500ms', '1s', '5m' or '2h' (units: ms s m h d)"
RATE_FORMS = "a rate such as '1MB/h' (a size, '/', and s, m, h or d)"
MULTIPLE_FORMS = "a multiple such as '1.5x target'"


def parse_size(value: object) -> int:
    """Bytes from `"1536MB"`, `"1.5 GiB"`, `"64 kb"` or a whole number of bytes.

    Units are read without regard to case. Raises UnitError for anything else: a missing or unknown unit on a fraction,
    a sign, NaN, zero digits, or more than 2**63 - 1 bytes.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return _bounded(value, value)
    if not isinstance(value, str):
        raise UnitError(value, SIZE_FORMS)
    match = _QUANTITY.fullmatch(value)
    if match is None:
        raise UnitError(value, SIZE_FORMS, _sign_hint(value))
    number, unit = match.groups()
    if not unit:
        if not number.isdigit():
            raise UnitError(value, SIZE_FORMS, f"write '{number}MB' if megabytes are meant")
        return _bounded(_whole(number, value), value)
    factor = _lookup(unit, _SIZES, value, SIZE_FORMS)
    if number.isdigit():
        return _bounded(_whole(number, value) * factor, value)
    amount = float(number) * factor
    return _bounded(round(amount) if amount <= MAX_BYTES else MAX_BYTES + 1, value)


def parse_ratio(value: object) -> float:
    """A ratio from `"85%"`, `"0.85"` or `0.85`: at least 0 and at most 1. `85` without % is an error, not 8,500 %."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _ratio(value, value)
    if not isinstance(value, str):
        raise UnitError(value, RATIO_FORMS)
    if match := _PERCENT.fullmatch(value):
        return _ratio(float(match[1]) / 100, value)
    if match := _PLAIN.fullmatch(value):
        return _ratio(float(match[1]), value)
    raise UnitError(value, RATIO_FORMS, _sign_hint(value))


def parse_duration(value: object) -> float:
    """Seconds from `"500ms"`, `"1s"`, `"5m"`, `"2h"`, `"1d"`; a bare number is seconds. Above zero, up to a century."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _seconds(value, value)
    if not isinstance(value, str):
        raise UnitError(value, DURATION_FORMS)
    match = _QUANTITY.fullmatch(value)
    if match is None:
        raise UnitError(value, DURATION_FORMS, _sign_hint(value))
    number, unit = match.groups()
    factor = _lookup(unit, _DURATIONS, value, DURATION_FORMS) if unit else 1.0
    return _seconds(float(number) * factor, value)


def parse_rate(value: object) -> float:
    """Bytes per second from `"1MB/h"`, `"64 KiB/s"`."""
    if not isinstance(value, str) or value.count("/") != 1:
        raise UnitError(value, RATE_FORMS)
    size, _, per = (part.strip() for part in value.partition("/"))
    if per not in _DURATIONS or per == "ms":
        raise UnitError(value, RATE_FORMS)
    try:
        return parse_size(size) / _DURATIONS[per]
    except UnitError as error:
        raise UnitError(value, RATE_FORMS) from error


def parse_multiple(value: object) -> float:
    """The factor of `"1.5x target"`: more than zero."""
    match = _MULTIPLE.fullmatch(value) if isinstance(value, str) else None
    if match is None or float(match[1]) <= 0 or not math.isfinite(float(match[1])):
        raise UnitError(value, MULTIPLE_FORMS)
    return float(match[1])


def format_size(size_bytes: float, *, like: float | None = None) -> str:
    """`1.5 GiB`, `512 MiB`, `0 B`, `-3.2 KiB`: at most four digits, read back by `parse_size` when not negative.

    `like` has it in the unit that a value of this size is written in, so that a value and its bounds compare.
    """
    magnitude = abs(size_bytes if like is None else like)
    for unit, factor in (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        # 1023.95 KiB would print as 1024.0 KiB: step up to the next unit from there on
        if magnitude >= factor * 0.99995 and magnitude >= factor - 0.05 * factor / 1024:
            return f"{_short(size_bytes / factor)} {unit}"
    return f"{0 if abs(size_bytes) <= 0.5 else size_bytes:.0f} B"


def format_ratio(ratio: float) -> str:
    """`85%`, `62.5%`."""
    return f"{_short(ratio * 100)}%"


def format_duration(seconds: float) -> str:
    """`350ms`, `1.5s`, `5m`, `2.5h`, `3d`: one unit, read back by `parse_duration`."""
    if seconds < 0.9995:
        return f"{_short(seconds * 1000)}ms"
    unit = next(name for name in ("d", "h", "m", "s") if seconds >= _DURATIONS[name] or name == "s")
    return f"{_short(seconds / _DURATIONS[unit])}{unit}"


def format_rate(bytes_per_second: float, *, like: float | None = None) -> str:
    """`1 MiB/h`, `9.2 GiB/h`: always per hour, as leaks are spoken of. `like` as in `format_size`."""
    return f"{format_size(bytes_per_second * 3600, like=None if like is None else like * 3600)}/h"


def _short(number: float) -> str:
    text = f"{number:.1f}"
    return text[:-2] if text.endswith(".0") else text


def _whole(digits: str, value: object) -> int:
    if len(digits) > 20:  # longer than 2**63: no need to build (or to let int() refuse) a number of any length
        raise UnitError(value, SIZE_FORMS, "it is larger than 2**63 - 1 bytes")
    return int(digits)


def _bounded(size_bytes: int, value: object) -> int:
    if size_bytes < 0:
        raise UnitError(value, SIZE_FORMS, "a size cannot be negative")
    if size_bytes > MAX_BYTES:
        raise UnitError(value, SIZE_FORMS, "it is larger than 2**63 - 1 bytes")
    return size_bytes


def _ratio(ratio: float, value: object) -> float:
    if 0 <= ratio <= 1:
        return float(ratio)
    percent = isinstance(value, str) and "%" in value
    hint = f"write '{ratio:g}%' if a percentage is meant" if 1 < ratio <= 100 and not percent else None
    raise UnitError(value, RATIO_FORMS + " between 0% and 100%", hint)


def _seconds(seconds: float, value: object) -> float:
    if 0 < seconds <= MAX_SECONDS:
        return float(seconds)
    raise UnitError(value, DURATION_FORMS + ", more than zero and at most 100 years")


def _lookup(unit: str, table: dict[str, _Factor], value: object, forms: str) -> _Factor:
    if unit in table:
        return table[unit]
    folded = {name.lower(): factor for name, factor in table.items()}
    if unit.lower() in folded:
        return folded[unit.lower()]
    near = nearest(unit, table)
    raise UnitError(value, forms, f"unknown unit {unit!r}" + (f", did you mean {near!r}?" if near else ""))


def _sign_hint(value: str) -> str | None:
    return "it cannot be negative" if value.strip().startswith("-") else None
