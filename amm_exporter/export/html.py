"""The page's building blocks: sections with a table, bars, numbers as people read them. Pure, from values to HTML."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from html import escape

from amm_exporter.units import format_duration, format_rate, format_ratio, format_size

NOTHING = "–"
BAR_WIDTH = 1000
"""Bars are drawn in thousandths of their width, and scaled by the browser."""
VIEW = f'viewBox="0 0 {BAR_WIDTH} 16" preserveAspectRatio="none"'


def section(title: str, heads: Sequence[str], rows: list[list[str]], wide: bool = False) -> str:
    if not rows:
        return ""
    style = "card wide" if wide else "card"
    return f'<section class="{style}"><h2>{escape(title)}</h2>{table(heads, rows)}</section>'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML already; heads are text."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads) if any(heads) else ""
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table>{f"<tr>{head}</tr>" if head else ""}{body}</table></div>'


def tiles(facts: Iterable[tuple[str, str, str]]) -> str:
    """Of each fact its name, its value and a note on it: text, all three."""
    cards = "".join(
        f'<div class="card tile"><h2>{escape(name)}</h2><b>{escape(value)}</b><span>{escape(note)}</span></div>'
        for name, value, note in facts
    )
    return f'<div class="grid tiles">{cards}</div>'


def bar(ratio: float | None) -> str:
    width = min(1.0, max(0.0, ratio or 0.0)) * BAR_WIDTH
    return (
        f'<svg {VIEW}><rect class="track" width="{BAR_WIDTH}" height="8" y="4"/>'
        f'<rect class="use" width="{width:.1f}" height="8" y="4"/></svg>'
    )


def size(value: float | None) -> str:
    return NOTHING if value is None else format_size(value)


def rate(value: float | None, like: float | None = None) -> str:
    return NOTHING if value is None or not math.isfinite(value) else format_rate(value, like=like)


def ratio(value: float | None) -> str:
    return NOTHING if value is None else format_ratio(value)


def count(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.0f}"


def duration(value: float | None) -> str:
    return NOTHING if value is None else format_duration(value)


def clock(unix_seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(unix_seconds))
