"""The page's numbers as HTML: tiles, bars and tables that need no script. Pure: from the status document to text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from amm_exporter.export.evidence_html import evidence_section
from amm_exporter.export.html import (
    BAR_WIDTH,
    NOTHING,
    VIEW,
    bar,
    clock,
    count,
    duration,
    rate,
    ratio,
    section,
    size,
    tiles,
)
from amm_exporter.export.names import PAUSE_BUCKETS_SECONDS
from amm_exporter.model import RAISED_TIERS
from amm_exporter.units import format_duration, format_ratio

MOST_WORKERS = 50
"""Rows of 300 bytes: the page is to stay below 100 kB. All are in status.json and in the metrics."""


def summary(document: dict[str, Any]) -> str:
    """The header with the tier, the most important numbers, and use against the tier lines."""
    return f"{_header(document)}{_tiles(document)}{_readings(document)}"


def details(document: dict[str, Any]) -> str:
    """Everything else, section by section; a section without data is left out."""
    parts = (_workers, _growth, _gc, evidence_section, _caches, _events, _own_cost, _settings, _pools)
    return '<div class="grid">' + "".join(part(document) for part in parts) + "</div>"


def numbers(document: dict[str, Any]) -> str:
    """Both, as the page's script asks for them."""
    return f'<div id="summary">{summary(document)}</div><div id="details">{details(document)}</div>'


def _header(document: dict[str, Any]) -> str:
    tier = document["tier"] or "unknown"
    about = [f"process {document['pid']}"]
    if document["uptime_seconds"] is not None:
        about.append(f"up {format_duration(document['uptime_seconds'])}")
    if document["workers"]:
        about.append(f"{len(document['workers'])} processes share this address")
    return (
        f"<header><h1>{escape(document['service'] or 'AMM')}</h1>"
        f'<span class="about">{escape(" · ".join(about))}</span>'
        f'<span class="badge {tier}" id="tier">{tier}</span></header>'
    )


def _tiles(document: dict[str, Any]) -> str:
    leaks = [row["series"] for row in document["growth"] if row["leaking"]]
    decided = [row["series"] for row in document["growth"] if not row["measuring"]]
    limit = min(document["limits_bytes"].values(), default=None)
    source = min(document["limits_bytes"], key=document["limits_bytes"].get, default="no limit is known")
    facts = [
        ("Resident", size(document["rss_bytes"]), f"peak {size(document['peak_bytes'])}"),
        ("Limit", size(limit), f"from {source}" if limit is not None else source),
        ("Headroom", size(document["headroom_bytes"]), "before the limit that binds"),
        ("Time left", duration(document["exhaustion_seconds"]), "at the measured growth"),
        ("Leak", "yes" if leaks else "none" if decided else NOTHING, ", ".join(leaks) or "by the slope"),
    ]
    if document["group_bytes"] is not None and document["workers"]:
        facts.insert(1, ("All processes", size(document["group_bytes"]), "resident, summed"))
    return tiles(facts)


def _readings(document: dict[str, Any]) -> str:
    ratios = document["usage_ratio"]
    if not ratios:
        return ""
    rows = [
        [escape(scope), size(document["usage_bytes"].get(scope)), format_ratio(ratio), _meter(ratio, document)]
        for scope, ratio in sorted(ratios.items(), key=lambda item: -item[1])
    ]
    lines = " · ".join(f"{tier} {format_ratio(ratio)}" for tier, ratio in _thresholds(document))
    heads = ("scope", "used", "of its limit", f"tiers: {lines}")
    return f'<div class="grid">{section("In use now", heads, rows, wide=True)}</div>'


def _thresholds(document: dict[str, Any]) -> list[tuple[str, float]]:
    known = document["thresholds"]
    return [(tier.label, known[tier.label]) for tier in RAISED_TIERS if tier.label in known]


