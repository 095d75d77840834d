"""The HTML report: one self-contained page with the tree over time, every test, each breach in full. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from amm_exporter.units import MIB, format_ratio, format_size

_WIDTH, _HEIGHT = 1080, 260
_LEFT, _BOTTOM, _TOP = 76, 24, 14

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5c6670; --line: #d5dae0; --fill: #3b7dd8; --bad: #c62828;
  --back: #ffffff; --card: #f6f8fa; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #9aa5b1; --line: #3a424b; --fill: #6aa5f0;
  --bad: #ff7b72; --back: #14181c; --card: #1d2329; } }
body { font: 14px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--back); max-width: 1120px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0 0 .2rem; } h2 { font-size: 1.05rem; margin: 1.6rem 0 .5rem; }
.facts { color: var(--soft); margin: 0 0 1rem; } .bad { color: var(--bad); font-weight: 600; }
svg { width: 100%; min-width: 680px; height: auto; background: var(--card); border-radius: 6px; }
.scroll { overflow-x: auto; }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
svg text.over { paint-order: stroke; stroke: var(--card); stroke-width: 4px; }
table { border-collapse: collapse; width: 100%; } th, td { padding: .25rem .5rem; text-align: right; }
th { cursor: pointer; user-select: none; border-bottom: 2px solid var(--line); white-space: nowrap; }
td { border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; white-space: nowrap; }
th:last-child, td:last-child { text-align: left; white-space: normal; overflow-wrap: anywhere; width: 60%;
  min-width: 18rem; }
th[aria-sort=ascending]::after { content: " \\25B4"; } th[aria-sort=descending]::after { content: " \\25BE"; }
.bar { background: linear-gradient(to right,
  color-mix(in srgb, var(--fill) 30%, transparent) var(--w), transparent 0); }
details { background: var(--card); border-radius: 6px; padding: .5rem .8rem; margin: .4rem 0; }
summary { overflow-wrap: anywhere; }
pre { overflow-x: auto; margin: .5rem 0 0; }
input { font: inherit; padding: .25rem .5rem; width: 22rem; max-width: 100%; }
"""

_SCRIPT = """
const table = document.querySelector("table"), body = table.tBodies[0];
table.tHead.addEventListener("click", event => {
  const head = event.target.closest("th"); if (!head) return;
  const column = head.cellIndex, up = head.getAttribute("aria-sort") === "descending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = row => {
    const cell = row.cells[column];
    return "v" in cell.dataset ? +cell.dataset.v : cell.textContent;
  };
  const rows = [...body.rows].sort((a, b) => { const x = key(a), y = key(b); return x < y ? 1 : x > y ? -1 : 0; });
  body.append(...(up ? rows.reverse() : rows));
});
table.tHead.addEventListener("keydown", event => {
  if (event.key === "Enter" || event.key === " ") { event.preventDefault(); event.target.click(); }
});
document.querySelector("input").addEventListener("input", event => {
  const words = event.target.value.toLowerCase().split(/\\s+/);
  for (const row of body.rows) row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
});
"""

_LEGEND = "Line: all processes together. Bars: each test up to its own peak, red over budget or leaking; point at one."

_COLUMNS = (
    ("peak", "peak_bytes", "the most that was resident at one time, child processes included"),
    ("growth", "growth_bytes", "the peak less what was resident when the test began"),
    ("kept", "kept_bytes", "resident after its teardown less what was before its setup"),
    ("children", "children_bytes", "the most that child processes had at one time"),
    ("slack", "slack_bytes", "free heap at its start, that it could take again without growing"),
    ("seconds", "seconds", "how long it took"),
)


