"""Write the Grafana dashboards (fleet, process, tests) as JSON files, for provisioning or Grafana's import page."""

from __future__ import annotations

import argparse
from pathlib import Path

from amm_exporter.errors import AMMError
from amm_exporter.export.dashboards import dashboard_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", metavar="DIRECTORY", default=".", help="where to write them (default: here)")


def run(arguments: argparse.Namespace) -> int:
    directory = Path(arguments.output)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in dashboard_files().items():
            (directory / name).write_text(text, encoding="utf-8")
            print(directory / name)
    except OSError as error:
        raise AMMError(f"dashboards: cannot write to {directory}: {error.strerror}") from error
    return 0
