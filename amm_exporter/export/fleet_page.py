"""The page at `/` of many processes watched from outside. What it says is fleet_status.py's, how fleet_html.py's."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from amm_exporter import __version__
from amm_exporter.control.fleet import Fleet
from amm_exporter.export.document import document, favicon, json_response, page_response, part_response
from amm_exporter.export.fleet_html import numbers, summary, table, title
from amm_exporter.export.fleet_status import fleet_status
from amm_exporter.export.server import Handler

RELOAD = '<noscript><meta http-equiv="refresh" content="10"></noscript>\n'
"""For a browser without script; with it, the numbers alone are asked for."""


def fleet_routes(fleet: Fleet) -> dict[str, Handler]:
    """Handlers for `/` and what it asks for."""
    return {
        "/": lambda request: page_response(partial(page, _look(fleet))),
        "/api/v1/status.json": lambda request: json_response(_look(fleet)),
        "/api/v1/numbers.html": lambda request: part_response(numbers(_look(fleet))),
        "/favicon.ico": favicon,
    }


def _look(fleet: Fleet) -> dict[str, Any]:
    return fleet_status(
        fleet.read(), fleet.host(), pattern=fleet.pattern, now_unix_seconds=time.time(), version=__version__
    )


def page(found: dict[str, Any], nonce: str) -> str:
    """The whole page."""
    body = f"""{summary(found)}
<section class="card"><h2>Processes</h2><div class="scroll">{table(found)}</div></section>"""
    return document(title(found), body, nonce, styles=("page.css", "fleet.css"), scripts=("fleet.js",), head=RELOAD)
