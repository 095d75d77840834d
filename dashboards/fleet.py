"""The Fleet dashboard: which of many processes needs a look."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from page import FLEET_UID, PROCESS_UID, link_to, page, runbook_link
from panels import TIER_COLOURS, grid, lines, number, plain, states, steps, tier_mapping, worst
from queries import RATE, WHO, each, increase, of, recorded

from amm_exporter.export import recording
from amm_exporter.export.memory_alerts import FAST_BURN, SLOW_BURN
from amm_exporter.model import Tier

Panels = Iterator[Any]
FIRING = recorded("ALERTS", alertname="~Amm.+", alertstate="firing")
PRESSURE_STEPS = ((None, "green"), (0.6, "yellow"), (0.7, "orange"), (0.8, "red"), (0.85, "dark-purple"))
"""Colours of the default policy, for orientation only: the alerts use each process's own thresholds."""


def fleet() -> dashboard.Dashboard:
    board = page("AMM / Fleet", FLEET_UID, "All processes that export AMM's metrics: the worst first.",
                 instances_of="amm.memory.tier")  # fmt: skip
    board = board.with_row(dashboard.Row("Now"))
    for panel in _now():
        board = board.with_panel(panel)
    board = board.with_panel(_processes()).with_panel(_alerts())
    board = board.with_panel(
        worst("Worst ten", "The processes nearest to their limit.", "percentunit",
              (f"topk(10, {recorded(recording.PRESSURE)})", WHO), limits=steps(*PRESSURE_STEPS), maximum=1, width=10)
    )  # fmt: skip
    board = board.with_row(dashboard.Row("History"))
    for panel in _history():
        board = board.with_panel(panel)
    return board


def _now() -> Panels:
    tier = of("amm.memory.tier")
    above = steps((None, "green"), (1, "red"))
    yield number("Processes", "Processes that export now.", "none", f"count({each('max', tier)}) or vector(0)")
    yield number("Severe or critical", "Processes in the two highest tiers.", "none",
                 f"count({each('max', tier)} >= 3) or vector(0)", limits=above)  # fmt: skip
    yield number(
        "Alerts firing", "Alerts of these rules that fire now.", "none", f"count({FIRING}) or vector(0)", limits=above
    )
    yield number("Leaks suspected", "Series judged to leak by the processes themselves.", "none",
                 f"sum({of('amm.memory.leak.detected')}) or vector(0)", limits=above)  # fmt: skip
    yield number("Highest pressure", "Use over limit of the process nearest to its limit.", "percentunit",
                 f"max({recorded(recording.PRESSURE)})", limits=steps(*PRESSURE_STEPS), decimals=1)  # fmt: skip
    yield number("Next exhaustion",
        "Shortest time in which a growing process reaches its limit; none while nothing grows.", "s",
                 f"min({of('amm.memory.exhaustion')})",
                 limits=steps((None, "red"), (3600, "orange"), (86400, "text")))  # fmt: skip


def _processes() -> Any:
    columns = (
        ("Tier", each("max", of("amm.memory.tier"))),
        ("Pressure", each("max", recorded(recording.PRESSURE))),
        ("Resident", each("max", of("process.memory.usage"))),
        ("Headroom", each("min", of("amm.memory.headroom"))),
        ("Growth", each("max", of("amm.memory.leak.slope"))),
        ("Over budget, 1 h", each("max", f"{recorded(recording.BURN + '1h')} * {recording.ALLOWED_SHARE}")),
        ("Alerts", f"{each('count', FIRING)} and {each('max', of('amm.memory.tier'))}"),
    )
    pressure = {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in PRESSURE_STEPS]}
    coloured = {"custom.cellOptions": {"type": "color-text"}}
    return grid(
        "Processes",
        "Each process with its tier, pressure, growth and firing alerts. Click an instance for its own dashboard.",
        columns,
        renamed={"process_pid": "pid"},
        sort="Pressure",
        styles={
            "instance": link_to(PROCESS_UID, "Process"),
            "Tier": {"mappings": [tier_mapping().to_json()], **coloured},
            "Pressure": {"unit": "percentunit", "decimals": 1, "thresholds": pressure, **coloured},
            "Resident": {"unit": "bytes"},
            "Headroom": {"unit": "bytes"},
            "Growth": {"unit": "binBps"},
            "Over budget, 1 h": {"unit": "percentunit"},
            "Alerts": {
                "unit": "none",
                **coloured,
                "thresholds": {"mode": "absolute", "steps": [{"value": None, "color": "red"}]},
            },
        },
    )


def _alerts() -> Any:
    return grid(
        "Alerts",
        "What fires now. Click an alert's name for its runbook.",
        (("since", f"max by (alertname, severity, job, instance, process_pid) ({FIRING})"),),
        renamed={"alertname": "alert", "process_pid": "pid"},
        hidden=("Value", "Value #A"),
        styles={"alert": runbook_link()},
        empty="Nothing fires",
        width=14,
    )


def _history() -> Panels:
    yield states(
        "Tiers", "The tier each process was in.", (each("max", of("amm.memory.tier")), WHO), tier_mapping(), height=10
    )
    yield lines("Pressure", "Use over limit of every process; the worst of its scopes.", "percentunit",
                (recorded(recording.PRESSURE), WHO), width=12, maximum=1)  # fmt: skip
    yield lines(
        "Processes by tier", "How many processes were in each tier.", "none",
        *((f"sum({of('amm.memory.tier.active', tier=tier.label)})", tier.label) for tier in Tier),
        width=12, stacked=True,
        styles={f"^{tier.label}$": {"color": {"mode": "fixed", "fixedColor": TIER_COLOURS[tier]}} for tier in Tier},
    )  # fmt: skip
    yield lines(
        "Budget burn over an hour",
        f"Times the allowed share of time ({recording.ALLOWED_SHARE:.0%}) spent over budget. Above {FAST_BURN:g}"
        f" the fast alert fires, above {SLOW_BURN:g} over six hours the slow one.",
        "none", (recorded(recording.BURN + "1h"), WHO), empty="No process has a budget",
    ).thresholds(steps((None, "text"), (SLOW_BURN, "orange"), (FAST_BURN, "red")))  # fmt: skip
    yield lines("Tier changes", "Changes of the tier. Many: widen the hysteresis or the gap between tiers.", "none",
                (each("max", f"changes({of('amm.memory.tier')}{RATE})"), WHO), bars=True)  # fmt: skip
    yield lines("Emergency stops", "Work stopped for want of memory.", "none",
                (each("sum", increase("amm.emergency.stops")), WHO), bars=True).thresholds(plain())  # fmt: skip
