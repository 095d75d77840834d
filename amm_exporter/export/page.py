"""The page at `/`: one document that needs no other host, and reads without JavaScript too.

What it says is status.py's; style, script and the vendored uPlot (MIT, see static/uplot-LICENSE.txt) are files in
static/, put into the page as a whole. A policy of the browser (CSP) lets nothing run but those.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from html import escape
from pathlib import Path
from typing import Any

from amm_exporter import __version__
from amm_exporter.export.exposition import Family
from amm_exporter.export.history import History
from amm_exporter.export.http import Request, Response
from amm_exporter.export.numbers import details, numbers, summary
from amm_exporter.export.server import Handler
from amm_exporter.export.status import starts, status

HTML = "text/html; charset=utf-8"
Evidence = Callable[[Mapping[int, float]], dict[str, Any] | None]
_STATIC = Path(__file__).parent / "static"


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
        "/": lambda request: _page(look()),
        "/api/v1/status.json": lambda request: _json(look()),
        "/api/v1/numbers.html": lambda request: Response(content_type=HTML, body=numbers(look()).encode()),
        "/favicon.ico": _favicon,
    }


def _look(
    families: Callable[[], list[Family]], history: Callable[[], History | None], evidence: Evidence
) -> dict[str, Any]:
    seen, found, now = history(), families(), time.time()
    pid = seen.pid if seen is not None and seen.pid is not None else os.getpid()
    last = evidence(starts(found, pid, now))
    return status(found, pid=pid, now_unix_seconds=now, version=__version__, history=seen, evidence=last)


def _json(document: dict[str, Any]) -> Response:
    body = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    return Response(content_type="application/json", body=body)


def _page(document: dict[str, Any]) -> Response:
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
        "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}
    return Response(content_type=HTML, body=page(document, nonce).encode(), headers=headers)


def page(document: dict[str, Any], nonce: str) -> str:
    """The whole document."""
    title = f"{(document['tier'] or 'AMM').upper()} · {document['service'] or 'AMM'}"
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style nonce="{nonce}">{_asset("uplot-1.6.32.min.css")}{_asset("page.css")}</style>
<div id="summary">{summary(document)}</div>
<div class="grid">
<section class="card"><h2>Memory in use against the tiers</h2><div class="chart" id="use-chart"></div></section>
<section class="card"><h2>Resident memory of process {document["pid"]}</h2>
<div class="chart" id="memory-chart"></div></section>
</div>
<div id="details">{details(document)}</div>
<footer><a href="metrics">/metrics</a><a href="api/v1/status.json">/api/v1/status.json</a><a href="healthz">/healthz</a>
<span>AMM {escape(__version__)}</span></footer>
<script nonce="{nonce}">{_asset("uplot-1.6.32.min.js")}</script>
<script nonce="{nonce}">{_asset("page.js")}</script>
</html>
"""


def _favicon(_request: Request) -> Response:
    return Response(content_type="image/svg+xml", body=_asset("favicon.svg").encode())


@cache
def _asset(name: str) -> str:
    return (_STATIC / name).read_text(encoding="utf-8")
