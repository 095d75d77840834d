"""Writes the three dashboards beside itself: `python dashboards/build.py`.

For maintainers: `pip install grafana-foundation-sdk==0.0.21` (schemaVersion 42), which needs Python 3.11 or later. What
users get is the JSON that this leaves, so nothing of it is needed at run time.
"""

from __future__ import annotations

from pathlib import Path

from fleet import fleet
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from process import process

from tests import tests


def dashboards() -> dict[str, str]:
    """File name to JSON text."""
    boards = {"amm-fleet.json": fleet(), "amm-process.json": process(), "amm-tests.json": tests()}
    return {name: JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n" for name, board in boards.items()}


if __name__ == "__main__":
    for name, text in dashboards().items():
        (Path(__file__).parent / name).write_text(text, encoding="utf-8")