def page(document: Mapping[str, Any], points: Sequence[tuple[float, int]] = ()) -> str:
    """The page for one report document. `points` are the tree over time, in seconds since the start and bytes."""
    tests = document["tests"]
    summary = document["summary"]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Memory of a test run</title><style>{_STYLE}</style></head><body>"
        f"<h1>Memory of {summary['tests']} tests</h1>{_facts(document)}"
        f"{timeline(tests, points, summary['budget_bytes'])}{_breaches(tests)}{_table(tests)}"
        f"<script>{_SCRIPT}</script></body></html>\n"
    )


def timeline(tests: Sequence[Mapping[str, Any]], points: Sequence[tuple[float, int]], budget_bytes: int | None) -> str:
    """The tree over time as an SVG, the budget as a line, each test as a bar of its own peak that tells its name."""
    end = max([test["start_seconds"] + test["seconds"] for test in tests] + [at for at, _ in points], default=0)
    end = end if end > 0 else 1.0  # not so where the clock on the wall was set back
    top = max([test["peak_bytes"] for test in tests] + [size for _, size in points] + [budget_bytes or 0], default=0)
    top = max(top * 1.05, 1)

    def x(seconds: float) -> float:
        return _LEFT + max(0.0, seconds) / end * (_WIDTH - _LEFT - 8)

    def y(size_bytes: float) -> float:
        return _HEIGHT - _BOTTOM - size_bytes / top * (_HEIGHT - _BOTTOM - _TOP)

    parts = []
    for size in ticks(top, MIB):
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y(size):.1f}" y2="{y(size):.1f}" stroke="var(--line)"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y(size) + 4:.1f}" text-anchor="end">{format_size(size)}</text>')
    for at in ticks(end, 1.0):
        parts.append(f'<text x="{x(at):.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{at:.6g} s</text>')
    for test in sorted(tests, key=lambda test: bool(_note(test))):  # what is wrong on top, to be seen among thousands
        if not test["seconds"]:  # its process was killed: it is not known when it ran
            continue
        left, right = x(test["start_seconds"]), x(test["start_seconds"] + test["seconds"])
        color, opacity, least_width = ("var(--bad)", 0.6, 2.5) if _note(test) else ("var(--fill)", 0.35, 0.8)
        title = f"{test['nodeid']}: peak {format_size(test['peak_bytes'])}, growth {format_size(test['growth_bytes'])}"
        parts.append(
            f'<rect x="{left:.2f}" y="{y(test["peak_bytes"]):.1f}" width="{max(least_width, right - left):.2f}" '
            f'height="{_HEIGHT - _BOTTOM - y(test["peak_bytes"]):.1f}" fill="{color}" fill-opacity="{opacity}">'
            f"<title>{escape(title)}</title></rect>"
        )
    if points:
        path = " ".join(f"{x(at):.1f},{y(size):.1f}" for at, size in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="var(--fill)" stroke-width="1.5"/>')
    if budget_bytes:
        at, name = y(budget_bytes), f"budget {format_size(budget_bytes)}"
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{at:.1f}" y2="{at:.1f}" stroke="var(--bad)" stroke-dasharray="6 4"/>'
        )
        parts.append(f'<text class="over" x="{_LEFT + 6}" y="{at - 5:.1f}">{name}</text>')
    drawing = "".join(parts)
    label = "Memory of the process tree over time"
    picture = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{drawing}</svg>'
    return f'<h2>{label}</h2><div class="scroll">{picture}</div><p class="facts">{_LEGEND}</p>'


def ticks(most: float, unit: float) -> list[float]:
    """From 0 up to `most` in steps of 1, 2 or 5 times a power of ten of the unit, six at most."""
    power = 10.0 ** math.floor(math.log10(most / unit / 5)) * unit
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= most / 5)
    return [step * count for count in range(int(most / step + 1e-9) + 1)]


