"""The Grafana dashboards as they were built: three JSON files, the same for every policy, as thresholds are metrics.

They are made by dashboards/build.py in the repository; an installed package has them beside its code.
"""

from __future__ import annotations

from pathlib import Path

from amm_exporter.errors import AMMError

NAMES = ("amm-fleet.json", "amm-process.json", "amm-tests.json")
_PACKAGED = Path(__file__).parents[1] / "dashboards"
_REPOSITORY = Path(__file__).parents[2] / "dashboards"


def dashboard_files() -> dict[str, str]:
    """File name to JSON text, for Grafana's file provisioning or its import page.

    Raises AMMError where an installation lacks them.
    """
    for folder in (_PACKAGED, _REPOSITORY):
        if all((folder / name).is_file() for name in NAMES):
            return {name: (folder / name).read_text(encoding="utf-8") for name in NAMES}
    raise AMMError(
        f"the dashboards are not in {_PACKAGED}: this installation is incomplete; install amm-exporter again"
    )
