"""The per-call gate and the evidence recorder on real memory."""

from __future__ import annotations

import ctypes
import functools
import gc
import json
import logging
import mmap
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from amm_exporter.analysis.leaks import LeakDetector, Verdict
from amm_exporter.control.evidence import MOST_FILES, EvidenceRecorder, resident_by_mapping
from amm_exporter.control.leak_gate import leak_per_call
from amm_exporter.probes.allocations import InUse, SiteTrace

pytestmark = pytest.mark.usefixtures("frozen_imports")
kept: list[object] = []


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    kept.clear()


class Row:
    def __init__(self) -> None:
        self.data = bytearray(3000)


def test_a_leak_of_objects_is_found_with_its_type_and_line() -> None:
    verdict = leak_per_call(lambda: kept.append(Row()))
    assert verdict.decision == "leak"
    assert verdict.lower <= verdict.bytes_per_call <= verdict.upper
    assert 3000 < verdict.bytes_per_call < 3600
    assert any(name.endswith("Row") for name, _ in verdict.types)
    assert any(Path(__file__).name in site for site, _ in verdict.sites)


def test_a_leak_in_c_is_found_by_mallocs_own_count() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    verdict = leak_per_call(lambda: libc.malloc(2000), explain=False)
    assert (verdict.decision, verdict.series) == ("leak", "native")
    assert 1990 < verdict.bytes_per_call < 2100


def test_a_leak_of_mappings_is_found_in_resident_memory() -> None:
    def call() -> None:
        mapping = mmap.mmap(-1, 16_384)
        mapping.write(b"x" * 16_384)
        kept.append(mapping)

    verdict = leak_per_call(call, explain=False)
    assert (verdict.decision, verdict.series) == ("leak", "resident")


@functools.lru_cache(maxsize=512)
def cached(key: int) -> bytearray:
    return bytearray(4000)


def _cache() -> Callable[[], object]:
    keys = iter(range(10**9))
    return lambda: cached(next(keys))


def _cycle() -> None:
    node: list[object] = [bytearray(4000)]
    node.append(node)


INNOCENT: dict[str, Callable[[], object]] = {
    "sum": lambda: sum(range(100)),
    "tuples of many lengths": lambda: [tuple(range(length)) for length in range(18)],
    "a full cache": _cache(),
    "cyclic garbage": _cycle,
    "many objects at once": lambda: [bytes(300) for _ in range(300)],
    "small objects that stay": lambda: kept.append(object()),
}


@pytest.mark.parametrize("name", INNOCENT)
def test_innocent_functions_are_clean(name: str) -> None:
    verdict = leak_per_call(INNOCENT[name])
    assert verdict.decision == "clean", verdict


def test_cycles_are_a_leak_where_the_collector_is_off_and_the_verdict_says_how_it_looked() -> None:
    gc.disable()
    try:
        off = leak_per_call(_cycle, explain=False)
    finally:
        gc.enable()
        gc.collect()
    assert off.decision == "leak"
    assert "the collector was left alone" in off.reasons
    assert "cyclic garbage was collected before each reading" in leak_per_call(_cycle).reasons


def test_a_function_that_takes_all_the_time_is_undecided_not_accused() -> None:
    clock = iter(range(10**6))
    verdict = leak_per_call(lambda: None, time_limit_seconds=5.0, clock=lambda: float(next(clock)))
    assert verdict.decision == "undecided"
    assert "too few" in verdict.reasons[0]


def test_what_the_function_raises_comes_through_and_tracing_is_left_as_it_was() -> None:
    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        leak_per_call(broken)
    assert not tracemalloc.is_tracing()


def test_tracing_that_already_ran_goes_on() -> None:
    tracemalloc.start()
    try:
        trace = SiteTrace()
        trace.start()
        kept.append(bytearray(100_000))
        assert any(size >= 100_000 for size in trace.sites().values())
        trace.stop()
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()


def test_bytes_in_use_follow_what_is_allocated() -> None:
    in_use = InUse()
    before = in_use.read()
    kept.extend(bytearray(5000) for _ in range(2000))
    kept.extend([str(index) * 3 for index in range(100_000)])
    after = in_use.read()
    in_use.close()
    assert 10_000_000 < after["native"] - before["native"] < 13_000_000
    assert after["python"] - before["python"] > 5_000_000


def leaking() -> Verdict:
    return replace(LeakDetector().verdict(), leaking=True, slope=1e6, kind="steady", exhaustion_seconds=float("inf"))


def test_evidence_is_captured_once_written_as_json_and_paced(tmp_path: Path) -> None:
    clock = [0.0]
    recorder = EvidenceRecorder(tmp_path, caches=lambda: {"pages": {"hits": 3}}, monotonic=lambda: clock[0])
    recorder.remember()
    assert recorder.consider({"resident": LeakDetector().verdict()}) is None
    evidence = recorder.consider({"resident": leaking()})
    assert evidence is not None
    assert recorder.consider({"resident": leaking()}) is None
    (file,) = tmp_path.iterdir()
    stored = json.loads(file.read_text())
    assert stored["verdicts"]["resident"]["leaking"] is True
    assert stored["caches"] == {"pages": {"hits": 3}}
    assert stored["mappings"][0][1] > 100_000
    assert stored["allocators"]
    assert len(file.read_text()) < 100_000


