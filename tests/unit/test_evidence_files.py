"""Files of evidence as siblings of another version, or people with an editor, may have left them."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterator
from copy import deepcopy
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from amm_exporter.control.evidence import EvidenceRecorder
from amm_exporter.control.evidence_files import telling_most, written
from amm_exporter.errors import ProbeError
from amm_exporter.export.numbers import numbers
from amm_exporter.export.status import status

WHOLE: dict[str, Any] = {
    "unix_seconds": 990.0,
    "pid": 7,
    "verdicts": {"rss": {"leaking": True, "kind": "steady", "reasons": ["grows by 2 MiB/h"]}},
    "types": {"most": [["shop.Order", 4_000, 2_000_000]]},
    "sites": [["/srv/shop/cart.py:12", 700_000.0]],
    "mappings": [["[heap]", 9_000_000]],
    "allocators": [{"allocator": "pymalloc", "held_bytes": 40_000_000, "free_bytes": 1_000_000}],
    "caches": {"prices": {"entries": 321, "max_entries": None, "size_bytes": None}, "broken": None},
    "growth": {
        "seconds": 30.0,
        "origin": "python",
        "types": [{"name": "shop.Order", "slope": None, "lower": 2.0, "gained": 9.0}],
        "sites": [],
    },
}
WRONG = (None, True, 7, -1e300, float("nan"), "x", [], [[]], [None], ["x"], {}, {"x": None}, {"x": {}})


def shown(tmp_path: Path, text: str) -> bool:
    """Whether the page takes it; it must be made in any case."""
    (tmp_path / "amm-evidence-7-990.json").write_text(text)
    found = telling_most(written(tmp_path, {7: 900.0}))
    document = status((), pid=7, now_unix_seconds=1000.0, version="1", evidence=found)
    json.dumps(document, allow_nan=False)
    return "Evidence of the last leak" in numbers(document)


def places(part: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    """Where in the evidence something stands."""
    names = part.keys() if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ()
    for name in names:
        yield (*path, name)
        yield from places(part[name], *path, name)


def test_whole_evidence_is_shown_and_so_is_what_could_not_be_read_in_part(tmp_path: Path) -> None:
    assert shown(tmp_path, json.dumps(WHOLE))
    parts = {part: {"unavailable": "no /proc"} for part in ("types", "sites", "mappings", "allocators", "caches")}
    assert shown(tmp_path, json.dumps({**WHOLE, **parts}))


def test_what_is_written_is_shown(tmp_path: Path) -> None:
    def unreadable() -> dict[str, object]:
        raise ProbeError("no caches")

    recorder = EvidenceRecorder(tmp_path, caches=unreadable, wall=lambda: 990.0)
    recorder.capture({})
    [path] = tmp_path.iterdir()
    path.rename(tmp_path / "amm-evidence-7-990.json")
    assert [one["unix_seconds"] for one in written(tmp_path, {7: 900.0})] == [990.0]


@pytest.mark.parametrize("path", list(places(WHOLE)), ids=str)
def test_a_page_is_made_whatever_stands_in_the_place_of_a_part(tmp_path: Path, path: tuple[Any, ...]) -> None:
    for wrong in WRONG:
        evidence = deepcopy(WHOLE)
        reduce(operator.getitem, path[:-1], evidence)[path[-1]] = wrong
        shown(tmp_path, json.dumps(evidence))


@pytest.mark.parametrize("name", list(WHOLE))
def test_what_is_no_evidence_is_left_out(tmp_path: Path, name: str) -> None:
    assert not shown(tmp_path, json.dumps({**WHOLE, name: "x" if name != "types" else {"most": "x"}}))
    (tmp_path / "amm-evidence-²-³.json").write_text("{}")
    assert not shown(tmp_path, "[" * 100_000)
