"""The page on caches and pools runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import amm_exporter as amm
from amm_exporter.control.watched import CACHES
from amm_exporter.probes.cache_stats import CacheStats, PoolStats

PAGE = (Path(__file__).parents[2] / "docs" / "caches.md").read_text()


def test_every_block_runs_and_what_it_watches_is_shown() -> None:
    names: dict[str, object] = {}
    try:
        for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
            exec(block, names)
        shown = CACHES.read()
        assert shown["index"] == CacheStats(
            hits=90, misses=10, entries=40, max_entries=100, size_bytes=4096, evictions=3
        )
        assert shown["connections"] == PoolStats(in_use=3, idle=2, max_objects=10, hits=70, misses=5, waits=1)
        assert {"price", "sessions", "users", "buffers", "articles"} <= set(shown)
    finally:
        for name in ("price", "sessions", "index", "connections", "users", "buffers", "articles"):
            amm.unwatch(name)
