"""Generated pages are what their generators write now."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_metrics_page_is_the_table() -> None:
    build = runpy.run_path(str(DOCS / "build.py"))
    assert (DOCS / "metrics.md").read_text() == build["page"]()
