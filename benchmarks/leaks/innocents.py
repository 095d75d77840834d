"""Families that are no leaks, though most of them grow for a while. Each draws one series of `count` samples."""

from __future__ import annotations

import math
from collections.abc import Callable

from benchmarks.leaks.draw import Draw, add, curve, quantise, running_max

Points = tuple[list[float], list[float]]


def flat(rng: Draw, count: int) -> Points:
    times, base = rng.clock(count), rng.base()
    return times, [base + value for value in rng.noise(count, base)]


def flat_autocorrelated(rng: Draw, count: int) -> Points:
    times, base = rng.clock(count), rng.base()
    noise = rng.autocorrelated(count, base * rng.log_uniform(0.005, 0.05), rng.uniform(0.9, 0.985))
    return times, [base + value for value in noise]


def warm_up(rng: Draw, count: int) -> Points:
    """Saturating growth: 1 - exp(-t/tau)."""
    times, base = rng.clock(count), rng.base()
    tau, height = rng.log_uniform(0.01, 0.18), base * rng.log_uniform(0.05, 2.0)
    return times, add(curve(times, lambda u: base + height * (1 - math.exp(-u / tau))), rng.noise(count, base))


def warm_up_logarithmic(rng: Draw, count: int) -> Points:
    """Ever slower growth, as of a cache of keys with a long tail."""
    times, base = rng.clock(count), rng.base()
    tau, height = rng.log_uniform(0.001, 0.02), base * rng.log_uniform(0.05, 1.0)
    scale = height / math.log1p(1 / tau)
    return times, add(curve(times, lambda u: base + scale * math.log1p(u / tau)), rng.noise(count, base))


def one_step(rng: Draw, count: int) -> Points:
    times, base = rng.clock(count), rng.base()
    at, height = rng.uniform(0.05, 0.95), base * rng.log_uniform(0.05, 1.0)
    return times, add(curve(times, lambda u: base + height * (u >= at)), rng.noise(count, base))


def early_steps(rng: Draw, count: int) -> Points:
    """Lazy imports and pools that are made on first use, then nothing."""
    times, base = rng.clock(count), rng.base()
    end = rng.uniform(0.1, 0.4)
    steps = [(rng.uniform(0.0, end), base * rng.log_uniform(0.02, 0.3)) for _ in range(rng.randint(2, 6))]
    levels = curve(times, lambda u: base + sum(height for at, height in steps if u >= at))
    return times, add(levels, rng.noise(count, base))


def cache_fills(rng: Draw, count: int) -> Points:
    """A bounded cache that fills in a straight line and is then full."""
    times, base = rng.clock(count), rng.base()
    full, height = rng.uniform(0.03, 0.4), base * rng.log_uniform(0.05, 1.5)
    return times, add(curve(times, lambda u: base + height * min(1.0, u / full)), rng.noise(count, base))


def cache_fills_by_misses(rng: Draw, count: int) -> Points:
    """A bounded cache of keys with popularity 1/k: quick at first, slower and slower, full in the end."""
    times, base = rng.clock(count), rng.base()
    keys, entry = rng.randint(200, 800), base * rng.log_uniform(0.05, 1.0)
    capacity = int(keys * rng.uniform(0.3, 0.9))
    weights = [1 / (key + 1) for key in range(keys)]
    each = rng.randint(1, 20)
    seen: set[int] = set()
    sizes = []
    for _ in range(count):
        if len(seen) < capacity:
            seen.update(rng.choices(range(keys), weights, k=each))
        sizes.append(base + entry * min(len(seen), capacity) / capacity)
    return times, add(sizes, rng.noise(count, base))


def saw_tooth(rng: Draw, count: int) -> Points:
    """Garbage collected at a fixed period: the floor stands still."""
    times, base = rng.clock(count), rng.base()
    teeth, height, phase = rng.log_uniform(3.0, 60.0), base * rng.log_uniform(0.05, 1.0), rng.random()
    return times, add(curve(times, lambda u: base + height * ((u * teeth + phase) % 1)), rng.noise(count, base * 0.5))


def saw_tooth_irregular(rng: Draw, count: int) -> Points:
    """Garbage collected when a random amount has gathered, with a random rest left."""
    times, base = rng.clock(count), rng.base()
    height, teeth = base * rng.log_uniform(0.1, 1.0), rng.log_uniform(4.0, 50.0)
    level, limit, out = 0.0, height, []
    for _ in range(count):
        level += height * teeth / count * rng.uniform(0.3, 1.7)
        if level > limit:
            level, limit = height * rng.uniform(0.0, 0.1), height * rng.uniform(0.6, 1.2)
        out.append(base + level)
    return times, add(out, rng.noise(count, base * 0.5))


def season(rng: Draw, count: int) -> Points:
    """Load that follows the hour of the day."""
    times, base = rng.clock(count), rng.base()
    periods, phase = rng.uniform(2.0, 10.0), rng.uniform(0.0, 2 * math.pi)
    height = base * rng.log_uniform(0.03, 0.5)
    wave = curve(times, lambda u: base + height * math.sin(2 * math.pi * periods * u + phase))
    return times, add(wave, rng.noise(count, base))


def season_on_season(rng: Draw, count: int) -> Points:
    """Days within weeks, the peaks of unequal height."""
    times, base = rng.clock(count), rng.base()
    weeks, phase = rng.uniform(1.5, 3.0), rng.uniform(0.0, 2 * math.pi)
    height = base * rng.log_uniform(0.03, 0.3)

    def level(u: float) -> float:
        day = 1 + math.sin(2 * math.pi * 7 * weeks * u + phase)
        return base + height * day * (0.75 + 0.25 * math.sin(2 * math.pi * weeks * u + 2 * phase))

    return times, add(curve(times, level), rng.noise(count, base))