def _meter(ratio: float, document: dict[str, Any]) -> str:
    passed = [tier for tier, level in _thresholds(document) if ratio >= level]
    ticks = "".join(f'<line class="tick" x1="{x}" x2="{x}" y1="0" y2="16"/>' for x in _at(document))
    width = min(1.0, ratio) * BAR_WIDTH
    return (
        f'<svg class="meter {passed[-1] if passed else "normal"}" {VIEW} '
        f'role="img" aria-label="{format_ratio(ratio)}"><rect class="track" width="{BAR_WIDTH}" height="12" y="2"/>'
        f'<rect class="bar" width="{width:.1f}" height="12" y="2"/>{ticks}</svg>'
    )


def _at(document: dict[str, Any]) -> list[str]:
    return [f"{level * BAR_WIDTH:.1f}" for _, level in _thresholds(document)]


def _workers(document: dict[str, Any]) -> str:
    largest = max((worker["rss_bytes"] or 0 for worker in document["workers"]), default=0) or 1
    rows = [
        [
            str(worker["pid"]),
            _tier(worker["tier"]),
            size(worker["rss_bytes"]),
            bar((worker["rss_bytes"] or 0) / largest),
            size(worker["peak_bytes"]),
            escape(", ".join(worker["leaking_series"])) or "no",
            duration(worker["age_seconds"]),
        ]
        for worker in _worst(document["workers"])
    ]
    heads = ("pid", "tier", "resident", "", "peak", "leak", "age of its numbers")
    return section(_processes(len(document["workers"])), heads, rows, wide=True)


def _processes(count: int) -> str:
    shown = f": {MOST_WORKERS} of {count:,}, those that leak or use most"
    return "Processes" + (shown if count > MOST_WORKERS else "")


