"""Tells a phase that failed or broke a budget: on its report, to the hooks, and gives back what the test still holds.

What a breach is stands in `breach`, its words in `failure`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

import pytest

from pytest_amm import failure
from pytest_amm.breach import Breach, one_line, stop_notes
from pytest_amm.evidence import Evidence, sites
from pytest_amm.giveback import give_back

if TYPE_CHECKING:
    from pytest_amm.measure import TestMeasure

_HELD_BYTES = 8 << 20
"""A failed test that holds less than this is left as it is: a full collection costs more than it frees."""


def tell(
    report: pytest.TestReport,
    item: pytest.Item,
    excinfo: pytest.ExceptionInfo[BaseException] | None,
    measure: TestMeasure,
    *,
    warns: bool,
    exact: bool,
    evidence: Callable[[], list[Evidence]],
) -> bool:
    """The report of a phase that did not pass, or that broke a budget; it fails by the breach unless `warns`.

    Returns whether what the test still held was given back.
    """
    breach = measure.breach
    error = excinfo.value if excinfo is not None else None
    if breach is not None and breach.phase == report.when:
        _tell_others(report, item, breach)
        at_line = _points_at_project(error, item)
        found = _found(evidence)
        text = _explain(breach, measure, nodeid=item.nodeid, exact=exact, at_line=at_line, evidence=found)
        if warns:
            failure.warn(report, text)
        else:
            failure.fail(report, text, instead=isinstance(error, failure.OverBudget) and not at_line)
    stopped = isinstance(error, (failure.OverBudget, MemoryError))  # also in a subtest, before its test is judged
    gives_back = report.failed and (breach is not None or stopped or _holds_much(measure))
    if gives_back:
        give_back(item.config, excinfo)
    if report.outcome != "passed" and measure.outcome != "failed":
        measure.outcome = report.outcome
    return gives_back


def _found(evidence: Callable[[], list[Evidence]]) -> list[Evidence]:
    """Nothing where a test has replaced what this needs, `open` for one: its report comes before that is undone."""
    try:
        return [*evidence(), *sites()]
    except Exception:  # noqa: BLE001 - what was seen is left out, the breach is told
        return []


def _tell_others(report: pytest.TestReport, item: pytest.Item, breach: Breach) -> None:
    try:
        item.config.hook.pytest_amm_breach(item=item, breach=breach)
    except Exception as error:  # noqa: BLE001 - others' hooks do not end the run
        report.sections.append(("amm", f"pytest_amm_breach: {one_line(error)}"))


def _explain(
    breach: Breach, measure: TestMeasure, *, nodeid: str, exact: bool, at_line: bool, evidence: list[Evidence]
) -> str:
    notes = stop_notes(measure.stop, at_line=at_line) if measure.stop else []
    if measure.refused_at:
        notes.append(f"refused at {measure.refused_at}, whether or not the MemoryError was caught")
    return failure.explain(
        breach,
        measure.phases,
        nodeid=nodeid,
        exact=exact,
        slack_bytes=measure.slack_bytes or 0,
        notes=notes,
        evidence=evidence,
    )


def _points_at_project(error: BaseException | None, item: pytest.Item) -> bool:
    """Whether the traceback has a line of the project; else it shows the insides of pytest and its plugins only.

    So it is where the interrupt came when the last C call of a test had just ended, and in doctests.
    """
    root = os.path.join(item.config.rootpath, "")
    paths = _paths(error.__traceback__ if error is not None else None)
    return any(path == str(item.path) or path.startswith(root) for path in paths if "site-packages" not in path)


def _paths(traceback: TracebackType | None) -> Iterator[str]:
    ours = os.path.dirname(__file__)
    while traceback is not None:
        path = traceback.tb_frame.f_code.co_filename
        if not path.startswith(ours):
            yield path
        traceback = traceback.tb_next


def _holds_much(measure: TestMeasure) -> bool:
    """Whether the traceback of a failed test may hold enough to weigh on the tests after it."""
    return bool(measure.phases) and measure.phases[-1].end_bytes - measure.start_bytes > _HELD_BYTES
