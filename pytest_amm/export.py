"""`--amm-export`: sends the results of the run to Prometheus at its end, a plugin object of the process that reports.

What is sent, and how, is in `amm_exporter.export.test_results`. It brings a metrics library, so it is loaded only here,
after the last test. A failure to send is one line of the summary: monitoring that is down breaks nobody's build.
"""

from __future__ import annotations

from typing import Any

import pytest


class Export:
    """Sends one report. The suite is named after the rootdir."""

    def __init__(self, config: pytest.Config, destination: str) -> None:
        self._suite = config.rootpath.name or "tests"
        self._destination = destination
        self._document: dict[str, Any] | None = None
        self._error = ""

    @pytest.hookimpl(trylast=True)
    def pytest_amm_report(self, document: dict[str, Any]) -> None:
        self._document = document

    @pytest.hookimpl(trylast=True)  # the files of the report come first: a receiver may take seconds to refuse
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._document is None or session.config.option.collectonly:  # no results: those of the last run stay
            return
        try:
            from amm_exporter.export.test_results import export_results

            export_results(self._document, self._destination, suite=self._suite)
        except Exception as error:  # noqa: BLE001 - sending never changes the outcome of the tests
            self._error = " ".join(str(error).split()) or type(error).__name__

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._error:
            terminalreporter.write_line(f"warning: --amm-export: {self._error}", yellow=True)
