"""Evidence of the last leak as a part of the page. Pure: from the status document to text."""

from __future__ import annotations

from html import escape
from typing import Any

from amm_exporter.export.html import clock, count, duration, rate, size, table


def evidence_section(document: dict[str, Any]) -> str:
    """A card with what leaked, what of it grew, and what filled the memory then; empty before the first leak."""
    evidence = document["evidence"]
    if evidence is None:
        return ""
    verdicts = "".join(
        f'<p><b class="severe">{escape(row["series"])} leaks</b>: {escape("; ".join(row["reasons"]))}</p>'
        for row in evidence["series"]
    )
    return (
        '<section class="card wide" id="evidence"><h2>Evidence of the last leak</h2>'
        f"{verdicts}{_growing(evidence)}{_parts(evidence)}{_source(evidence)}</section>"
    )


def _growing(evidence: dict[str, Any]) -> str:
    growth = evidence["growth"]
    if growth is None:
        return '<p class="muted">Where it grows is being measured: six readings, five seconds to ten minutes apart.</p>'
    origin = escape(growth["origin"] or "unknown")
    return f"<p>Followed for {duration(growth['seconds'])} after that: what grew was {origin}.</p>"


def _parts(evidence: dict[str, Any]) -> str:
    growth = evidence["growth"] or {"types": [], "sites": []}
    most = [_cells(row, count(row["count"])) for row in evidence["types"]]
    grown = ("grows by at least", "gained")
    parts = [
        _part("Types that grow", grown, [_grown(row) for row in growth["types"]]),
        _part("Lines that grow", grown, [_grown(row) for row in growth["sites"]]),
        _part("Most common types", ("objects", "bytes"), most),
        _part("Lines traced", ("bytes",), [_cells(row) for row in evidence["sites"]]),
        _part("Mappings", ("resident",), [_cells(row) for row in evidence["mappings"]]),
        _part("Allocators", ("held", "free"), [_allocator(row) for row in evidence["allocators"]]),
        _part("Caches", ("entries", "at most", "bytes"), [_cache(row) for row in evidence["caches"]]),
    ]
    return f'<div class="parts">{"".join(parts)}</div>'


def _part(title: str, heads: tuple[str, ...], rows: list[list[str]]) -> str:
    return f"<div>{table((title, *heads), rows)}</div>" if rows else ""


def _name(row: dict[str, Any]) -> str:
    return f'<span class="name" title="{escape(row["name"])}">{escape(row["name"])}</span>'


def _grown(row: dict[str, Any]) -> list[str]:
    return [_name(row), rate(row["lower"]), size(row["gained_bytes"])]


def _cells(row: dict[str, Any], *between: str) -> list[str]:
    return [_name(row), *between, size(row["bytes"])]


def _allocator(row: dict[str, Any]) -> list[str]:
    return [_name(row), size(row["held_bytes"]), size(row["free_bytes"])]


def _cache(row: dict[str, Any]) -> list[str]:
    return [_name(row), count(row["entries"]), count(row["max_entries"]), size(row["bytes"])]


def _source(evidence: dict[str, Any]) -> str:
    where = f" · all of it in {escape(evidence['file'])}, for amm analyze" if evidence["file"] else ""
    more = f"amm evidence --pid {evidence['pid']} --output evidence.json"
    return (
        f'<p class="muted">Taken {clock(evidence["unix_seconds"])} UTC of process {evidence["pid"]}{where} · '
        f"lines of code and what keeps objects alive: <code>{more}</code></p>"
    )
