"""A fleet's metrics as Prometheus text, by the names of the one table, each series with its process's pid and name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from amm_exporter.control.fleet import Fleet, MemberState
from amm_exporter.export.exposition import GAUGE, Family, Labels, negotiate, render
from amm_exporter.export.names import METRICS

_Read = Callable[[MemberState], float | None]

_SHOWN: dict[str, _Read] = {
    "process.memory.usage": lambda state: state.memory.rss_bytes,
    "process.memory.virtual": lambda state: state.memory.virtual_bytes,
    "process.uptime": lambda state: time.time() - state.started_unix_seconds,
    "amm.memory.peak": lambda state: state.peak_bytes,
    "amm.memory.limit": lambda state: state.limit.size_bytes if state.limit else None,
    "amm.memory.usage_ratio": lambda state: state.usage_ratio,
    "amm.memory.tier": lambda state: int(state.tier),
}


def render_fleet(fleet: Fleet, accept: str = "") -> tuple[str, bytes]:
    """Content type and text of a reading made now."""
    content_type = negotiate(accept)
    return content_type, render(families(fleet.read()), content_type)


def families(states: Iterable[MemberState]) -> list[Family]:
    rows = [(METRICS[name], read) for name, read in _SHOWN.items()]
    found = [Family(name=metric.prometheus, kind=GAUGE, help=metric.help) for metric, _ in rows]
    for state in states:
        identity: Labels = (("process_executable_name", state.name), ("process_pid", str(state.memory.pid)))
        for family, (metric, read) in zip(found, rows, strict=True):
            value = read(state)
            if value is not None:
                family.series[_labelled(identity, metric.labels, state)] = value
    return found


def _labelled(identity: Labels, labels: tuple[str, ...], state: MemberState) -> Labels:
    if "source" in labels and state.limit is not None:
        return (*identity, ("source", state.limit.source))
    return (*identity, ("scope", "process")) if "scope" in labels else identity
