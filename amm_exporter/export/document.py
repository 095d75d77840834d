"""What the pages have in common: one HTML document that needs no other host, and the answers around it.

Style and script are files in static/, put into the page as a whole. A policy of the browser (CSP) lets nothing run but
those.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from amm_exporter import __version__
from amm_exporter.export.http import Request, Response

HTML = "text/html; charset=utf-8"
_STATIC = Path(__file__).parent / "static"


def document(
    title: str, body: str, nonce: str, *, styles: Iterable[str], scripts: Iterable[str], head: str = ""
) -> str:
    """The whole document. `body` and `head` are HTML, `title` is text; styles and scripts are files of static/."""
    run = "\n".join(f'<script nonce="{nonce}">{_asset(name)}</script>' for name in scripts)
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
{head}<style nonce="{nonce}">{"".join(map(_asset, styles))}</style>
{body}
<footer><a href="metrics">/metrics</a><a href="api/v1/status.json">/api/v1/status.json</a><a href="healthz">/healthz</a>
<span>AMM {escape(__version__)}</span></footer>
{run}
</html>
"""


def page_response(build: Callable[[str], str]) -> Response:
    """What `build(nonce)` makes, with the policy that lets only what carries the nonce run."""
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
        "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}
    return Response(content_type=HTML, body=build(nonce).encode(), headers=headers)


def part_response(html: str) -> Response:
    """A part of a page, as its script asks for it."""
    return Response(content_type=HTML, body=html.encode())


def json_response(found: dict[str, Any]) -> Response:
    body = json.dumps(found, separators=(",", ":"), allow_nan=False).encode()
    return Response(content_type="application/json", body=body)


def favicon(_request: Request) -> Response:
    return Response(content_type="image/svg+xml", body=_asset("favicon.svg").encode())


@cache
def _asset(name: str) -> str:
    return (_STATIC / name).read_text(encoding="utf-8")
