"""Suggest memory budgets for tests from reports of earlier runs.

    pytest --amm-peaks --amm-json=memory.json
    amm budget suggest memory.json
    amm budget suggest --help           what else it takes

The work is the pytest plugin's: this runs it as `python -m pytest_amm` would, since the two packages do not import each
other.
"""

from __future__ import annotations

import argparse
import subprocess
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "amm budget suggest [options] REPORT.json..."
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="suggest REPORT ...", help="what to do")


def run(arguments: argparse.Namespace) -> int:
    return subprocess.run([sys.executable, "-m", "pytest_amm", *arguments.arguments], check=False).returncode