def test_a_second_series_waits_for_the_pause_and_is_not_forgotten(tmp_path: Path) -> None:
    clock = [0.0]
    recorder = EvidenceRecorder(monotonic=lambda: clock[0])
    assert recorder.consider({"a": leaking()}) is not None
    assert recorder.consider({"a": leaking(), "b": leaking()}) is None
    clock[0] = 601.0
    assert recorder.consider({"a": leaking(), "b": leaking()}) is not None


def test_old_evidence_files_make_room(tmp_path: Path) -> None:
    wall = [1000.0]
    recorder = EvidenceRecorder(tmp_path, pause_seconds=0.0, wall=lambda: wall[0])
    for _ in range(MOST_FILES + 3):
        wall[0] += 1.0
        recorder.capture({})
    assert len(list(tmp_path.iterdir())) == MOST_FILES


def test_evidence_that_a_sibling_takes_away_meanwhile_disturbs_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "amm-evidence-1-1.json").symlink_to(tmp_path / "gone")
    evidence = EvidenceRecorder(tmp_path, wall=lambda: 7.0).capture({})
    assert evidence is not None
    assert Path(evidence["file"]).exists()
    assert caplog.messages == []


def test_a_broken_part_says_so_and_the_others_remain(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> dict[str, object]:
        raise RuntimeError("no caches today")

    with caplog.at_level(logging.CRITICAL, "amm.control"):
        evidence = EvidenceRecorder(caches=broken).capture({})
    assert evidence is not None
    assert "no caches today" in evidence["caches"]["unavailable"]
    assert evidence["mappings"]


def test_mappings_are_summed_by_name() -> None:
    smaps = (
        b"7f00-7f10 r--p 00000000 08:01 12 /usr/lib/libx y.so\nSize: 8 kB\nRss: 4 kB\n"
        b"7f10-7f20 rw-p 00000000 08:01 12 /usr/lib/libx y.so\nRss: 2 kB\n7f20-7f30 rw-p 00000000 00:00 0 \nRss: 8 kB\n"
    )
    assert resident_by_mapping(smaps) == {"/usr/lib/libx y.so": 6144, "anonymous": 8192}


def test_a_large_leak_is_told_before_it_fills_the_machine() -> None:
    verdict = leak_per_call(lambda: kept.append(bytearray(1 << 20)), explain=False)
    assert verdict.decision == "leak"
    assert verdict.calls < 800


def test_a_quick_leak_is_told_within_the_room_it_has() -> None:
    """Batches of two milliseconds, and the calls that are traced, would take ten times as much."""
    room_bytes = 8 << 20
    verdict = leak_per_call(lambda: kept.append(bytearray(100 << 10)), most_gained_bytes=room_bytes)
    assert verdict.decision == "leak"
    assert verdict.sites
    assert verdict.calls * (100 << 10) < 3.5 * room_bytes


@pytest.mark.parametrize(("kept_bytes", "decision"), [(0, "clean"), (50_000, "undecided")])
def test_a_slow_body_is_cleared_by_few_calls_and_accused_by_many(kept_bytes: int, decision: str) -> None:
    """Of 0.2 s: 40 calls in all. By so few a cache that fills looks like a leak."""
    seconds = [0.0]

    def body() -> None:
        seconds[0] += 0.2
        kept.append(bytearray(kept_bytes))

    verdict = leak_per_call(body, time_limit_seconds=8.0, clock=lambda: seconds[0])
    assert verdict.decision == decision
    assert (verdict.enough_seconds > 8.0) == (decision == "undecided")


def test_the_time_that_is_called_enough_decides() -> None:
    seconds = [0.0]

    def body() -> None:
        seconds[0] += 0.2
        kept.append(bytearray(50_000))

    few = leak_per_call(body, time_limit_seconds=3.0, clock=lambda: seconds[0])
    enough = leak_per_call(body, time_limit_seconds=few.enough_seconds, clock=lambda: seconds[0])
    assert (few.decision, enough.decision) == ("undecided", "leak")


def test_a_warm_up_that_is_asked_for_is_made_in_full_and_takes_none_of_the_time() -> None:
    """A tenth of 8 s holds 16 calls of 50 ms, and a cache of 150 entries would look like a leak."""
    seconds = [0.0]

    def body() -> None:
        seconds[0] += 0.05
        if len(kept) < 150:
            kept.append(bytearray(5000))

    verdict = leak_per_call(body, warmup=200, time_limit_seconds=8.0, clock=lambda: seconds[0])
    assert verdict.decision == "clean"
    assert verdict.calls > 200


FEW_TRACED = """
from amm_exporter.control.leak_gate import leak_per_call
kept, seconds = [], [0.0]

def body():
    seconds[0] += 0.05
    kept.append({"row": [50_000 * b"x"]})

print(*(name for name, _ in leak_per_call(body, clock=lambda: seconds[0]).types))
"""


def test_of_a_slow_body_only_types_of_its_own_are_named() -> None:
    """What the tracer makes at its first reading was as much as ten calls keep."""
    told = subprocess.run([sys.executable, "-c", FEW_TRACED], capture_output=True, text=True, check=True).stdout.split()
    assert set(told) == {"list", "dict"}


def test_of_a_leak_that_fills_its_room_at_once_the_line_is_named() -> None:
    verdict = leak_per_call(lambda: kept.append(bytearray(1 << 20)), most_gained_bytes=1 << 20)
    assert verdict.decision == "leak"
    assert any(Path(__file__).name in site for site, _ in verdict.sites)
