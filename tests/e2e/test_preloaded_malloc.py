"""A program with Debian's jemalloc in malloc's place says so, and what that holds."""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.e2e

PROGRAM = """
import sys, time
from opentelemetry.sdk.metrics import MeterProvider
import amm_exporter as amm
from amm_exporter.export.reader import AMMMetricReader
reader = AMMMetricReader(serve=False)
provider = MeterProvider([reader])
with amm.start({}, meter_provider=provider):
    sys.stdout.write(reader.render()[1].decode() + "next\\n")
    kept = [bytes(1_000_000) for _ in range(50)]
    time.sleep(2)  # a reading is made again when its cost has spread
    sys.stdout.write(reader.render()[1].decode())
"""


def allocators(text: str, name: str) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(text)
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return {tuple(sample.labels.values()): sample.value for sample in samples}


def test_jemalloc_is_named_and_read():
    library = ctypes.util.find_library("jemalloc")
    assert library is not None, "Debian's libjemalloc2 is missing: make servers"
    environment = {**os.environ, "LD_PRELOAD": library}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    before, after = result.stdout.split("next\n")
    assert allocators(after, "amm_allocator_preloaded") == {("jemalloc",): 1}
    shown = [allocators(text, "amm_allocator_memory_bytes") for text in (before, after)]
    assert {name for name, _state in shown[1]} == {"pymalloc", "jemalloc"}
    used = [each["jemalloc", "used"] for each in shown]
    assert used[1] - used[0] == pytest.approx(50_000_000, rel=0.2)
    assert shown[1]["jemalloc", "free"] < 50_000_000
