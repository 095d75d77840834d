"""Families as JSON and back: what a process leaves where its siblings can read it. Pure.

JSON and not pickle or marshal: siblings may run other Python versions, and a damaged file must not run anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from amm_exporter.export.exposition import Buckets, Family, Labels, Value

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What one process showed at `unix_seconds`."""

    unix_seconds: float
    families: tuple[Family, ...] = ()


@dataclass(slots=True, kw_only=True)
class Book:
    """What the group remembers: sums of its dead, how many they are, and whose files may still lie about.

    `labelled`: series carry the worker's label. Once they do they keep it, so that series do not change their identity
    each time a pool of workers comes and goes.
    """

    totals: dict[str, Family] = field(default_factory=dict)
    exited_count: int = 0
    folded: list[str] = field(default_factory=list)
    labelled: bool = False


def dump_snapshot(snapshot: Snapshot) -> bytes:
    return _dump({"version": VERSION, "at": snapshot.unix_seconds, "families": _listed(snapshot.families)})


def load_snapshot(data: bytes) -> Snapshot:
    """Raises ValueError for anything that `dump_snapshot` has not written."""
    document = _document(data)
    try:
        return Snapshot(unix_seconds=float(document["at"]), families=tuple(map(_family, document["families"])))
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"a damaged snapshot: {error!r}") from error


def dump_book(book: Book) -> bytes:
    return _dump(
        {
            "version": VERSION,
            "totals": _listed(book.totals.values()),
            "exited": book.exited_count,
            "folded": book.folded,
            "labelled": book.labelled,
        }
    )


def load_book(data: bytes) -> Book:
    """Raises ValueError for anything that `dump_book` has not written."""
    document = _document(data)
    try:
        return Book(
            totals={family.name: family for family in map(_family, document["totals"])},
            exited_count=int(document["exited"]),
            folded=list(map(str, document["folded"])),
            labelled=bool(document["labelled"]),
        )
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"a damaged book: {error!r}") from error


def _dump(document: dict[str, object]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _document(data: bytes) -> dict[str, Any]:
    document = json.loads(data)
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise ValueError("another version of AMM wrote this")
    return document


def _listed(families: Iterable[Family]) -> list[object]:
    return [
        [
            family.name,
            family.kind,
            family.help,
            family.unit,
            [[labels, _plain(v)] for labels, v in family.series.items()],
        ]
        for family in families
    ]


def _plain(value: Value) -> object:
    return [value.bounds, value.counts, value.sum] if isinstance(value, Buckets) else value


def _family(listed: object) -> Family:
    if not isinstance(listed, list):
        raise TypeError("a family is a list")
    name, kind, text, unit, series = listed
    return Family(name, kind, text, unit, {_labels(labels): _value(value) for labels, value in series})


def _labels(labels: list[list[str]]) -> Labels:
    return tuple((key, value) for key, value in labels)


def _value(value: object) -> Value:
    if isinstance(value, list):
        bounds, counts, total = value
        return Buckets(tuple(bounds), tuple(counts), total)
    if isinstance(value, (int, float)):
        return value
    raise TypeError(f"{value!r} is no value")
