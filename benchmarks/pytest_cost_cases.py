"""What pytest_cost.py runs: the suites, a clock around them, and a program that asks for the mark."""

from __future__ import annotations

SUITE_TESTS = 320
SUITES = {
    "allocating Python": """
        import pytest
        @pytest.mark.parametrize("number", range(SUITE_TESTS))
        def test_it(number):
            rows = [{"key": each, "text": str(each)} for each in range(60_000)]
            assert sum(len(row["text"]) for row in rows) > 0
    """,
    "numpy": """
        import numpy, pytest
        @pytest.mark.parametrize("number", range(SUITE_TESTS))
        def test_it(number):
            base = numpy.arange(250_000, dtype=float)
            for _ in range(20):
                base = numpy.sqrt(base * base + 1.0)
            assert base.sum() > 0
    """,
}
CLOCK = """
import pathlib, time, pytest
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session):
    before = time.process_time()
    yield
    pathlib.Path("loop.txt").write_text(str(time.process_time() - before))
    return True
"""
TIMED = """
def test_it(benchmark):
    benchmark.pedantic(lambda: sorted([{"key": -each} for each in range(2_000)], key=lambda row: row["key"]),
                       rounds=800, iterations=1, warmup_rounds=20)
"""
MARK = """
import statistics, sys, time
from pytest_amm.meter import Meter
base = b"1" * (int(sys.argv[1]) << 20)
meter = Meter()
quiet, grown = [], []
for number in range(150):
    for spike_bytes, costs in ((0, quiet), (2 << 20, grown)):
        before = time.process_time_ns()
        meter.start()
        between = time.process_time_ns()
        spike = b"1" * spike_bytes
        del spike
        resumed = time.process_time_ns()
        meter.stop()
        costs.append(between - before + time.process_time_ns() - resumed)
print(meter.rss_bytes() >> 20, statistics.median(quiet) / 1000, statistics.median(grown) / 1000)
"""
