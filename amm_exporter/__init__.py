"""Adaptive memory management for Python processes.

    import amm_exporter as amm
    session = amm.start()                 # governor, and metrics on the OpenTelemetry MeterProvider in force
    with amm.Governor() as governor:      # the governor alone
        governor.tier, governor.setting("batch_size")

Public names are loaded at first use: importing this package loads neither OpenTelemetry nor psutil.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amm_exporter.control.governor import Governor as Governor
    from amm_exporter.control.watched import unwatch as unwatch
    from amm_exporter.control.watched import watch as watch
    from amm_exporter.control.watched import watch_all as watch_all
    from amm_exporter.errors import AMMError as AMMError
    from amm_exporter.errors import PolicyError as PolicyError
    from amm_exporter.errors import UnitError as UnitError
    from amm_exporter.export.session import Session as Session
    from amm_exporter.export.session import start as start
    from amm_exporter.model import Tier as Tier
    from amm_exporter.policy import Policy as Policy
    from amm_exporter.policy import load_policy as load_policy

__version__ = "0.1.0"

_HOMES = {
    "AMMError": "amm_exporter.errors",
    "Governor": "amm_exporter.control.governor",
    "Policy": "amm_exporter.policy",
    "PolicyError": "amm_exporter.errors",
    "Session": "amm_exporter.export.session",
    "Tier": "amm_exporter.model",
    "UnitError": "amm_exporter.errors",
    "load_policy": "amm_exporter.policy",
    "start": "amm_exporter.export.session",
    "unwatch": "amm_exporter.control.watched",
    "watch": "amm_exporter.control.watched",
    "watch_all": "amm_exporter.control.watched",
}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
