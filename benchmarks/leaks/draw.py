"""The random ingredients of a memory series: clocks, noise, levels. Seeded; sizes in MiB until the series is made."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

MIB = 1024.0 * 1024.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One series and the truth about it. A leak that never ends has its mean slope from the onset to the end."""

    family: str
    leaking: bool
    times: tuple[float, ...]
    values: tuple[float, ...]
    onset_seconds: float | None = None
    slope: float = 0.0


class Draw(random.Random):
    """A seeded source with the distributions the families share."""

    most_noise, least_growth = 0.01, 0.08
    """Shares of the level."""

    def log_uniform(self, low: float, high: float) -> float:
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def clock(self, count: int) -> list[float]:
        """Regular sampling with the jitter of a timer, at a pause between 1 s and 1 min."""
        pause = self.choice((1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0))
        start = self.uniform(0.0, 1e5)
        return [start + pause * (index + self.uniform(0.0, 0.03)) for index in range(count)]

    def white(self, count: int, deviation: float) -> list[float]:
        return [self.gauss(0.0, deviation) for _ in range(count)]

    def autocorrelated(self, count: int, deviation: float, rho: float) -> list[float]:
        """AR(1) noise with the given standard deviation."""
        shock = deviation * math.sqrt(1.0 - rho * rho)
        value = self.gauss(0.0, deviation)
        out = []
        for _ in range(count):
            out.append(value)
            value = rho * value + self.gauss(0.0, shock)
        return out

    def base(self) -> float:
        """The level of a service at rest, MiB."""
        return self.log_uniform(40.0, 1000.0)

    def noise(self, count: int, base: float) -> list[float]:
        """White or mildly autocorrelated noise of 0.1 % of the level to `most_noise`."""
        deviation = base * self.log_uniform(0.001, self.most_noise)
        if self.random() < 0.5:
            return self.white(count, deviation)
        return self.autocorrelated(count, deviation, self.uniform(0.2, 0.85))

    def growth(self, base: float, noise: Sequence[float]) -> float:
        """How much a leak gains over the series: up to 150 % of the level, and not lost in the noise."""
        deviation = math.sqrt(sum(value * value for value in noise) / len(noise))
        return max(base * self.log_uniform(self.least_growth, 1.5), deviation * self.uniform(5.0, 10.0), 3.0)


class WideDraw(Draw):
    """More noise and smaller leaks."""

    most_noise, least_growth = 0.02, 0.05


def add(*parts: Sequence[float]) -> list[float]:
    return [sum(row) for row in zip(*parts, strict=True)]


def curve(times: Sequence[float], shape: Callable[[float], float]) -> list[float]:
    """`shape` of the elapsed share of the series, 0 to 1."""
    start, span = times[0], times[-1] - times[0]
    return [shape((time - start) / span) for time in times]


def running_max(values: Sequence[float]) -> list[float]:
    return list(accumulate(values, max))


def quantise(values: Sequence[float], quantum: float, phase: float = 0.0) -> list[float]:
    return [math.floor((value + phase) / quantum) * quantum for value in values]
