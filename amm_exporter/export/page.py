"""The page at `/` of one process or one family of them. What it says is status.py's, in words numbers.py's.

Its charts are drawn by the vendored uPlot (MIT, see static/uplot-LICENSE.txt).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from amm_exporter import __version__
from amm_exporter.export.document import document, favicon, json_response, page_response, part_response
from amm_exporter.export.exposition import Family
from amm_exporter.export.history import History
from amm_exporter.export.numbers import details, numbers, summary
from amm_exporter.export.server import Handler
from amm_exporter.export.status import starts, status

Evidence = Callable[[Mapping[int, float]], dict[str, Any] | None]


def page_routes(
    families: Callable[[], list[Family]],
    history: Callable[[], History | None],
    evidence: Evidence = lambda starts: None,
) -> dict[str, Handler]:
    """Handlers for `/` and what it asks for, over the families of a scrape and the history of this process.

    `evidence` is asked for the last one of any process, by pid and when it began.
    """
    look = partial(_look, families, history, evidence)
    return {
        "/": lambda request: page_response(partial(page, look())),
        "/api/v1/status.json": lambda request: json_response(look()),
        "/api/v1/numbers.html": lambda request: part_response(numbers(look())),
        "/favicon.ico": favicon,
    }


def _look(
    families: Callable[[], list[Family]], history: Callable[[], History | None], evidence: Evidence
) -> dict[str, Any]:
    seen, found, now = history(), families(), time.time()
    pid = seen.pid if seen is not None and seen.pid is not None else os.getpid()
    last = evidence(starts(found, pid, now))
    return status(found, pid=pid, now_unix_seconds=now, version=__version__, history=seen, evidence=last)


def page(found: dict[str, Any], nonce: str) -> str:
    """The whole page."""
    body = f"""<div id="summary">{summary(found)}</div>
<div class="grid">
<section class="card"><h2>Memory in use against the tiers</h2><div class="chart" id="use-chart"></div></section>
<section class="card"><h2>Resident memory of process {found["pid"]}</h2>
<div class="chart" id="memory-chart"></div></section>
</div>
<div id="details">{details(found)}</div>"""
    return document(
        f"{(found['tier'] or 'AMM').upper()} · {found['service'] or 'AMM'}",
        body,
        nonce,
        styles=("uplot-1.6.32.min.css", "page.css"),
        scripts=("uplot-1.6.32.min.js", "page.js"),
    )
