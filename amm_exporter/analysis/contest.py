"""The contest of shapes: the best leak against the best bounded explanation of the same stretch.

Schwarz criteria (1978, Annals of Statistics 6) are compared: of a line, from the start or from a point on, alone or
beside a step or a season, and of every bounded shape there is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from amm_exporter.analysis.grid import POINTS
from amm_exporter.analysis.shapes import (
    HINGE_PARAMETERS,
    LINE_PARAMETERS,
    LONG_WARM_UP,
    PARAMETERS,
    SEASON,
    STEP,
    SWELL,
    Projection,
    penalty,
)
from amm_exporter.analysis.trend import Trend

BESIDE = 30.0
"""Odds (in n log) that a line beside a step or a season must bring on top of Schwarz's, being two stories at once."""
BESIDE_SHARE = 0.3
"""What is left of the slope beside the other story."""

HOPELESS = 12.0
"""Odds this far below what is asked are made up neither by a season found beside the line nor by patience (`leaks`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Odds of a leak (in n log), its shape, and the bounded shape it was up against."""

    odds: float
    shape: str
    rival: str


def contest(trend: Trend, asked: float, *, slowing: bool) -> Outcome:
    """`asked`: odds below which it matters no more by how much the leak loses. `slowing` adds the slowest warm-ups."""
    projection = trend.projection
    tiny = max(1e-12 * projection.total, 1e-300)
    leak, shape = trend.residual * penalty(HINGE_PARAMETERS if trend.at else LINE_PARAMETERS), "line"
    bounded, rival = math.inf, ""
    enough = BESIDE_SHARE * trend.gain / projection.basis.gain
    hopeless = math.exp((asked - HOPELESS) / POINTS)
    for explanations in (_steps(projection), _curves(projection, slowing=slowing)):
        for name, explained, beside in explanations:
            left = max(projection.total - explained, tiny)
            if left * _PRICE[name] < bounded:
                bounded, rival = left * _PRICE[name], name
            if name in _BESIDE_PRICE and beside > enough:
                both = max(left - beside * beside, tiny) * _BESIDE_PRICE[name]
                if both < leak:
                    leak, shape = both, name
        if bounded < leak * hopeless:
            break  # steps are tried first, they cost little; most contests end with them
    return Outcome(odds=POINTS * math.log(bounded / leak), shape=shape, rival=rival)


_PRICE = {name: penalty(count) for name, count in PARAMETERS.items()}
_BESIDE_PRICE = {name: penalty(PARAMETERS[name] + 1) * math.exp(BESIDE / POINTS) for name in (STEP, SEASON, SWELL)}


def _steps(projection: Projection) -> Iterator[tuple[str, float, float]]:
    """Name, explained sum of squares, and what the line adds beside, of a step at every point."""
    for share, in_line in zip(projection.steps(), projection.basis.steps.line_shares, strict=True):
        left = 1.0 - in_line * in_line
        yield STEP, share * share, (projection.line - in_line * share) / math.sqrt(left) if left > 1e-9 else 0.0


def _curves(projection: Projection, *, slowing: bool) -> Iterator[tuple[str, float, float]]:
    """The same of every other bounded shape."""
    for curve in projection.basis.curves:
        if slowing or curve.name != LONG_WARM_UP:
            yield (curve.name, *projection.curve(curve))
