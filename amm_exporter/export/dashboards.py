"""The Grafana dashboards as they were built: three JSON files, the same for every policy, as thresholds are metrics.

They are made by dashboards/build.py in the repository; an installed package has them beside its code.
"""

from __future__ import annotations

from pathlib import Path

from amm_exporter.errors import AMMError

NAMES = ("amm-fleet.json", "amm-process.json", "amm-tests.json")
FOLDERS = tuple(Path(__file__).parents[up] / "dashboards" for up in (1, 2))
"""Beside the package's code, and in the repository."""


def dashboard_files(folders: tuple[Path, ...] = FOLDERS) -> dict[str, str]:
    """File name to JSON text, for Grafana's file provisioning or its import page.

    Raises AMMError where an installation lacks them.
    """
    for folder in folders:
        if all((folder / name).is_file() for name in NAMES):
            return {name: (folder / name).read_text(encoding="utf-8") for name in NAMES}
    raise AMMError(
        f"the dashboards are not in {folders[0]}: this installation is incomplete; install amm-exporter again"
    )
