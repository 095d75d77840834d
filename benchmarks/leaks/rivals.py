"""The rules people use today, each on the whole prefix: is it a leak, and how fast. None is tuned to the families.

Quadratic methods see at most 100 block means, as their authors' tools do on long series.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from statistics import fmean

from benchmarks.leaks.draw import MIB

Answer = tuple[bool, float]
Rule = Callable[[Sequence[float], Sequence[float]], Answer]

Z99 = 2.326
"""One-sided 99 %."""


def line(times: Sequence[float], values: Sequence[float]) -> tuple[float, float, list[float]]:
    """Least-squares slope, the sum of squared time deviations, residuals."""
    mean_time, mean_value = fmean(times), fmean(values)
    spread = sum((time - mean_time) ** 2 for time in times)
    if spread == 0:
        return 0.0, 0.0, []
    covered = sum((time - mean_time) * (value - mean_value) for time, value in zip(times, values, strict=True))
    slope = covered / spread
    residuals = [value - mean_value - slope * (time - mean_time) for time, value in zip(times, values, strict=True)]
    return slope, spread, residuals


def ols(times: Sequence[float], values: Sequence[float]) -> Answer:
    """t-test of the least-squares slope, residuals taken as white."""
    slope, spread, residuals = line(times, values)
    if len(values) < 10 or spread == 0:
        return False, slope
    error = math.sqrt(sum(map(_square, residuals)) / (len(values) - 2) / spread)
    return slope > Z99 * error, slope


def ols_hac(times: Sequence[float], values: Sequence[float]) -> Answer:
    """The same with the Newey-West error (lag 4(n/100)^(2/9))."""
    slope, spread, residuals = line(times, values)
    if len(values) < 10 or spread == 0:
        return False, slope
    mean_time = fmean(times)
    scores = [(time - mean_time) * residual for time, residual in zip(times, residuals, strict=True)]
    lags = int(4 * (len(values) / 100) ** (2 / 9))
    total = sum(map(_square, scores))
    for lag in range(1, lags + 1):
        total += 2 * (1 - lag / (lags + 1)) * sum(a * b for a, b in zip(scores, scores[lag:], strict=False))
    return slope > Z99 * math.sqrt(max(0.0, total)) / spread, slope


def mann_kendall(times: Sequence[float], values: Sequence[float]) -> Answer:
    """Mann-Kendall test for a monotone trend, Sen's slope."""
    return _kendall(times, values, corrected=False)


def mann_kendall_corrected(times: Sequence[float], values: Sequence[float]) -> Answer:
    """The same with Yue and Wang's (2004) correction of the variance for lag-1 autocorrelation."""
    return _kendall(times, values, corrected=True)


