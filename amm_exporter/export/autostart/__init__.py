"""AMM in a Python program that `amm run` starts. The folder itself goes on PYTHONPATH, for its sitecustomize.py."""

from __future__ import annotations

import logging
from pathlib import Path

MARKER_VARIABLE = "_AMM_RUN_PID"
"""Pid of the program `amm run` became; other interpreters below it are left alone, except multiprocessing's."""
DIRECTORY = Path(__file__).parent


def begin() -> None:
    """Instrument this process as opentelemetry-instrument would, with AMM alone."""
    from amm_exporter.export.instrumentor import AMMInstrumentor

    # without a handler of the program's own, logging would write warnings into the program's stderr
    logging.getLogger("amm").addHandler(logging.NullHandler())
    AMMInstrumentor().instrument(skip_dep_check=True)
