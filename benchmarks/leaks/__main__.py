"""`python -m benchmarks.leaks`: the tables of docs/leaks.md."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from statistics import median

from benchmarks.leaks.draw import Draw, WideDraw
from benchmarks.leaks.generate import family_names, series
from benchmarks.leaks.rivals import RIVALS
from benchmarks.leaks.score import OURS, Outcome, by_detector, by_rule, figures, outcome, share


def judged(family: str, per_family: int, seed: str, names: Sequence[str], draw: type[Draw]) -> dict[str, list[Outcome]]:
    """All outcomes on one family, by detector."""
    out: dict[str, list[Outcome]] = {name: [] for name in names}
    for one in series(per_family, seed, frozenset({family}), draw):
        for name in names:
            out[name].append(outcome(by_detector if name == OURS else by_rule(name), one))
    return out


def overview(results: dict[str, list[Outcome]]) -> str:
    lines = [
        "| Detector | false, at the end | false, ever | leaks found | median delay | slope error | CPU a sample |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, outcomes in results.items():
        row = figures(outcomes)
        lines.append(
            f"| {name} | {row.false_at_end:.1%} | {row.false_ever:.1%} | {row.found:.1%} | {row.delay:.0%} "
            f"| {row.slope_error:.1%} | {row.cpu_seconds * 1e6:.0f} µs |"
        )
    return "\n".join(lines)


def by_family(outcomes: Sequence[Outcome]) -> str:
    """Our detector, family by family."""
    families: dict[str, list[Outcome]] = defaultdict(list)
    for one in outcomes:
        families[one.family].append(one)
    lines = ["| Family | leaks | flagged at the end | ever | median delay |", "|---|---|--:|--:|--:|"]
    for name, group in families.items():
        delays = [one.delay for one in group if one.delay is not None]
        delay = f"{median(delays):.0%}" if delays else ""
        at_end, ever = share(one.flags[-1] for one in group), share(any(one.flags) for one in group)
        leaks = "yes" if group[0].leaking else ""
        lines.append(f"| {name.replace('_', ' ')} | {leaks} | {at_end:.1%} | {ever:.1%} | {delay} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.leaks", description=__doc__)
    parser.add_argument("--series", type=int, default=200, help="series of each family")
    parser.add_argument("--seed", default="held-out", help="name of the seed set")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--only-ours", action="store_true", help="leave the other detectors out")
    parser.add_argument("--wide", action="store_true", help="noise to 2 %% of the level, leaks from 5 %% of it")
    options = parser.parse_args()
    draw = WideDraw if options.wide else Draw
    names = [OURS] if options.only_ours else [OURS, *RIVALS]
    families = family_names()
    results: dict[str, list[Outcome]] = {name: [] for name in names}
    with ProcessPoolExecutor(options.jobs) as pool:
        settings = (repeat(options.series), repeat(options.seed), repeat(names), repeat(draw))
        for part in pool.map(judged, families, *settings):
            for name, outcomes in part.items():
                results[name].extend(outcomes)
    wide = ", wide draws" if options.wide else ""
    print(f"{len(families)} families, {options.series} series each, seed set {options.seed!r}{wide}.\n")
    print(overview(results))
    exact = [one.exact_delay for one in results[OURS] if one.exact_delay is not None]
    print(f"\nAsked at every sample, {OURS} raises its verdict after a median of {median(exact):.1%} of the series.\n")
    print(by_family(results[OURS]))


if __name__ == "__main__":
    main()
