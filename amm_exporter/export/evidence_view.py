"""What the page and its JSON show of the evidence of a leak. Pure.

The page may be opened to others, so it names a mapped file without its directory and a line of code with one directory:
enough to know it by, and nothing of users, homes and deployments. Whole paths are in the evidence file and log record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from amm_exporter.analysis.growth import ORIGIN_WORDS

TOP = 8
LONGEST_NAME = 120


def public(evidence: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The evidence as plain, bounded rows; None where there is none. Bytes, seconds; a part that failed is empty."""
    if not evidence:
        return None
    types, growth = evidence.get("types"), evidence.get("growth")
    return {
        "unix_seconds": evidence["unix_seconds"],
        "pid": evidence["pid"],
        "file": PurePosixPath(str(evidence["file"])).name if evidence.get("file") else None,
        "series": [
            {"series": name, "kind": verdict["kind"], "reasons": list(verdict["reasons"])}
            for name, verdict in evidence["verdicts"].items()
            if verdict["leaking"]
        ],
        "growth": _growth(growth) if growth else None,
        "types": [
            {"name": _cut(name), "count": count, "bytes": size}
            for name, count, size in _rows(types.get("most") if isinstance(types, Mapping) else None)
        ],
        "sites": _sizes((_line(name), size) for name, size in _rows(evidence.get("sites"))),
        "mappings": _sizes((_file(name), size) for name, size in _list(evidence.get("mappings"))),
        "allocators": [
            {"name": one["allocator"], "held_bytes": one["held_bytes"], "free_bytes": one["free_bytes"]}
            for one in _rows(evidence.get("allocators"))
        ],
        "caches": _caches(evidence.get("caches")),
    }


def _growth(growth: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "seconds": growth["seconds"],
        "origin": ORIGIN_WORDS.get(growth["origin"]),
        "types": [_grown(_cut(row["name"]), row) for row in growth["types"][:TOP]],
        "sites": [_grown(_line(row["name"]), row) for row in growth["sites"][:TOP]],
    }


def _grown(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "slope": row["slope"], "lower": row["lower"], "gained_bytes": row["gained"]}


def _sizes(rows: Iterable[tuple[str, float]]) -> list[dict[str, Any]]:
    """Largest first; those that are called the same now are one."""
    sizes: Counter[str] = Counter()
    for name, size in rows:
        sizes[name] += int(size)
    return [{"name": name, "bytes": size} for name, size in sizes.most_common(TOP)]


def _caches(caches: object) -> list[dict[str, Any]]:
    """By entries; a pool by the objects it holds."""
    if not isinstance(caches, Mapping) or "unavailable" in caches:
        return []
    found = [
        {
            "name": _cut(name),
            "entries": stats.get("entries", stats.get("idle")),
            "max_entries": stats.get("max_entries", stats.get("max_objects")),
            "bytes": stats.get("size_bytes"),
        }
        for name, stats in caches.items()
        if isinstance(stats, Mapping)
    ]
    return sorted(found, key=lambda row: -(row["entries"] or 0))[:TOP]


def _list(rows: object) -> list[Any]:
    return rows if isinstance(rows, list) else []


def _rows(rows: object) -> list[Any]:
    return _list(rows)[:TOP]


def _file(name: str) -> str:
    """`/usr/lib/libz.so.1` -> `libz.so.1`; `[heap]` and `anonymous` as they are."""
    return _cut(name.rpartition("/")[2] or name)


def _line(name: str) -> str:
    """`/srv/shop/cart.py:12` -> `shop/cart.py:12`."""
    return _cut("/".join(name.split("/")[-2:]))


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}"
