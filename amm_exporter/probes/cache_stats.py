"""What a cache or an object pool tells about itself, and how to read it from the many shapes that statistics have.

An object takes part by one method, `amm_stats()`, or where that is missing `stats()`, `get_stats()` or `cache_info()`.
It returns a CacheStats or PoolStats, a mapping, a named tuple, a dataclass, or a pair of hits and misses; the names
understood are in CACHE_NAMES and POOL_NAMES. Every number is optional.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStats:
    """Counters since the cache was made (or watched, where AMM counts), sizes now. None: not known."""

    hits: int | None = None
    misses: int | None = None
    entries: int | None = None
    max_entries: int | None = None
    size_bytes: int | None = None
    evictions: int | None = None

    @property
    def hit_ratio(self) -> float | None:
        """Hits over look-ups; None before the first one."""
        if self.hits is None or self.misses is None or self.hits + self.misses == 0:
            return None
        return self.hits / (self.hits + self.misses)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStats:
    """`hits` were served by an idle object, `misses` made a new one, `waits` found none left. None: not known."""

    in_use: int | None = None
    idle: int | None = None
    max_objects: int | None = None
    hits: int | None = None
    misses: int | None = None
    waits: int | None = None


COUNTERS = ("hits", "misses", "evictions", "waits")
"""The fields that only ever grow."""
METHODS = ("amm_stats", "stats", "get_stats", "cache_info")
TAKES_NO_LOCK = "amm_stats_takes_no_lock"
"""An attribute that is True where `amm_stats()` can be asked in a forked child at once: its counts then begin anew."""
CACHE_NAMES = {
    "hits": ("hits", "hit_count", "get_hits"),
    "misses": ("misses", "miss_count", "get_misses"),
    "entries": ("entries", "currsize", "curr_items"),
    "max_entries": ("max_entries", "maxsize"),
    "size_bytes": ("size_bytes", "bytes"),
    "evictions": ("evictions", "eviction_count"),
}
POOL_NAMES = {
    "in_use": ("in_use", "checked_out"),
    "idle": ("idle", "checked_in"),
    "max_objects": ("max_objects", "max_size"),
    "hits": ("hits",),
    "misses": ("misses",),
    "waits": ("waits",),
}


def parse_stats(answer: object) -> CacheStats | PoolStats | None:
    """The statistics in an answer; None when nothing in it is understood."""
    if isinstance(answer, (CacheStats, PoolStats)):
        kind = type(answer)
        return kind(**{name: whole_number(getattr(answer, name)) for name in kind.__slots__})
    if type(answer) is tuple and [type(number) for number in answer] == [int, int]:  # as diskcache has it
        answer = dict(zip(("hits", "misses"), answer, strict=True))
    fields = (
        merged(answer) if isinstance(answer, (list, tuple)) and not hasattr(answer, "_fields") else as_mapping(answer)
    )
    if any(name in fields for name in POOL_NAMES["in_use"]):
        return PoolStats(**numbers(fields, POOL_NAMES))
    found = numbers(fields, CACHE_NAMES)
    return CacheStats(**found) if found else None


def as_mapping(answer: object) -> Mapping[str, Any]:
    if isinstance(answer, Mapping):
        return {
            key.decode("ascii", "replace") if isinstance(key, bytes) else key: value for key, value in answer.items()
        }
    if isinstance(answer, tuple) and hasattr(answer, "_asdict"):
        return dict(answer._asdict())
    if dataclasses.is_dataclass(answer) and not isinstance(answer, type):
        return {field.name: getattr(answer, field.name) for field in dataclasses.fields(answer)}
    return {}


def merged(answer: list[object] | tuple[object, ...]) -> Mapping[str, int]:
    """The sum over servers of a memcached client's answer, a list of pairs of name and mapping."""
    total: dict[str, int] = {}
    for item in answer:
        fields = as_mapping(item[1]) if isinstance(item, tuple) and len(item) == 2 else {}
        for name in (name for names in CACHE_NAMES.values() for name in names):
            number = whole_number(fields.get(name))
            if number is not None:
                total[name] = total.get(name, 0) + number
    return total


def numbers(fields: Mapping[str, Any], names: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    """Of each statistic the first spelling that holds a number."""
    found = {}
    for field, spellings in names.items():
        values = (whole_number(fields.get(spelling)) for spelling in spellings)
        value = next((value for value in values if value is not None), None)
        if value is not None:
            found[field] = value
    return found


def whole_number(value: object) -> int | None:
    """A count: not negative, from a number or its digits; anything else is unknown."""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) < 20 else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if math.isfinite(value) and value >= 0 else None
