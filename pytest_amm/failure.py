"""The words of a breach, and how they come into a test's report."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import pytest
from _pytest._code.code import TerminalRepr  # what ExceptionInfo.getrepr returns; pytest exports no name for it

from amm_exporter.units import MIB, format_size
from pytest_amm.breach import Breach
from pytest_amm.evidence import Evidence
from pytest_amm.records import Phase

SECTION = "memory over budget"

_TELLS_APART_BYTES = 4 * MIB
"""By so much more than its test the run must have had to say that there were others: its parts are looked at one after
the other."""


class OverBudget(pytest.fail.Exception):  # type: ignore[misc, name-defined, unused-ignore]  # made by a decorator
    """What a test over its budget fails with. A BaseException, so that `except Exception` in a test cannot hide it."""

    __module__ = "builtins"  # as pytest's own: the short summary has 80 columns, and no room for a module's name


def headline(breach: Breach) -> str:
    """One line for the short summary."""
    if breach.refused:
        return (
            f"refused in {breach.phase}: an allocation that would pass the budget of {format_size(breach.budget_bytes)}"
        )
    if stalled(breach):
        return f"every task stood still for memory in {breach.phase}, {format_size(breach.peak_bytes)} in use"
    what = {"session": "peak", "test": "grew", "emergency": "machine at"}[breach.scope]
    return (
        f"{what} {format_size(breach.peak_bytes)} in {breach.phase}, "
        f"{format_size(breach.over_bytes)} over {format_size(breach.budget_bytes)}"
    )


def stalled(breach: Breach) -> bool:
    """Whether an emergency was one of time lost to stalls (PSI), with memory left below the ratio."""
    return breach.scope == "emergency" and breach.over_bytes < 0


def explain(
    breach: Breach,
    phases: Sequence[Phase],
    *,
    nodeid: str,
    exact: bool,
    slack_bytes: int = 0,
    notes: Sequence[str] = (),
    evidence: Sequence[Evidence] = (),
) -> str:
    """The failure text: budget, peak, over by, where, what was seen of it, and what to do next."""
    rows = [
        ("budget", f"{format_size(breach.budget_bytes)} {_budget_words(breach)}"),
        ("peak", f"{format_size(breach.peak_bytes)} {_peak_words(breach, phases, exact)}"),
        ("over by", _over_words(breach)),
        ("where", f"{breach.phase} of {nodeid}"),
    ]
    if phases:
        rows.append(("phases", "; ".join(_phase_words(phase) for phase in phases)))
    if slack_bytes >= MIB:
        rows.append(
            ("slack", f"{format_size(slack_bytes)} of free heap was resident already and could be used as well")
        )
    rows += [("how", note) for note in notes]
    rows += [(each.label, _evidence_words(each)) for each in evidence]
    rows += [("next", advice) for advice in _advice(breach, phases, nodeid)]
    return "\n".join([headline(breach), *(f"  {label:<8} {text}" for label, text in rows)])


def fail(report: pytest.TestReport | pytest.CollectReport, text: str, *, instead: bool = False) -> None:
    """Make the report of a phase say the breach. A test that failed by itself keeps its failure and gets a section.

    `instead`: its failure tells nothing, so this stands in its place.
    """
    if report.outcome == "failed" and not instead:
        report.sections.append((SECTION, text))
        return
    report.outcome = "failed"
    if hasattr(report, "wasxfail"):
        del report.wasxfail  # an expected failure is not a licence to take the machine's memory
    report.longrepr = _longrepr(text)


def warn(report: pytest.TestReport, text: str) -> None:
    report.sections.append((SECTION, text))


def text_of(report: pytest.TestReport) -> str:
    """The failure as the terminal shows it: a test that failed by itself has its breach in a section."""
    told = (text for title, text in report.sections if title == SECTION)
    return "\n".join(filter(None, [report.longreprtext, *told]))


def _longrepr(text: str) -> TerminalRepr:
    """What pytest makes of `pytest.fail(text, pytrace=False)`, with the first line in the short summary."""
    try:
        raise OverBudget(text, pytrace=False)
    except OverBudget as error:
        return pytest.ExceptionInfo.from_exception(error).getrepr(style="value")


def _budget_words(breach: Breach) -> str:
    if breach.scope == "session":
        return f"for the whole pytest process tree ({breach.source})"
    if breach.scope == "emergency":
        source = "--amm-emergency-stall" if stalled(breach) else breach.source
        return f"of the memory of this machine or container ({source})"
    return f"of growth for this test ({breach.source})"


def _peak_words(breach: Breach, phases: Sequence[Phase], exact: bool) -> str:
    if breach.scope == "emergency":
        return "in use on the whole machine or container, at the watchdog's look"
    if not phases:
        return "at the watchdog's last look"
    how = "exact, by the kernel's high-water mark" if exact else "sampled, since this platform has no high-water mark"
    children_bytes = min(breach.peak_bytes, max(phase.children_bytes for phase in phases))
    if children_bytes:
        how += f"; of it {format_size(children_bytes)} in child processes, sampled"
    if breach.scope == "test":
        return f"of growth, from {format_size(phases[0].start_bytes)} at its start ({how})"
    own_bytes = max(phase.tree_peak_bytes for phase in phases)
    if breach.peak_bytes - own_bytes > _TELLS_APART_BYTES:  # the workers of xdist have one budget
        return f"at one time, at the watchdog's look; this test had {format_size(own_bytes)} of it ({how})"
    return f"at one time ({how})"


def _over_words(breach: Breach) -> str:
    if breach.refused:
        return "refused beforehand"
    return "time lost to stalls, not memory" if stalled(breach) else format_size(breach.over_bytes)


def _phase_words(phase: Phase) -> str:
    grown_bytes = phase.reached_bytes - phase.start_bytes
    return f"{phase.name} {format_size(phase.tree_peak_bytes)} (+{format_size(max(0, grown_bytes))})"


def _evidence_words(each: Evidence) -> str:
    return f"{format_size(each.size_bytes)} {each.text}" if each.size_bytes else each.text


def _advice(breach: Breach, phases: Sequence[Phase], nodeid: str) -> list[str]:
    enough = format_size(-(-breach.peak_bytes * 11 // (10 * MIB)) * MIB).replace(" ", "").replace("iB", "B")
    if breach.scope == "test" and not breach.stopped:
        return [f'if it needs this much, say so: @pytest.mark.amm_budget("{enough}")']
    if breach.scope == "emergency":
        return ["run fewer workers (pytest -n), or the heaviest tests by themselves"]
    if breach.refused:
        needs = f"if the line that asked for it needs this much: a larger {breach.source}"
        return [f"{needs}; --amm-hard and isolated tests count what is only reserved, too"]
    start_bytes = phases[0].start_bytes if phases else 0
    command = f"pytest {_quoted(nodeid)} --amm-peaks --amm-on-breach=warn"  # a budget of the ini file or a marker stays
    advice = [f"see {'all that it takes' if breach.stopped else 'its own part'}: {command}"]
    if breach.scope == "session" and start_bytes > breach.budget_bytes // 2:
        advice.append(
            f"{format_size(start_bytes)} was in use before it started, kept by imports, fixtures and earlier tests: "
            "the column 'kept' of the memory section shows which"
        )
    others_bytes = breach.peak_bytes - max((phase.tree_peak_bytes for phase in phases), default=breach.peak_bytes)
    if breach.scope == "session" and others_bytes > breach.budget_bytes // 2:
        advice.append(
            f"{format_size(others_bytes)} was in other processes of the run, xdist's controller and workers: "
            "fewer of them (pytest -n), or a larger --amm-budget"
        )
    return advice if breach.stopped else [*advice, f"if it needs this much: --amm-budget={enough}"]


def _quoted(nodeid: str) -> str:
    return shlex.quote(nodeid) if "'" in nodeid else f"'{nodeid}'"
