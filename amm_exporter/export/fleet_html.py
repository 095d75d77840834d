"""The page of many processes: header, tiles and a table that need no script. Pure: from the status document to HTML."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

from amm_exporter.export.html import NOTHING, clock, rate, ratio, size, tiles
from amm_exporter.model import Tier

MOST_BYTES_OF_ROWS = 85_000
"""The page is to stay below 100 kB. 200 ordinary processes take 75 kB; of many more, or of endless names, those
that are best off are left to status.json."""
LONGEST_CGROUP = 40
LONGEST_PATTERN = 80
"""Characters that are shown. The name of a container's cgroup has about 80."""
GAUGE_PIXELS = 80
"""As wide as in fleet.css."""

COLUMNS = {
    "pid": "pid",
    "name": "name",
    "tier": "tier",
    "resident": "resident",
    "peak": "peak",
    "limit": "limit",
    "use": "utilization",
    "slope": "slope",
    "cgroup": "cgroup",
    "cgroup-use": "in use there",
}
"""What the script calls a column, and its head."""

ADVICE = (
    "What starts later shows here within seconds. Else hold the pattern against what <code>ps -ww -eo args</code> "
    "prints, and start <code>amm serve --match</code> again with another one: it is a regular expression, may match "
    "anywhere in the command line, and minds case unless it begins with <code>(?i)</code>. Processes of other users "
    "and other containers are seen as far as this one may read /proc."
)


def title(document: Mapping[str, Any]) -> str:
    worst = document["processes"][0]["tier"] if document["processes"] else "no match"
    return f"{worst.upper()} · {_pattern(document)}"


def summary(document: Mapping[str, Any]) -> str:
    """The header with the processes by tier, and the most important numbers."""
    return f'<div id="summary" data-title="{escape(title(document))}">{_header(document)}{_tiles(document)}</div>'


def table(document: Mapping[str, Any]) -> str:
    """One row a process."""
    rows = list(_bounded(map(_row, document["processes"])))
    heads = "".join(f'<th scope="col" data-key="{key}">{text}</th>' for key, text in COLUMNS.items())
    return (
        f'<table class="fleet"><thead><tr>{heads}</tr></thead>'
        f'<tbody id="processes">{"".join(rows) or _nobody(document)}</tbody></table>'
        f'<p id="rest" class="muted">{_rest(document["count"] - len(rows))}</p>'
    )


def numbers(document: Mapping[str, Any]) -> str:
    """All that changes, as the page's script asks for it."""
    return summary(document) + table(document)


def _header(document: Mapping[str, Any]) -> str:
    many = document["count"]
    watched = f"{many:,} {'process' if many == 1 else 'processes'} watched · {clock(document['unix_seconds'])} UTC"
    badges = "".join(
        f'<span class="badge {tier.label}">{document["tiers"][tier.label]:,} {tier.label}</span>'
        for tier in reversed(Tier)
        if document["tiers"][tier.label]
    )
    name = f"<h1><bdi>{escape(_pattern(document))}</bdi></h1>"
    return f'<header>{name}<span class="about">{watched}</span><span class="tiers">{badges}</span></header>'


def _tiles(document: Mapping[str, Any]) -> str:
    return tiles((_host(document), _resident(document), _nearest(document), _leaks(document)))


def _host(document: Mapping[str, Any]) -> tuple[str, str, str]:
    host = document["host"]
    if host is None:
        return "Host memory", NOTHING, "cannot be read"
    used = host["total_bytes"] - host["available_bytes"]
    return "Host memory", ratio(used / host["total_bytes"]), f"{size(used)} of {size(host['total_bytes'])} in use"


def _resident(document: Mapping[str, Any]) -> tuple[str, str, str]:
    largest = max((process["rss_bytes"] for process in document["processes"]), default=0)
    return "Resident", size(document["rss_bytes"]), f"summed, {size(largest)} the largest"


def _nearest(document: Mapping[str, Any]) -> tuple[str, str, str]:
    used = [found for process in document["processes"] for found in _used(process)]
    if not used:
        return "Nearest to its limit", NOTHING, "no process with a limit"
    worst, who = max(used, key=lambda found: found[0])
    return "Nearest to its limit", ratio(worst), who


