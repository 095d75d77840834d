"""Read evidence files in words.

    amm analyze evidence.json

What leaks and how fast, which types and lines, and what keeps them alive.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from amm_exporter.analysis.growth import ORIGIN_WORDS, SHARE
from amm_exporter.errors import AMMError
from amm_exporter.units import format_duration, format_ratio, format_size

TOP = 10
TELLING_BYTES = 4 * 1024 * 1024
"""Resident memory grows by pymalloc's arenas of a megabyte: less says nothing beside bytes traced."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="what amm evidence wrote")


def run(arguments: argparse.Namespace) -> int:
    for file in arguments.files:
        evidence = read(Path(file))
        try:
            text = "\n".join(map(printable, report(file, evidence)))
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
        ) as error:  # edited, or another version's
            raise AMMError(f"analyze: {file} is damaged, or no evidence: {type(error).__name__}: {error}") from error
        print(text)
    return 0


def read(path: Path) -> dict[str, Any]:
    try:
        evidence = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AMMError(f"analyze: cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise AMMError(f"analyze: {path} is not JSON: {error}") from error
    if not isinstance(evidence, dict) or "verdicts" not in evidence or "types" not in evidence:
        raise AMMError(f"analyze: {path} is no evidence; expected what amm evidence --pid PID --output FILE writes")
    return evidence


def printable(line: str) -> str:
    """Names are the program's own: what controls a terminal is shown, not done."""
    return line if line.isprintable() else "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in line)


def report(name: str, evidence: dict[str, Any]) -> Iterator[str]:
    seen = ", seen from outside" if evidence.get("outside") else ""
    yield f"{name}: process {evidence.get('pid')}{seen}"
    yield from _outside(evidence)
    yield from _section("verdicts", _verdicts(evidence["verdicts"]), evidence["verdicts"])
    yield from _origin(evidence)
    yield from _growth(evidence.get("growth"))
    yield from _types(evidence["types"])
    traced = evidence.get("traced_seconds", 0)
    title = f"lines that allocated, in {format_duration(traced)}" if traced else "traced lines"
    for key, heading in (("sites", title), ("mappings", "mappings by resident size")):
        rows = evidence.get(key)
        yield from _section(heading, [f"{format_size(row[1]):>12}  {row[0]}" for row in _list(rows)], rows)
    yield from _by_python(evidence)
    yield from _section("allocators", _allocators(evidence.get("allocators")), evidence.get("allocators"))
    caches = evidence.get("caches") or {}
    yield from _section("caches", [f"{'':12}  {cache}: {_pairs(stats)}" for cache, stats in caches.items()], caches)
    chains = evidence.get("chains") or {}
    if "unavailable" in chains:
        yield from _section("what keeps it alive", [], chains)
        return
    for type_name, chain in chains.items():
        text = " -> ".join(chain) or "no module leads to it"
        guess = "" if type_name in _known_to_grow(evidence) else ", among the most common: none is known to grow"
        yield from _section(f"what keeps {type_name} alive{guess}", [f"{'':12}  {text}"], chain)


def _known_to_grow(evidence: dict[str, Any]) -> set[str]:
    """The types that grew while it was looked, or in the minutes after the leak was found."""
    growth = evidence.get("growth") or {}
    return {row[0] for row in _list(evidence["types"].get("grown"))} | {row["name"] for row in growth.get("types", ())}


def _types(types: dict[str, Any]) -> Iterator[str]:
    if "unavailable" in types:
        yield from _section("types", [], types)
        return
    yield from _section("types that grew", _rows(types, "grown", lambda row: f"{row[1]:+12,d}  {row[0]}"), types)
    most = _rows(types, "most", lambda row: f"{row[1]:12,d}  {format_size(row[2]):>10}  {row[0]}")
    yield from _section("most common types, of objects up to 512 bytes", most, types)


def _growth(growth: dict[str, Any] | None) -> Iterator[str]:
    """What grew for certain in the minutes after a leak was found."""
    if not growth:
        return
    within = format_duration(growth["seconds"])
    whose = ORIGIN_WORDS.get(growth["origin"], "unknown")
    yield from _section(f"what grew in {within} after the leak was found", [f"{'':12}  {whose}"], growth)
    for key, title in (("types", "types"), ("sites", "lines")):
        rows = [f"{'+' + format_size(int(row['gained'])):>12}  {row['name']}" for row in growth[key]]
        yield from _section(f"{title} that grow for certain", rows, growth)


def _outside(evidence: dict[str, Any]) -> Iterator[str]:
    """What there is of a process that AMM is not in."""
    memory = evidence.get("memory") or {}
    yield from _section("memory", [f"{format_size(size):>12}  {kind}" for kind, size in memory.items()], memory)
    if grown := evidence.get("grown"):
        rows = [f"{'+' + format_size(size):>12}  {name}" for name, size in grown["mappings"]]
        total = f"{format_size(abs(grown['resident']))} {'more' if grown['resident'] >= 0 else 'less'} resident"
        within = format_duration(grown["seconds"])
        yield from _section(f"{total} after {within}, by mapping", rows or [f"{'':12}  none grew"], grown)


def _origin(evidence: dict[str, Any]) -> Iterator[str]:
    """Whose the growth of the last minutes was, leak or not."""
    if evidence.get("origin"):
        whose = ORIGIN_WORDS.get(evidence["origin"], "unknown")
        within = format_duration(evidence["origin_seconds"])
        yield from _section(f"what grew in the last {within}", [f"{'':12}  {whose}"], evidence)


def _by_python(evidence: dict[str, Any]) -> Iterator[str]:
    """Whether Python's code allocates what grows."""
    traced, grown = evidence.get("traced_bytes"), evidence.get("grown_bytes")
    if traced is None or grown is None or grown < TELLING_BYTES:
        return
    lines = f"Python's lines hold {format_size(traced)} of it"
    says = lines if traced >= SHARE * grown else f"{lines}: the rest is C code's, or free space"
    yield from _section(f"grew by {format_size(grown)} meanwhile", [f"{'':12}  {says}"], evidence)


def _section(title: str, rows: list[str], source: object) -> Iterator[str]:
    if isinstance(source, dict) and "unavailable" in source:
        rows = [f"{'':12}  not available: {source['unavailable']}"]
    if rows:
        yield f"  {title}"
        yield from (f"  {row}" for row in rows[:TOP])


def _verdicts(verdicts: dict[str, Any]) -> list[str]:
    return [
        f"{'LEAKS' if verdict['leaking'] else verdict['kind']:>12}  {series}: {'; '.join(verdict['reasons'])}"
        for series, verdict in verdicts.items()
        if isinstance(verdict, dict)
    ]


def _rows(types: object, key: str, line: Any) -> list[str]:
    return [line(row) for row in _list(types.get(key))] if isinstance(types, dict) else []


def _list(rows: object) -> list[Any]:
    return rows if isinstance(rows, list) else []


def _allocators(allocators: object) -> list[str]:
    return [
        f"{format_size(one['held_bytes']):>12}  {one['allocator']}:"
        f" {format_ratio(round(one['free_bytes'] / max(1, one['held_bytes']), 3))} of it free"
        for one in _list(allocators)
    ]


def _pairs(stats: object) -> str:
    known = {key: value for key, value in stats.items() if value is not None} if isinstance(stats, dict) else {}
    return ", ".join(f"{key} {value}" for key, value in known.items())
