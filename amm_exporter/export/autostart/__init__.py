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

    log, why_off = logging.getLogger("amm"), logging.StreamHandler()
    why_off.setLevel(logging.ERROR)
    # without a handler of the program's own, logging would write warnings into the program's stderr
    log.addHandler(logging.NullHandler())
    log.addHandler(why_off)
    try:
        AMMInstrumentor().instrument(skip_dep_check=True)
    finally:
        log.removeHandler(why_off)
