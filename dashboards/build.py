"""Writes the three dashboards beside itself: `python dashboards/build.py`.

For maintainers: `pip install grafana-foundation-sdk==0.0.21` (schemaVersion 42), which needs Python 3.11 or later. What
users get is the JSON that this leaves, so nothing of it is needed at run time.
"""

from __future__ import annotations

from pathlib import Path

from fleet import fleet
from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from process import process

from tests import tests


def dashboards() -> dict[str, str]:
    """File name to JSON text."""
    boards = {"amm-fleet.json": fleet(), "amm-process.json": process(), "amm-tests.json": tests()}
    return {name: _text(board) for name, board in boards.items()}


def _text(board: Dashboard) -> str:
    built = board.build()
    for number, panel in enumerate(built.panels or (), start=1):
        panel.id_val = number  # else Grafana numbers them anew at each import, and links to a panel break
    return str(JSONEncoder(sort_keys=True, indent=2).encode(built)) + "\n"


if __name__ == "__main__":
    for name, text in dashboards().items():
        (Path(__file__).parent / name).write_text(text, encoding="utf-8")
