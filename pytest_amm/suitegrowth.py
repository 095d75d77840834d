"""With `--amm-leaks`: does the run as a whole leak from test to test, or does it only warm up?

The gate calls test bodies again and again, and so knows nothing of fixtures, of unittest and of plugins. What stays in
use after each test, its teardown included, is one more series for the leak detector, with the number of the test as its
time. Each process has a series of its own; the calls that the gate makes are left out of it.
"""

from __future__ import annotations

import contextlib
import gc
import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import pytest

from amm_exporter.analysis.leaks import LeakDetector, LeakSettings
from amm_exporter.probes.allocations import RESIDENT, InUse
from amm_exporter.units import format_size

READING_ATTRIBUTE = "amm_in_use"
"""Where the teardown report of a test carries what was in use after it: worker, bytes."""

ALLOWED_BYTES = 32 * 1024
"""What a test may leave behind: pytest keeps the reports of each test until the end of the run."""

_SETTINGS = LeakSettings(settle_seconds=0.0, min_slope=ALLOWED_BYTES, slow_after_seconds=math.inf)
_STILL_BYTES = ALLOWED_BYTES // 4
_LARGEST = 5
_FEW = "unknown"
"""How the detector calls a series that is too short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteGrowth:
    """What stayed behind from test to test in one process.

    Attributes:
        decision: `leak`, `clean`, or `undecided` where there were too few tests.
        kind: of a leak steady, stepwise or saw-tooth; else warm-up, step, season, saw-tooth, falling or noise.
        bytes_per_test, lower, upper: the slope, with bounds at 99 % confidence.
        kept_bytes: in use after the last test over what was in use after the first.
        largest: after which tests most stayed behind, in bytes.
    """

    worker: str
    tests: int
    decision: str
    kind: str
    bytes_per_test: float
    lower: float
    upper: float
    kept_bytes: int
    largest: tuple[tuple[str, int], ...]


def judge(readings: Sequence[tuple[str, int]], *, worker: str = "") -> SuiteGrowth:
    """The verdict on what was in use after each test, in the order they ran."""
    detector = LeakDetector(_SETTINGS)
    for number, (_, in_use_bytes) in enumerate(readings):
        detector.add(float(number), float(in_use_bytes))
    verdict = detector.verdict()
    gained = [(after[0], after[1] - before[1]) for before, after in pairwise(readings)]
    return SuiteGrowth(
        worker=worker,
        tests=len(readings),
        decision="leak" if verdict.leaking else "undecided" if verdict.kind == _FEW else "clean",
        kind=verdict.kind,
        bytes_per_test=verdict.slope,
        lower=verdict.lower,
        upper=verdict.upper,
        kept_bytes=readings[-1][1] - readings[0][1],
        largest=tuple(sorted(gained, key=lambda pair: -pair[1])[:_LARGEST]),
    )


def lines(growth: SuiteGrowth) -> Iterator[str]:
    """The verdict for the terminal."""
    where = f"across {growth.tests} tests" + (f" of {growth.worker}" if growth.worker else "")
    if growth.decision == "undecided":
        yield f"{where}: too few to tell a leak from warm-up ({format_size(growth.kept_bytes)} stayed)"
        return
    if growth.decision == "clean":
        what = "warm-up, no leak" if growth.kind in ("warm-up", "step") else "no leak"
        yield f"{where}: {what}: {format_size(growth.kept_bytes)} stayed in all"
        return
    bounds = f"{format_size(growth.lower)} to {format_size(growth.upper)}"
    yield f"{where}: leaks {format_size(growth.bytes_per_test)} a test ({bounds}, {growth.kind}); most stayed after"
    for nodeid, gained_bytes in growth.largest:
        yield f"{format_size(gained_bytes):>10}  {nodeid}"
    yield "this fails the run: fixtures, unittest or plugins leak, or tests that the leak gate names"


def watch_suite(config: pytest.Config) -> SuiteReader:
    """Register what reads after each test, and where the run is reported what judges."""
    given: dict[str, Any] | None = getattr(config, "workerinput", None)
    reader = SuiteReader(str(given["workerid"]) if given else "")
    config.pluginmanager.register(reader, "amm-suite-reader")
    if given is None:
        config.pluginmanager.register(SuiteJudge(), "amm-suite-judge")
    return reader


class SuiteReader:
    """In the process that runs the tests: reads after each what is in use, and puts it on the test's last report."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._in_use = InUse()
        self._collected_bytes = 0
        self._aside_bytes = 0

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """What stays behind in here is no doing of the test's."""
        before_bytes = self._read()
        try:
            yield
        finally:
            self._aside_bytes += self._read() - before_bytes

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if call.when == "teardown":
            setattr(report, READING_ATTRIBUTE, (self._worker, self._read(_STILL_BYTES) - self._aside_bytes))
        return report

    def pytest_unconfigure(self) -> None:
        self._in_use.close()

    def _read(self, still_bytes: int | None = None) -> int:
        """Bytes in use by objects and by malloc; not the resident set, where what imports have freed hides a leak.

        Nothing is collected where all of it, garbage included, has hardly grown since that was done last.
        """
        if still_bytes is not None and (used_bytes := self._used_bytes()) <= self._collected_bytes + still_bytes:
            return used_bytes
        gc.collect()
        self._collected_bytes = self._used_bytes()
        return self._collected_bytes

    def _used_bytes(self) -> int:
        return sum(size for name, size in self._in_use.read().items() if name != RESIDENT)


class SuiteJudge:
    """In the process that reports: collects the readings, with xdist of every worker, and tells the verdicts."""

    def __init__(self) -> None:
        self._readings: dict[str, list[tuple[str, int]]] = {}
        self._growths: list[SuiteGrowth] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        reading = getattr(report, READING_ATTRIBUTE, None)
        if reading is not None:
            worker, in_use_bytes = reading
            self._readings.setdefault(worker, []).append((report.nodeid, in_use_bytes))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self._growths = [judge(readings, worker=worker) for worker, readings in sorted(self._readings.items())]
        leaks = any(growth.decision == "leak" for growth in self._growths)
        if leaks and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_amm_report(self, document: dict[str, Any]) -> None:
        document["suite_growth"] = [asdict(growth) for growth in self._growths]

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for growth in self._growths:
            if growth.decision == "leak" or terminalreporter.verbosity >= 0:
                for line in lines(growth):
                    terminalreporter.write_line(line)