def _worst(workers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many as the page has room for, in their order."""
    worst = sorted(workers, key=lambda worker: (worker["leaking"], worker["rss_bytes"] or 0), reverse=True)
    kept = {worker["pid"] for worker in worst[:MOST_WORKERS]}
    return [worker for worker in workers if worker["pid"] in kept]


def _growth(document: dict[str, Any]) -> str:
    rows = [
        [
            escape(row["series"]),
            '<span class="severe">leak</span>' if row["leaking"] else "no leak",
            *_slope(row),
            _band(row),
        ]
        if not row["measuring"]
        else [escape(row["series"]), '<i class="muted">measuring</i>', NOTHING, NOTHING, NOTHING]
        for row in document["growth"]
    ]
    return section(
        "Growth, and where it surely lies", ("series", "verdict", "slope", "between", "0 and threshold ticked"), rows
    )


def _slope(row: dict[str, Any]) -> tuple[str, str]:
    """The slope and its bounds, in one unit."""
    known = [abs(row[key]) for key in ("slope", "lower", "upper") if row[key] is not None]
    slope, lower, upper = (rate(row[key], like=max(known, default=None)) for key in ("slope", "lower", "upper"))
    return slope, f"{lower} to {upper}"


def _band(row: dict[str, Any]) -> str:
    known = [row[key] for key in ("lower", "upper", "slope", "threshold") if row[key] is not None]
    reach = max((abs(value) for value in known), default=0.0)
    if row["lower"] is None or row["upper"] is None or not reach or not math.isfinite(reach):
        return NOTHING
    scale = 0.48 * BAR_WIDTH / reach
    left, right = (BAR_WIDTH / 2 + row[key] * scale for key in ("lower", "upper"))
    ticks = [BAR_WIDTH / 2, *([BAR_WIDTH / 2 + row["threshold"] * scale] if row["threshold"] is not None else [])]
    lines = "".join(f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="16"/>' for x in ticks)
    return (
        f'<svg class="{"severe" if row["leaking"] else "normal"}" {VIEW}>'
        f'<rect class="track" width="{BAR_WIDTH}" height="6" y="5"/>'
        f'<rect class="bar" x="{left:.1f}" width="{max(4.0, right - left):.1f}" height="6" y="5"/>{lines}</svg>'
    )


def _gc(document: dict[str, Any]) -> str:
    rows = [
        [
            escape(str(row["generation"])),
            f"{row['count']:,}",
            duration(row["seconds"]),
            duration(row["longest_seconds"]),
            _histogram(row["counts"]),
        ]
        for row in document["gc"]
    ]
    buckets = f"{duration(PAUSE_BUCKETS_SECONDS[0])} to over {duration(PAUSE_BUCKETS_SECONDS[-1])}"
    heads = ("generation", "collections", "paused", "longest", buckets)
    return section(f"Garbage collection pauses{_of_all(document)}", heads, rows)


def _histogram(counts: Sequence[int]) -> str:
    """Heights by logarithm: one slow collection among thousands of quick ones must be seen."""
    top = math.log1p(max(counts, default=0)) or 1.0
    step = BAR_WIDTH / max(1, len(counts))
    bars = []
    for place, many in enumerate(counts):
        height = 16 * math.log1p(many) / top
        bars.append(
            f'<rect x="{place * step:.1f}" width="{step - 12:.1f}" y="{16 - height:.1f}" height="{height:.1f}"/>'
        )
    return f'<svg class="bars" {VIEW}>{"".join(bars)}</svg>'


def _caches(document: dict[str, Any]) -> str:
    rows = [
        [
            escape(cache["name"]),
            ratio(cache["hit_ratio"]),
            bar(cache["hit_ratio"]),
            count(cache["hits"]),
            count(cache["misses"]),
            _filled(cache),
            size(cache["bytes"]),
            count(cache["evictions"]),
        ]
        for cache in document["caches"]
    ]
    heads = ("cache", "hit ratio", "", "hits", "misses", "entries", "size", "evicted")
    return section(f"Caches{_of_all(document)}", heads, rows, wide=True)


def _filled(cache: dict[str, Any]) -> str:
    most = cache["max_entries"]
    return count(cache["entries"]) + (f" of {count(most)}" if most is not None else "")


def _of_all(document: dict[str, Any]) -> str:
    """What is added up in a family, beside what is of the process that serves."""
    return " of all processes" if document["workers"] else ""


def _pools(document: dict[str, Any]) -> str:
    keys = ("used", "idle", "hits", "misses", "waits")
    rows = [[escape(pool["name"]), *(count(pool.get(key)) for key in keys)] for pool in document["pools"]]
    return section(f"Pools{_of_all(document)}", ("pool", "used", "idle", "reused", "made new", "waited"), rows)


def _settings(document: dict[str, Any]) -> str:
    rows = [[escape(name), f"{value:,g}"] for name, value in sorted(document["settings"].items())]
    return section("Settings in force", ("setting", "value"), rows)


def _events(document: dict[str, Any]) -> str:
    rows = [
        [
            clock(event["unix_seconds"]),
            _tier(event["from"]),
            _tier(event["to"]),
            ratio(event["usage_ratio"]),
        ]
        for event in reversed(document["events"][-12:])
    ]
    return section("Last changes of tier", ("time (UTC)", "from", "to", "in use"), rows)


def _own_cost(document: dict[str, Any]) -> str:
    own, watched_seconds = document["self"], sum(document["tier_seconds"].values())
    share = own["cpu_seconds"] / watched_seconds if own["cpu_seconds"] is not None and watched_seconds else None
    rows = [
        ["CPU of the sampler", duration(own["cpu_seconds"])],
        ["share of one core since start", NOTHING if share is None else f"{share * 100:.3f}%"],
        ["memory", size(own["bytes"])],
        ["last sample was late by", duration(own["lateness_seconds"])],
        ["sources that cannot be read", escape(", ".join(own["failed_probes"])) or "none"],
    ]
    return section("What AMM itself costs", ("", ""), rows)


def _tier(tier: str | None) -> str:
    return f'<span class="{tier or "unknown"}">{tier or "unknown"}</span>'