def _facts(document: Mapping[str, Any]) -> str:
    session, summary = document["session"], document["summary"]
    words = [f"highest test {format_size(summary['peak_bytes'])}"]
    together = max(summary["peak_bytes"], summary.get("tree_peak_bytes") or 0)  # workers of xdist have one budget
    if format_size(together) != format_size(summary["peak_bytes"]):
        words.append(f"all processes {format_size(together)}")
    if budget := summary["budget_bytes"]:
        words.append(f"{format_ratio(together / budget)} of the budget of {format_size(budget)}")
    if summary["over_budget"]:
        words.append(f'<span class="bad">{summary["over_budget"]} over budget, {summary["stopped"]} stopped</span>')
    if leaks := sum(test["leak"] == "leak" for test in document["tests"]):
        words.append(f'<span class="bad">{leaks} leak{"s" * (leaks > 1)}</span>')
    for growth in document.get("suite_growth", ()):
        if growth["decision"] == "leak":
            leak = f"leaks {format_size(growth['bytes_per_test'])} a test across {growth['tests']} tests"
            words.append(f'<span class="bad">{escape(" ".join(filter(None, (growth["worker"], leak))))}</span>')
    words.append(escape(f"Python {session['python']}, pytest {session['pytest']}, amm {session['amm']}"))
    return f'<p class="facts">{" · ".join(words)}</p>'


def _breaches(tests: Sequence[Mapping[str, Any]]) -> str:
    over = "".join(_details(test, _breach_words(test["breach"])) for test in tests if test["breach"])
    leaks = "".join(_details(test, _leak_words(test)) for test in tests if _note(test) == "leaks")
    return (f"<h2>Over budget</h2>{over}" if over else "") + (f"<h2>Leaks</h2>{leaks}" if leaks else "")


def _breach_words(breach: Mapping[str, Any]) -> str:
    budget = f"budget {format_size(breach['budget_bytes'])} ({breach['source']})"
    return f"{format_size(breach['peak_bytes'])} in {breach['phase']}, {budget}"


def _leak_words(test: Mapping[str, Any]) -> str:
    """The headline of its failure: how much a call."""
    told = test.get("message", "").splitlines()  # with xdist the first line is of the worker
    return next((line for line in told if line.startswith("leaks ")), "leaks")


def _details(test: Mapping[str, Any], words: str) -> str:
    head = f'<summary class="bad">{escape(test["nodeid"])}: {escape(words)}</summary>'
    return f"<details>{head}<pre>{escape(test.get('message', ''))}</pre></details>"


def _note(test: Mapping[str, Any]) -> str:
    """What is wrong with the memory of a test, in a word or two."""
    if test["breach"]:
        return "stopped" if test["breach"]["stopped"] else "over budget"
    return "leaks" if test["leak"] == "leak" else ""


def _table(tests: Sequence[Mapping[str, Any]]) -> str:
    most = max((test["growth_bytes"] for test in tests), default=0) or 1
    named = "".join(f'<th tabindex="0" title="{meaning}">{name}</th>' for name, _, meaning in _COLUMNS)
    heads = named + '<th tabindex="0">test</th>'
    rows = "".join(_row(test, most) for test in sorted(tests, key=lambda test: -test["growth_bytes"]))
    return (
        '<h2>Tests</h2><p><input type="search" placeholder="filter by words" aria-label="filter"></p>'
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _row(test: Mapping[str, Any], most_bytes: int) -> str:
    children = max((phase["children_bytes"] for phase in test["phases"]), default=0)
    values = {**test, "children_bytes": children}
    cells = []
    for name, key, _ in _COLUMNS:
        value = values[key] or 0
        known = test["phases"] and values[key] is not None
        shown = f"{value:.3f}" if key == "seconds" else format_size(value) if known else ""
        bar = f' class="bar" style="--w:{value / most_bytes:.1%}"' if name == "growth" else ""
        cells.append(f'<td data-v="{value}"{bar}>{shown}</td>')
    note = f' <span class="bad">{_note(test)}</span>' if _note(test) else ""
    return f"<tr>{''.join(cells)}<td>{escape(test['nodeid'])}{note}</td></tr>"
