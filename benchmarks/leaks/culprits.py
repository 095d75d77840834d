"""Families that leak, from the first sample or later. Each returns times, sizes, and the share at which it begins."""

from __future__ import annotations

import math
from collections.abc import Callable

from benchmarks.leaks.draw import Draw, add, curve, quantise

Leak = tuple[list[float], list[float], float, float]
"""Times, sizes in MiB, onset as a share of the series, total growth in MiB from the onset to the end."""


def steady(rng: Draw, count: int) -> Leak:
    times, base = rng.clock(count), rng.base()
    noise = rng.noise(count, base)
    gain = rng.growth(base, noise)
    return times, add(curve(times, lambda u: base + gain * u), noise), 0.0, gain


def slow(rng: Draw, count: int) -> Leak:
    """A gain of only 3 to 6 standard deviations of the noise over the whole series."""
    times, base = rng.clock(count), max(100.0, rng.base())
    deviation = base * rng.uniform(0.01, 0.05)
    gain = deviation * rng.uniform(3.0, 6.0)
    return times, add(curve(times, lambda u: base + gain * u), rng.white(count, deviation)), 0.0, gain


def autocorrelated(rng: Draw, count: int) -> Leak:
    times, base = rng.clock(count), rng.base()
    noise = rng.autocorrelated(count, base * rng.log_uniform(0.005, 0.03), rng.uniform(0.85, 0.97))
    gain = rng.growth(base, noise)
    return times, add(curve(times, lambda u: base + gain * u), noise), 0.0, gain


def after_warm_up(rng: Draw, count: int) -> Leak:
    times, base = rng.clock(count), rng.base()
    noise = rng.noise(count, base)
    gain, tau, height = rng.growth(base, noise), rng.log_uniform(0.01, 0.06), base * rng.log_uniform(0.05, 1.0)
    levels = curve(times, lambda u: base + gain * u + height * (1 - math.exp(-u / tau)))
    return times, add(levels, noise), 0.0, gain


def stepwise(rng: Draw, count: int) -> Leak:
    """An arena more, every so often."""
    times, base = rng.clock(count), rng.base()
    noise = rng.noise(count, base * 0.5)
    gain, steps, phase = rng.growth(base, noise), rng.randint(10, 60), rng.random()
    return times, add(curve(times, lambda u: base + gain / steps * math.floor(u * steps + phase)), noise), 0.0, gain


def bursty(rng: Draw, count: int) -> Leak:
    """Each failed request leaves something behind; failures come when they come."""
    times, base = rng.clock(count), rng.base()
    noise = rng.noise(count, base)
    gain = rng.growth(base, noise)
    bursts = [(rng.random(), rng.expovariate(1.0)) for _ in range(rng.randint(20, 60))]
    total = sum(size for _, size in bursts)
    levels = curve(times, lambda u: base + gain * sum(size for at, size in bursts if at <= u) / total)
    return times, add(levels, noise), 0.0, gain


def late(rng: Draw, count: int) -> Leak:
    times, base = rng.clock(count), rng.base()
    noise, onset = rng.noise(count, base), rng.uniform(0.25, 0.65)
    gain = rng.growth(base, noise)
    levels = curve(times, lambda u: base + gain * max(0.0, u - onset) / (1 - onset))
    return times, add(levels, noise), onset, gain


def late_after_warm_up(rng: Draw, count: int) -> Leak:
    times, base = rng.clock(count), rng.base()
    noise, onset = rng.noise(count, base), rng.uniform(0.3, 0.6)
    gain, tau, height = rng.growth(base, noise), rng.log_uniform(0.01, 0.06), base * rng.log_uniform(0.05, 0.5)

    def level(u: float) -> float:
        return base + height * (1 - math.exp(-u / tau)) + gain * max(0.0, u - onset) / (1 - onset)

    return times, add(curve(times, level), noise), onset, gain


def rising_saw_tooth(rng: Draw, count: int) -> Leak:
    """The collector frees most, not all: the floor rises."""
    times, base = rng.clock(count), rng.base()
    noise = rng.noise(count, base * 0.5)
    gain, teeth, phase = rng.growth(base, noise), rng.log_uniform(8.0, 60.0), rng.random()
    height = gain * rng.log_uniform(0.1, 0.6)
    return times, add(curve(times, lambda u: base + gain * u + height * ((u * teeth + phase) % 1)), noise), 0.0, gain


def in_season(rng: Draw, count: int) -> Leak:
    times, base = rng.clock(count), rng.base()
    noise = rng.noise(count, base)
    gain, periods, phase = rng.growth(base, noise), rng.uniform(3.0, 10.0), rng.uniform(0.0, 2 * math.pi)
    height = gain * rng.log_uniform(0.03, 0.2)
    levels = curve(times, lambda u: base + gain * u + height * math.sin(2 * math.pi * periods * u + phase))
    return times, add(levels, noise), 0.0, gain