def fragmentation(rng: Draw, count: int) -> Points:
    """Resident memory keeps the high-water mark of a fluctuating load: new records come ever more rarely."""
    times, base = rng.clock(count), rng.base()
    load = rng.autocorrelated(count, base * rng.log_uniform(0.02, 0.2), rng.uniform(0.5, 0.95))
    kept = rng.uniform(0.5, 1.0)
    peaks = running_max(load)
    levels = [base + kept * peak + (1 - kept) * now for peak, now in zip(peaks, load, strict=True)]
    return times, add(levels, rng.white(count, base * 0.002))


def slow_fluctuation(rng: Draw, count: int) -> Points:
    """A level that wanders but comes back (Ornstein-Uhlenbeck), its memory 2 to 6 % of the series."""
    times, base = rng.clock(count), rng.base()
    rho = math.exp(-1 / (count * rng.uniform(0.02, 0.06)))
    return times, [base + v for v in rng.autocorrelated(count, base * rng.log_uniform(0.01, 0.1), rho)]


def spikes(rng: Draw, count: int) -> Points:
    """Requests that take much for a moment and give it back."""
    times, base = rng.clock(count), rng.base()
    levels, left, height = [], 0, 0.0
    for _ in range(count):
        if left == 0 and rng.random() < 0.01:
            left, height = rng.randint(1, 30), base * rng.log_uniform(0.1, 3.0)
        levels.append(base + (height if left else 0.0))
        left = max(0, left - 1)
    return times, add(levels, rng.noise(count, base))


def batches(rng: Draw, count: int) -> Points:
    """A job at night: up for a third of the period, then down again."""
    times, base = rng.clock(count), rng.base()
    periods, duty, phase = rng.uniform(2.0, 12.0), rng.uniform(0.2, 0.7), rng.random()
    height = base * rng.log_uniform(0.1, 1.5)
    return times, add(
        curve(times, lambda u: base + height * ((u * periods + phase) % 1 > 1 - duty)), rng.noise(count, base)
    )


def healthy_restarts(rng: Draw, count: int) -> Points:
    """A process that warms up anew after each deployment."""
    times, base = rng.clock(count), rng.base()
    starts = sorted([0.0, *(rng.uniform(0.1, 0.9) for _ in range(rng.randint(1, 4)))])
    tau, height = rng.log_uniform(0.005, 0.04), base * rng.log_uniform(0.1, 1.0)

    def level(u: float) -> float:
        since = u - max(start for start in starts if start <= u)
        return base + height * (1 - math.exp(-since / tau))

    return times, add(curve(times, level), rng.noise(count, base))


def flat_quantised(rng: Draw, count: int) -> Points:
    """Arenas come and go in large units."""
    times, base = rng.clock(count), rng.base()
    noise = rng.autocorrelated(count, base * rng.log_uniform(0.005, 0.03), rng.uniform(0.5, 0.97))
    levels = [base + value for value in noise]
    return times, quantise(levels, base * rng.log_uniform(0.01, 0.06), base * rng.random())


def shrinking(rng: Draw, count: int) -> Points:
    """Memory that is given back over time."""
    times, base = rng.clock(count), rng.base()
    fall = base * rng.log_uniform(0.05, 0.6)
    return times, add(curve(times, lambda u: base - fall * u), rng.noise(count, base))


def flat_irregular(rng: Draw, count: int) -> Points:
    """Scrapes that fail, pauses of an hour, a clock that is set."""
    base = rng.base()
    times, now = [], rng.uniform(0.0, 1e5)
    pause = rng.choice((1.0, 10.0, 30.0))
    for _ in range(count):
        now += pause * rng.log_uniform(0.2, 5.0)
        if rng.random() < 0.01:
            now += pause * rng.choice((-20.0, 20.0, 100.0))
        times.append(now)
    return times, [base + value for value in rng.noise(count, base)]


def pool_grows(rng: Draw, count: int) -> Points:
    """Worker threads and connections, made one by one up to the maximum."""
    times, base = rng.clock(count), rng.base()
    most, unit, full = rng.randint(4, 40), base * rng.log_uniform(0.01, 0.05), rng.uniform(0.03, 0.35)
    made = sorted(full * rng.random() ** 1.5 for _ in range(most))
    return times, add(curve(times, lambda u: base + unit * sum(at <= u for at in made)), rng.noise(count, base))


def random_walk(rng: Draw, count: int) -> Points:
    """Nothing can tell a driftless walk from a leak for certain: reported apart."""
    times, base = rng.clock(count), rng.base()
    step = base * rng.log_uniform(0.001, 0.01)
    level, out = base * 2, []
    for _ in range(count):
        level = max(base * 0.2, level + rng.gauss(0.0, step))
        out.append(level)
    return times, out


INNOCENTS: tuple[Callable[[Draw, int], Points], ...] = (
    flat, flat_autocorrelated, flat_quantised, flat_irregular, warm_up, warm_up_logarithmic, one_step, early_steps,
    cache_fills, cache_fills_by_misses, pool_grows, saw_tooth, saw_tooth_irregular, season, season_on_season,
    fragmentation, slow_fluctuation, spikes, batches, healthy_restarts, shrinking, random_walk,
)  # fmt: skip
