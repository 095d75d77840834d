"""The Tests and benchmarks dashboard: peaks against budgets, run after run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from page import TESTS_UID, page
from panels import colour, dashed, grid, increase, lines, number, of, steps

Panels = Iterator[Any]


def tests() -> dashboard.Dashboard:
    board = page("AMM / Tests and benchmarks", TESTS_UID, "Memory of test suites, run after run.",
                 instances_of="amm.test.run.timestamp", since="now-7d")  # fmt: skip
    for title, panels in (("Last run", _now()), ("Budgets", _budgets()), ("Leaks and reclaiming", _effect())):
        board = board.with_row(dashboard.Row(title))
        for panel in panels:
            board = board.with_panel(panel)
    return board


def _now() -> Panels:
    bad = steps((None, "green"), (1, "red"))
    yield number(
        "Suites", "Suites that have sent results.", "none", f"count({of('amm.test.run.timestamp')}) or vector(0)"
    )
    yield number("Newest results", "Age of the newest results.", "s",
                 f"clamp_min(time() - max({of('amm.test.run.timestamp')}), 0)")  # fmt: skip
    yield number("Tests", "Tests of the last runs.", "none", f"sum({of('amm.test.results')}) or vector(0)")
    yield number("Budget breaches", "Breaches of session, test and emergency budgets in the last runs.", "none",
                 f"sum({of('amm.test.breaches')}) or vector(0)", limits=bad)  # fmt: skip
    yield number("Tests stopped", "Tests stopped because they exceeded a budget.", "none",
                 f"sum({of('amm.test.results', outcome='stopped')}) or vector(0)", limits=bad)  # fmt: skip
    yield number("Leaks found", "Leak gates that found a leak in the last runs.", "none",
                 f"sum({of('amm.test.leaks', verdict='leak')}) or vector(0)", limits=bad)  # fmt: skip


def _budgets() -> Panels:
    yield lines(
        "Peak against budget", "Largest resident set of the process tree in each run, and the session budget.", "bytes",
        (f"max by (suite) ({of('amm.test.run.peak')})", "peak {{suite}}"),
        (f'min by (suite) ({of("amm.test.budget", kind="session")})', "budget {{suite}}"),
        width=12, styles={"^budget ": dashed("red")},
    )  # fmt: skip
    yield lines("Largest tests", "Peak of the tests that used most.", "bytes",
                (f"topk(10, max by (suite, test) ({of('amm.test.peak')}))", "{{suite}} {{test}}"),
                width=12)  # fmt: skip
    yield grid(
        "Tests by memory",
        "The tests that used most in the last run of each suite: peak, own growth, and how near to the budget.",
        (
            ("Peak", f"max by (suite, test) ({of('amm.test.peak')})"),
            ("Growth", f"max by (suite, test) ({of('amm.test.growth')})"),
            ("Of session budget",
             f"max by (suite, test) ({of('amm.test.peak')}) / on (suite) group_left ()"
             f' (min by (suite) ({of("amm.test.budget", kind="session")}) > 0)'),
        ),
        renamed={}, sort="Peak", width=24,
        styles={"Peak": {"unit": "bytes"}, "Growth": {"unit": "bytes"}, "Of session budget": {"unit": "percentunit"}},
    )  # fmt: skip
    yield lines("Outcomes", "Tests by outcome in each run.", "none",
                (f"sum by (suite, outcome) ({of('amm.test.results')})", "{{suite}} {{outcome}}"), stacked=True,
                styles={"passed$": colour("green"), "failed$": colour("red"), "stopped$": colour("dark-purple"),
                        "skipped$": colour("text")})  # fmt: skip
    yield lines("Breaches", "Budget breaches by kind.", "none",
                (f"sum by (suite, kind) ({of('amm.test.breaches')})", "{{suite}} {{kind}}"), bars=True)  # fmt: skip
    yield lines("Duration", "Time each run took.", "s", (f"max by (suite) ({of('amm.test.duration')})", "{{suite}}"))


def _effect() -> Panels:
    yield lines("Leak gates", "Verdicts of the leak gates.", "none",
                (f"sum by (suite, verdict) ({of('amm.test.leaks')})", "{{suite}} {{verdict}}"), stacked=True,
                styles={"clean$": colour("green"), "leak$": colour("red"), "undecided$": colour("yellow")})  # fmt: skip
    yield lines("Memory that came back", "Resident memory that was given back after the tests of each run.", "bytes",
                (f"max by (suite) ({of('amm.test.freed')})", "{{suite}}"))  # fmt: skip
    yield lines("Effect of actions",
        "Resident memory that fell across each action of the governor, in benchmarks and services.",
                "bytes", (f"sum by (action) ({increase('amm.action.freed')})", "{{action}}"), bars=True)  # fmt: skip