def _used(process: Mapping[str, Any]) -> Iterator[tuple[float, str]]:
    """Of the process and of its cgroup what is in use, and whose that is."""
    if process["usage_ratio"] is not None:
        yield process["usage_ratio"], f"{process['name']}, pid {process['pid']}"
    shared = _shared(process)
    if shared is not None:
        yield shared, f"cgroup {_cgroup_name(process['cgroup'])}"


def _shared(process: Mapping[str, Any]) -> float | None:
    shared: float | None = process["cgroup"]["usage_ratio"] if process["cgroup"] else None
    return shared


def _leaks(document: Mapping[str, Any]) -> tuple[str, str, str]:
    pids = [str(process["pid"]) for process in document["processes"] if process["growth"]["leaking"]]
    if not pids:
        return "Leaks", "none", "by the slope"
    return "Leaks", f"{len(pids):,}", f"pid {', '.join(pids[:3])}{', …' if len(pids) > 3 else ''}"


def _row(process: Mapping[str, Any]) -> str:
    tier = process["tier"]
    own, shared = process["usage_ratio"], _shared(process)
    cells = (
        f'<td class="name"><bdi>{escape(process["name"])}</bdi></td>',
        f'<td><span class="badge {tier}">{tier}</span></td>',
        f"<td>{size(process['rss_bytes'])}</td>",
        f"<td>{size(process['peak_bytes'])}</td>",
        f"<td>{_limit(process)}</td>",
        f'<td class="{_color(own, shared, tier)}">{_use(own)}</td>',
        f"<td>{_slope(process['growth'])}</td>",
        _cgroup(process["cgroup"], _color(shared, own, tier)),
    )
    return f"<tr><td>{process['pid']}</td>{''.join(cells)}</tr>\n"


def _limit(process: Mapping[str, Any]) -> str:
    return f"{size(process['limit_bytes'])} {process['limit_source'] or ''}"


def _use(used: float | None) -> str:
    return NOTHING if used is None else ratio(used) + _gauge(used)


def _gauge(used: float) -> str:
    return f'<svg><path d="M0 4h{min(1.0, used) * GAUGE_PIXELS:.0f}"/></svg>'


def _slope(growth: Mapping[str, Any]) -> str:
    if growth["leaking"]:
        return f'{rate(growth["slope"])} <b class="severe">leak</b>'
    return '<i class="muted">measuring</i>' if growth["kind"] == "unknown" else rate(growth["slope"])


def _color(used: float | None, other: float | None, tier: str) -> str:
    """The tier's, for what it is of: the higher of the two."""
    return tier if used is not None and used >= (other or 0.0) else ""


def _cgroup(cgroup: Mapping[str, Any] | None, color: str) -> str:
    if cgroup is None:
        return f"<td>{NOTHING}</td><td>{NOTHING}</td>"
    used, limit = cgroup["working_set_bytes"], cgroup["limit_bytes"]
    bound = f" of {size(limit)}{_gauge(used / limit)}" if limit else ""
    return f'<td><bdi>{escape(_cgroup_name(cgroup))}</bdi></td><td class="{color}">{size(used)}{bound}</td>'


def _cgroup_name(cgroup: Mapping[str, Any]) -> str:
    return _cut(cgroup["path"].rpartition("/")[2] or "/", LONGEST_CGROUP)


def _bounded(rows: Iterable[str]) -> Iterator[str]:
    left = MOST_BYTES_OF_ROWS
    for row in rows:
        left -= len(row.encode())
        if left < 0:
            return
        yield row


def _nobody(document: Mapping[str, Any]) -> str:
    what = f"<b>No process matches <code>{escape(_pattern(document))}</code>.</b>"
    return f'<tr><td class="nobody" colspan="{len(COLUMNS)}">{what} {ADVICE}</td></tr>'


def _rest(hidden: int) -> str:
    return f"{hidden:,} more, better off than these, are in status.json and in the metrics." if hidden else ""


def _pattern(document: Mapping[str, Any]) -> str:
    return _cut(document["match"], LONGEST_PATTERN)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