def by_day_only(rng: Draw, count: int) -> Leak:
    """Leaks with the load, stands still at night."""
    times, base = rng.clock(count), rng.base()
    noise = rng.noise(count, base)
    gain, periods, phase = rng.growth(base, noise), rng.randint(5, 14), rng.uniform(0.0, 2 * math.pi)
    pulse = 2 * math.pi * periods
    levels = curve(times, lambda u: base + gain * (u + (math.sin(phase) - math.sin(pulse * u + phase)) / pulse))
    return times, add(levels, noise), 0.0, gain


def with_restart(rng: Draw, count: int) -> Leak:
    """Restarted once, and leaks again. The slope is that of each life."""
    times, base = rng.clock(count), rng.base()
    noise, at = rng.noise(count, base), rng.uniform(0.25, 0.6)
    gain = rng.growth(base, noise)
    return times, add(curve(times, lambda u: base + gain * (u if u < at else u - at)), noise), 0.0, gain


def with_gaps(rng: Draw, count: int) -> Leak:
    """The sampler was away for long."""
    pause, now, times = rng.choice((1.0, 10.0, 60.0)), rng.uniform(0.0, 1e5), []
    away = set(rng.sample(range(count // 10, count), k=3))
    for index in range(count):
        now += pause * (rng.uniform(0.05, 0.2) * count if index in away else 1.0)
        times.append(now)
    base = rng.base()
    noise = rng.noise(count, base)
    gain = rng.growth(base, noise)
    return times, add(curve(times, lambda u: base + gain * u), noise), 0.0, gain


def irregular(rng: Draw, count: int) -> Leak:
    times, base, now = [], rng.base(), rng.uniform(0.0, 1e5)
    pause = rng.choice((1.0, 10.0, 30.0))
    for _ in range(count):
        now += pause * rng.log_uniform(0.1, 10.0)
        times.append(now)
    noise = rng.noise(count, base)
    gain = rng.growth(base, noise)
    return times, add(curve(times, lambda u: base + gain * u), noise), 0.0, gain


def with_clock_steps(rng: Draw, count: int) -> Leak:
    """The wall clock was set, back and forth; the truth is the slope on the true clock."""
    times, base = rng.clock(count), rng.base()
    noise = rng.noise(count, base)
    gain = rng.growth(base, noise)
    sizes = add(curve(times, lambda u: base + gain * u), noise)
    pause, jump = (times[-1] - times[0]) / count, 0.0
    steps = {rng.randrange(count): rng.choice((-1.0, 1.0)) * pause * rng.uniform(1.5, 8.0) for _ in range(2)}
    seen = []
    for index, time in enumerate(times):
        jump += steps.get(index, 0.0)
        seen.append(time + jump)
    return seen, sizes, 0.0, gain


def quantised(rng: Draw, count: int) -> Leak:
    times, base = rng.clock(count), rng.base()
    noise = rng.noise(count, base * 0.5)
    gain = rng.growth(base, noise)
    levels = add(curve(times, lambda u: base + gain * u), noise)
    return times, quantise(levels, gain * rng.log_uniform(0.01, 0.1), base * rng.random()), 0.0, gain


def accelerating(rng: Draw, count: int) -> Leak:
    """More users every day."""
    times, base = rng.clock(count), rng.base()
    noise = rng.noise(count, base)
    gain, bend = rng.growth(base, noise), rng.uniform(0.3, 1.0)
    return times, add(curve(times, lambda u: base + gain * ((1 - bend) * u + bend * u * u)), noise), 0.0, gain


def with_steps(rng: Draw, count: int) -> Leak:
    """A leak, and a module loaded or unloaded on top of it."""
    times, base = rng.clock(count), rng.base()
    noise = rng.noise(count, base)
    gain, at = rng.growth(base, noise), rng.uniform(0.1, 0.9)
    height = gain * rng.choice((-1.0, 1.0)) * rng.uniform(0.05, 0.3)
    return times, add(curve(times, lambda u: base + gain * u + height * (u >= at)), noise), 0.0, gain


def with_spikes(rng: Draw, count: int) -> Leak:
    times, base = rng.clock(count), rng.base()
    noise = rng.noise(count, base)
    gain = rng.growth(base, noise)
    spiky = [value + (gain * rng.log_uniform(0.1, 2.0) if rng.random() < 0.02 else 0.0) for value in noise]
    return times, add(curve(times, lambda u: base + gain * u), spiky), 0.0, gain


def load_driven(rng: Draw, count: int) -> Leak:
    """The rate follows a load that wanders between a third and three times its mean."""
    times, base = rng.clock(count), rng.base()
    noise = rng.noise(count, base)
    gain = rng.growth(base, noise)
    load = [math.exp(value) for value in rng.autocorrelated(count, 0.4, 1 - 20 / count)]
    total, level, levels = sum(load), base, []
    for rate in load:
        level += gain * rate / total
        levels.append(level)
    return times, add(levels, noise), 0.0, gain


CULPRITS: tuple[Callable[[Draw, int], Leak], ...] = (
    steady, slow, autocorrelated, after_warm_up, stepwise, bursty, late, late_after_warm_up, rising_saw_tooth,
    in_season, by_day_only, with_restart, with_gaps, irregular, with_clock_steps, quantised, accelerating, with_steps,
    with_spikes, load_driven,
)  # fmt: skip
