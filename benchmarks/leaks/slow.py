"""`python -m benchmarks.leaks.slow`: a service that leaks 100 kB an hour under 5 % noise, for a simulated day, and the
same without the leak for a simulated month: how many of 24 seeds are flagged."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from itertools import product, repeat
from statistics import median

from amm_exporter.analysis.leaks import LeakDetector
from benchmarks.leaks.draw import MIB, Draw

SEEDS, DAY, LEAK = 24, 86400, 100 * 1024 / 3600
LEVELS, PAUSES, CORRELATIONS = (50, 100, 200), (1, 10, 60), (0.0, 0.5)
MONTH_PAUSE = 60


def flagged_after(seed: int, level: int, pause: int, correlation: float, slope: float, days: int) -> float | None:
    """Hours to the first flag; None if there is none."""
    rng, detector, count = Draw(f"slow/{seed}"), LeakDetector(), days * DAY // pause
    for index, noise in enumerate(rng.autocorrelated(count, 0.05 * level * MIB, correlation)):
        detector.add(index * pause, level * MIB + slope * index * pause + noise)
        if detector.leaking:
            return index * pause / 3600
    return None


def main() -> None:
    print("| Level | a sample each | noise | leak found in a day | median hours |")
    print("|--:|--:|---|--:|--:|")
    with ProcessPoolExecutor() as pool:
        for level, pause, correlation in product(LEVELS, PAUSES, CORRELATIONS):
            case = (repeat(level), repeat(pause), repeat(correlation))
            leak = [hours for hours in pool.map(flagged_after, range(SEEDS), *case, repeat(LEAK), repeat(1)) if hours]
            noise = f"AR(1), {correlation}" if correlation else "white"
            hours = f"{median(leak):.0f}" if leak else ""
            print(f"| {level} MB | {pause} s | {noise} | {len(leak)} of {SEEDS} | {hours} |", flush=True)
        for correlation in CORRELATIONS:
            month = (repeat(100), repeat(MONTH_PAUSE), repeat(correlation), repeat(0.0), repeat(30))
            false = sum(hours is not None for hours in pool.map(flagged_after, range(SEEDS), *month))
            print(f"\nWithout the leak, 100 MB, {MONTH_PAUSE} s, AR(1) {correlation}: {false} of {SEEDS} in 30 days.")


if __name__ == "__main__":
    main()
