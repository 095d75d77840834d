"""Where memory grows, by slope: readings over a while once a leak was found, since one alone shows no growth."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from amm_exporter.analysis.growth import Growth, GrowthTable, origin
from amm_exporter.errors import ProbeError
from amm_exporter.probes.allocations import SiteTrace
from amm_exporter.probes.allocator import AllocatorProbe
from amm_exporter.probes.objects import ObjectProbe

READINGS = 6
SHORTEST_SECONDS, LONGEST_SECONDS = 5.0, 600.0
TELLING_BYTES = 1 << 20
"""What the leak should add from the first reading to the last: types are told from noise by then."""

LEAST_SHARE = 0.01
"""Of the growth of the process: a type or line that grows slower explains nothing."""

CENSUS_SECONDS = 0.05
COUNTED_TYPES = 500
TOP = 20


class GrowthWatch:
    """Look at it now and then: it takes readings of types, traced lines and allocators, and ends after `READINGS`."""

    def __init__(
        self,
        leak_bytes_per_second: float,
        *,
        shortest_seconds: float = SHORTEST_SECONDS,
        allocators: AllocatorProbe | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`clock` bounds each census: the time of the thread alone is for where no other thread waits for it."""
        pace = max(leak_bytes_per_second, 1.0)
        self._spacing_seconds = min(LONGEST_SECONDS, max(shortest_seconds, TELLING_BYTES / pace / (READINGS - 1)))
        self._objects = ObjectProbe(top=COUNTED_TYPES, clock=clock)
        self._allocators = allocators or AllocatorProbe()
        self._types, self._sites, self._holders = GrowthTable(), GrowthTable(), GrowthTable()
        self._times: list[float] = []

    def look(self, t_seconds: float, resident_bytes: int) -> dict[str, Any] | None:
        """Take the next reading if it is due; what grew, once the last one is taken."""
        if self._times and t_seconds < self._times[-1] + self._spacing_seconds:
            return None
        self._times.append(t_seconds)
        self._types.add(t_seconds, self._sizes_by_type())
        self._sites.add(t_seconds, SiteTrace.sites())
        self._holders.add(t_seconds, {"resident": resident_bytes, **self._allocated()})
        return self._found() if len(self._times) >= READINGS else None

    def _sizes_by_type(self) -> Mapping[str, float]:
        if self._objects.unavailable:
            return {}
        try:
            return {one.name: float(one.size_bytes) for one in self._objects.census(CENSUS_SECONDS).types}
        except ProbeError:
            return {}

    def _allocated(self) -> dict[str, float]:
        allocators = self._allocators.read()
        free = sum(one.free_bytes for one in allocators)
        used = {"python" if one.allocator == "pymalloc" else "native": float(one.used_bytes) for one in allocators}
        return {"free": float(free), **used}

    def _found(self) -> dict[str, Any]:
        resident, python, native, free = (
            self._holders.growth(name) for name in ("resident", "python", "native", "free")
        )
        least = LEAST_SHARE * resident.slope if resident else 0.0
        return {
            "seconds": round(self._times[-1] - self._times[0], 3),
            "origin": origin(resident, python, native, free) if resident else None,
            "types": _rows(self._types, least),
            "sites": _rows(self._sites, least),
        }


def _rows(table: GrowthTable, least: float) -> list[dict[str, Any]]:
    return [_row(growth) for growth in table.growing(top=TOP, least=least)]


def _row(growth: Growth) -> dict[str, Any]:
    return {name: value if isinstance(value, str) else round(value, 3) for name, value in asdict(growth).items()}
