"""Suggest budgets from what earlier runs used: markers, or lines for the ini file.

amm budget suggest REPORT.json... [--ini] [--headroom 25%] [--least 16MB]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

from amm_exporter.errors import AMMError
from amm_exporter.units import MIB, parse_ratio, parse_size
from pytest_amm.jsonfile import ReportError, load

_ENDED = ("passed", "skipped")
"""Outcomes of tests that ran to their end: what they took is what they need."""


def suggestions(
    reports: Sequence[Mapping[str, Any]], *, headroom_ratio: float, least_bytes: int
) -> tuple[int, int, dict[str, int]]:
    """The session budget, the budget of every test, and those of the tests that need more than that, in MiB."""
    tests = _tests(reports)
    peak_bytes = max(
        [test["peak_bytes"] for test in tests] + [_tree_peak_bytes(report) for report in reports], default=0
    )
    needs: dict[str, int] = {}
    for test in tests:
        if test["outcome"] in _ENDED:
            needs[test["nodeid"]] = max(needs.get(test["nodeid"], 0), test["growth_bytes"])
    ordered = sorted(needs.values())
    # most tests share one small budget; the few above it say so by a marker
    common_bytes = max(least_bytes, _more(ordered[int(0.95 * (len(ordered) - 1))], headroom_ratio) if ordered else 0)
    special = {nodeid: _mib(_more(need, headroom_ratio)) for nodeid, need in needs.items() if need > common_bytes}
    return _mib(_more(peak_bytes, headroom_ratio)), _mib(common_bytes), special


def notes(reports: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What the suggestions cannot know: what these tests need, or those that did not run."""
    tests = _tests(reports)
    cut_short = sorted(
        {test["nodeid"] for test in tests} - {test["nodeid"] for test in tests if test["outcome"] in _ENDED}
    )
    if cut_short:
        more = f" and {len(cut_short) - 1} more" if len(cut_short) > 1 else ""
        yield f"not counted, as they failed or were stopped: {cut_short[0]}{more}; see all with --amm-on-breach=warn"
    if not all(report.get("complete", True) for report in reports):
        yield "a run was killed before its end: tests after that are not in its report"


def as_markers(session_mib: int, common_mib: int, special: Mapping[str, int]) -> list[str]:
    """One for each function: of its parameters the one that needs most."""
    heaviest: dict[str, tuple[int, str]] = {}
    for nodeid, mib in special.items():
        function = nodeid.partition("[")[0]
        heaviest[function] = max(heaviest.get(function, (0, "")), (mib, nodeid))
    sizes = {nodeid: mib for mib, nodeid in heaviest.values()}
    markers = [f'@pytest.mark.amm_budget("{mib}MB")  # {name}' for name, mib in _by_size(sizes)]
    return [
        f"pytest --amm-budget={session_mib}MB --amm-test-budget={common_mib}MB",
        *([""] if markers else []),
        *markers,
    ]


def as_ini(session_mib: int, common_mib: int, special: Mapping[str, int]) -> list[str]:
    """Budgets of files: an ini file knows no single tests with parameters."""
    files: dict[str, int] = {}
    for nodeid, mib in special.items():
        path = nodeid.partition("::")[0]
        files[path] = max(files.get(path, 0), mib)
    lines = ["[pytest]", f"amm_budget = {session_mib}MB", f"amm_test_budget = {common_mib}MB"]
    return lines + (["amm_budget_for =", *(f"    {path} = {mib}MB" for path, mib in _by_size(files))] if files else [])


def main(arguments: Sequence[str] | None = None, out: TextIO = sys.stdout) -> int:
    """The command. Returns its exit code."""
    parser = argparse.ArgumentParser(prog="amm budget suggest", description=__doc__.partition("\n")[0])
    parser.add_argument("reports", nargs="+", metavar="REPORT.json", help="reports of --amm-json")
    parser.add_argument("--ini", action="store_true", help="lines for the ini file instead of markers")
    parser.add_argument("--headroom", default="25%", metavar="RATIO", help="more than was seen (default 25%%)")
    parser.add_argument("--least", default="16MB", metavar="SIZE", help="no budget below this (default 16MB)")
    values = parser.parse_args(arguments)
    try:
        reports = [load(path) for path in values.reports]
        if not any(report["tests"] for report in reports):
            raise ReportError("no test stands in what was given: nothing was seen to suggest from")
        found = suggestions(
            reports,
            headroom_ratio=parse_ratio(values.headroom),
            least_bytes=parse_size(values.least),
        )
    except (AMMError, ReportError) as error:
        parser.error(str(error))
    for note in notes(reports):
        sys.stderr.write(f"note: {note}\n")  # not in what is pasted
    out.write("\n".join([*(as_ini if values.ini else as_markers)(*found), ""]))  # at once: `| head -1` closes the pipe
    return 0


def _tests(reports: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [test for report in reports for test in report["tests"]]


def _tree_peak_bytes(report: Mapping[str, Any]) -> int:
    """What all processes had together: the workers of xdist share the session budget. 0 where nobody saw it."""
    summary = report.get("summary")
    peak_bytes = summary.get("tree_peak_bytes") if isinstance(summary, Mapping) else None
    return peak_bytes if isinstance(peak_bytes, int) else 0


def _more(size_bytes: int, headroom_ratio: float) -> int:
    return round(size_bytes * (1 + headroom_ratio))


def _mib(size_bytes: int) -> int:
    return max(1, -(-size_bytes // MIB))


def _by_size(sizes: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(sizes.items(), key=lambda each: (-each[1], each[0]))
