"""The Tests and benchmarks dashboard: peaks against budgets, run after run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from page import TESTS_UID, page
from panels import colour, dashed, grid, lines, number, steps
from queries import RATE, increase, of

Panels = Iterator[Any]


def tests() -> dashboard.Dashboard:
    board = page("AMM / Tests and benchmarks", TESTS_UID, "Memory of test suites, run after run.",
                 instances_of="amm.test.run.timestamp", since="now-7d")  # fmt: skip
    for title, panels in (("Last run", _now()), ("Budgets", _budgets()), ("Leaks and reclaiming", _effect())):
        board = board.with_row(dashboard.Row(title))
        for panel in panels:
            board = board.with_panel(panel)
    return board


def last(metric: str, *labels: str, **values: str) -> str:
    """The latest value within the dashboard's time range: what is sent by OTLP is one sample a run, soon stale."""
    return f"max by ({', '.join(('suite', *labels))}) (last_over_time({of(metric, **values)}[$__range]))"


def runs(metric: str, *labels: str, **values: str) -> str:
    """Run after run: each sample is seen, however seldom they come."""
    return f"max by ({', '.join(('suite', *labels))}) (last_over_time({of(metric, **values)}{RATE}))"


def _now() -> Panels:
    bad = steps((None, "green"), (1, "red"))
    yield number(
        "Suites", "Suites that have sent results.", "none", f"count({last('amm.test.run.timestamp')}) or vector(0)"
    )
    yield number("Newest results", "Age of the newest results.", "s",
                 f"clamp_min(time() - max({last('amm.test.run.timestamp')}), 0)")  # fmt: skip
    yield number("Tests", "Tests of the last runs.", "none", f"sum({last('amm.test.results', 'outcome')}) or vector(0)")
    yield number("Budget breaches", "Breaches of session, test and emergency budgets in the last runs.", "none",
                 f"sum({last('amm.test.breaches', 'kind')}) or vector(0)", limits=bad)  # fmt: skip
    yield number("Tests stopped", "Tests stopped because they exceeded a budget.", "none",
                 f"sum({last('amm.test.results', outcome='stopped')}) or vector(0)", limits=bad)  # fmt: skip
    yield number("Leaks found", "Leak gates that found a leak in the last runs.", "none",
                 f"sum({last('amm.test.leaks', verdict='leak')}) or vector(0)", limits=bad)  # fmt: skip


def _budgets() -> Panels:
    yield lines(
        "Peak against budget", "Largest resident set of the process tree in each run, and the session budget.", "bytes",
        (runs("amm.test.run.peak"), "peak {{suite}}"),
        (runs("amm.test.budget", kind="session"), "budget {{suite}}"),
        width=12, sparse=True, styles={"^budget ": dashed("red")},
    )  # fmt: skip
    yield lines("Largest tests", "Peak of the five tests that used most.", "bytes",
                (f"topk(5, {runs('amm.test.peak', 'test')})", "{{suite}} {{test}}"),
                width=12, sparse=True)  # fmt: skip
    yield grid(
        "Tests by memory",
        "The tests that used most when they last ran: peak, own growth, and how near to the session's budget.",
        (
            ("Peak", last("amm.test.peak", "test")),
            ("Growth", last("amm.test.growth", "test")),
            ("Of session budget",
             f"{last('amm.test.peak', 'test')} / on (suite) group_left ()"
             f" ({last('amm.test.budget', kind='session')} > 0)"),
        ),
        renamed={}, sort="Peak", width=24,
        styles={
            "suite": {"custom.width": 160},
            "Peak": {"unit": "bytes", "custom.width": 140},
            "Growth": {"unit": "bytes", "custom.width": 140},
            "Of session budget": {"unit": "percentunit", "custom.width": 160},
        },
    )  # fmt: skip
    yield lines("Outcomes", "Tests by outcome in each run.", "none",
                (runs("amm.test.results", "outcome"), "{{suite}} {{outcome}}"), stacked=True, sparse=True,
                styles={"passed$": colour("green"), "failed$": colour("red"), "stopped$": colour("dark-purple"),
                        "skipped$": colour("text")})  # fmt: skip
    yield lines("Breaches", "Budget breaches by kind.", "none",
                (runs("amm.test.breaches", "kind"), "{{suite}} {{kind}}"), bars=True)  # fmt: skip
    yield lines("Duration", "Time each run took.", "s", (runs("amm.test.duration"), "{{suite}}"), sparse=True)


def _effect() -> Panels:
    yield lines("Leak gates", "Verdicts of the leak gates.", "none",
                (runs("amm.test.leaks", "verdict"), "{{suite}} {{verdict}}"), stacked=True, sparse=True,
                styles={"clean$": colour("green"), "leak$": colour("red"), "undecided$": colour("yellow")})  # fmt: skip
    yield lines("Memory that came back", "Resident memory that was given back after the tests of each run.", "bytes",
                (runs("amm.test.freed"), "{{suite}}"), sparse=True)  # fmt: skip
    yield lines("Effect of actions",
        "Resident memory that fell across each action of the governor, in benchmarks and services.",
                "bytes", (f"sum by (action) ({increase('amm.action.freed')})", "{{action}}"), bars=True)  # fmt: skip