def theil_sen(times: Sequence[float], values: Sequence[float]) -> Answer:
    """The lower 99 % confidence bound of Sen's slope is above zero."""
    times, values = thinned(times, values)
    count = len(values)
    slopes = _slopes(tuple(times), tuple(values))
    if count < 10 or not slopes:
        return False, 0.0
    rank = (len(slopes) - 2.576 * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)) / 2
    return slopes[max(0, int(rank))] > 0, slopes[len(slopes) // 2]


def r_squared(times: Sequence[float], values: Sequence[float]) -> Answer:
    """A rising line that explains 80 % of the variance."""
    slope, _, residuals = line(times, values)
    mean = fmean(values)
    total = sum((value - mean) ** 2 for value in values)
    if len(values) < 10 or total == 0:
        return False, slope
    return slope > 0 and 1 - sum(map(_square, residuals)) / total > 0.8, slope


def floor_regression(times: Sequence[float], values: Sequence[float]) -> Answer:
    """t-test of the slope of the minima of 20 stretches."""
    size = max(1, len(values) // 20)
    starts = range(0, len(values) - size + 1, size)
    return ols([times[start] for start in starts], [min(values[start : start + size]) for start in starts])


def deriv_rule(times: Sequence[float], values: Sequence[float]) -> Answer:
    """Prometheus: deriv(rss[1h]) > 1 MB/h."""
    recent_times, recent = _last(times, values, 3600.0)
    slope = line(recent_times, recent)[0] if len(recent) > 1 else 0.0
    return len(values) >= 10 and slope > MIB / 3600, slope


def predict_linear(times: Sequence[float], values: Sequence[float]) -> Answer:
    """Prometheus: predict_linear(rss[1h], 4h) is more than twice what it is now."""
    recent_times, recent = _last(times, values, 3600.0)
    slope = line(recent_times, recent)[0] if len(recent) > 1 else 0.0
    return len(values) >= 10 and fmean(recent) + slope * 4 * 3600 > 2 * values[-1], slope


def half_gigabyte_rule(times: Sequence[float], values: Sequence[float]) -> Answer:
    """500 MB more than 10 minutes ago."""
    recent_times, recent = _last(times, values, 600.0)
    span = recent_times[-1] - recent_times[0]
    return recent[-1] - recent[0] > 500 * MIB, (recent[-1] - recent[0]) / span if span > 0 else 0.0


def ten_percent_rule(times: Sequence[float], values: Sequence[float]) -> Answer:
    """10 % more than at the start."""
    size = max(1, len(values) // 20)
    first, last = fmean(values[:size]), fmean(values[-size:])
    span = times[-1] - times[0]
    return last > 1.1 * first, (last - first) / span if span > 0 else 0.0


def scalene_rule(times: Sequence[float], values: Sequence[float]) -> Answer:
    """Scalene's rule on a footprint: Laplace's rule of succession over peaks never given back, and growth over 1 %."""
    taken = given = 0
    peak, before = values[0], values[0]
    waiting = False
    for value in values:
        if value > peak:
            taken += 1
            before, peak, waiting = peak, value, True
        elif waiting and value < before:
            given += 1
            waiting = False
    share = 1 - (given + 1) / (taken - given + 2) if taken > given else 0.0
    slope = line(times, values)[0]
    return share > 0.95 and slope * (times[-1] - times[0]) > 0.01 * values[0], slope


def thinned(times: Sequence[float], values: Sequence[float], most: int = 100) -> tuple[list[float], list[float]]:
    size = -(-len(values) // most)
    starts = range(0, len(values), size)
    return [fmean(times[s : s + size]) for s in starts], [fmean(values[s : s + size]) for s in starts]


def _square(value: float) -> float:
    return value * value


@lru_cache(maxsize=64)
def _slopes(times: tuple[float, ...], values: tuple[float, ...]) -> list[float]:
    """All pairwise slopes in order; three of the rules want the same ones."""
    return sorted(
        (values[j] - values[i]) / (times[j] - times[i])
        for i in range(len(values))
        for j in range(i + 1, len(values))
        if times[j] > times[i]
    )


def _kendall(times: Sequence[float], values: Sequence[float], *, corrected: bool) -> Answer:
    times, values = thinned(times, values)
    count, slopes = len(values), _slopes(tuple(times), tuple(values))
    if count < 10 or not slopes:
        return False, 0.0
    slope = slopes[len(slopes) // 2]
    score = len(slopes) - bisect_right(slopes, 0.0) - bisect_left(slopes, 0.0)
    variance = count * (count - 1) * (2 * count + 5) / 18
    if corrected:
        residuals = [value - slope * time for time, value in zip(times, values, strict=True)]
        mean = fmean(residuals)
        centred = [value - mean for value in residuals]
        power = sum(map(_square, centred))
        rho = sum(a * b for a, b in pairwise(centred)) / power if power else 0.0
        rho = min(0.99, max(0.0, rho))
        variance *= (1 + rho) / (1 - rho)
    return score > Z99 * math.sqrt(variance), slope


def _last(times: Sequence[float], values: Sequence[float], seconds: float) -> tuple[Sequence[float], Sequence[float]]:
    start = len(times)
    while start > 0 and times[-1] - times[start - 1] <= seconds:
        start -= 1
    return times[start:], values[start:]


RIVALS: dict[str, Rule] = {
    "OLS t-test": ols,
    "OLS, HAC errors": ols_hac,
    "Mann-Kendall": mann_kendall,
    "Mann-Kendall, corrected": mann_kendall_corrected,
    "Theil-Sen": theil_sen,
    "R² over 0.8": r_squared,
    "regression of the floor": floor_regression,
    "deriv(1h) over 1 MB/h": deriv_rule,
    "predict_linear(1h, 4h)": predict_linear,
    "500 MB in 10 minutes": half_gigabyte_rule,
    "10 % growth": ten_percent_rule,
    "Scalene's rule": scalene_rule,
}
