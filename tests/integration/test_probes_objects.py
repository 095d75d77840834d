"""The census against an independent count: objgraph's way, gc.get_objects."""

from __future__ import annotations

import gc
import json
import random
import struct
import subprocess
import sys
import threading
import time

import pytest
from probe_trees import make_tree

from amm_exporter.errors import ProbeError
from amm_exporter.probes.objects import ObjectProbe, TypeCount, TypeNames, unseen
from amm_exporter.probes.pymalloc import (
    HEADER,
    POOL_BYTES,
    Pool,
    PoolReader,
    SlotMap,
    anonymous_ranges,
    free_blocks,
    parse_header,
)

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/mem")


class Ordinary:
    def __init__(self) -> None:
        self.value = 1


class Slotted:
    __slots__ = ("value",)


class Number(float):
    __slots__ = ()


def counted(name: str, probe: ObjectProbe | None = None, seconds: float = 10.0) -> TypeCount:
    census = (probe or ObjectProbe(top=10_000)).census(seconds)
    return {count.name: count for count in census.types}[name]


@pytest.mark.parametrize("cls", [Ordinary, Slotted, Number])
def test_a_full_census_counts_every_object_of_a_type(cls: type) -> None:
    """Each of the three layouts: with managed dict, collected without one, and not collected at all."""
    kept = [cls() for _ in range(5_000)]
    found = counted(f"{__name__}.{cls.__qualname__}")
    assert (found.count, found.error_count) == (len(kept), 0)
    assert found.size_bytes >= 16 * len(kept)


def test_freed_objects_are_not_counted_though_their_traces_remain() -> None:
    kept = [Slotted() for _ in range(5_000)]
    random.Random(1).shuffle(kept)
    del kept[1_000:]
    assert counted(f"{__name__}.Slotted").count == 1_000


def test_a_class_held_in_a_tuple_is_not_mistaken_for_an_instance() -> None:
    kept = [(Ordinary, number) for number in range(5_000)]
    assert len(kept) == 5_000
    names = {count.name for count in ObjectProbe(top=10_000).census(10.0).types}
    assert f"{__name__}.Ordinary" not in names


COUNTED_TWICE = """
import gc, json
from collections import Counter
from amm_exporter.probes.objects import ObjectProbe, type_name
gc.collect()
census = {count.name: count.count for count in ObjectProbe(top=10_000).census(10.0).types}
witness = Counter(type_name(type(thing)) for thing in gc.get_objects())
print(json.dumps([[census[name], witness[name]] for name in ("function", "set", "property", "module")]))
"""


def test_counts_of_builtin_types_agree_with_the_collectors_own() -> None:
    """In a program of its own: here, threads and garbage of other tests would stand between the two counts."""
    done = subprocess.run([sys.executable, "-c", COUNTED_TWICE], capture_output=True, text=True, check=True)
    for census, witness in json.loads(done.stdout):
        assert census == pytest.approx(witness, rel=0.02, abs=5)


def test_a_sample_is_right_within_its_stated_error() -> None:
    kept = [Slotted() for _ in range(300_000)]
    probe = ObjectProbe(top=10_000)
    census = probe.census(0.02)
    found = {count.name: count for count in census.types}[f"{__name__}.Slotted"]
    assert census.sampled_ratio < 1
    assert abs(found.count - len(kept)) < 5 * found.error_count
    assert found.error_count < len(kept) / 2


def test_the_most_common_types_come_first_and_no_more_than_asked_for() -> None:
    census = ObjectProbe(top=3).census(10.0)
    counts = [count.count for count in census.types]
    assert len(counts) == 3
    assert counts == sorted(counts, reverse=True)
    assert census.objects_count > sum(counts)


def test_growth_names_the_type_that_grew_and_by_how_much() -> None:
    probe = ObjectProbe()
    assert probe.census(10.0).growth == ()
    kept = [Slotted() for _ in range(20_000)]
    grown = {growth.name: growth for growth in probe.census(10.0).growth}
    assert grown[f"{__name__}.Slotted"].delta == len(kept)
    assert f"{__name__}.Slotted" not in {growth.name for growth in probe.census(10.0).growth}


def test_sampling_noise_is_not_growth() -> None:
    kept = [Slotted() for _ in range(200_000)]
    probe = ObjectProbe()
    for _ in range(10):
        assert f"{__name__}.Slotted" not in {growth.name for growth in probe.census(0.01).growth}
    assert len(kept) == 200_000


def test_a_type_the_last_sample_missed_must_exceed_what_could_be_missed() -> None:
    found = TypeCount(name="x", count=100, size_bytes=6_400, error_count=0)
    assert unseen(found, 1.0).error_count == 0
    assert unseen(found, 8.0).error_count == 8 * POOL_BYTES // 64


def test_no_thread_waits_longer_for_a_census_than_for_other_python_code() -> None:
    """Against gc.get_objects in the same process: the longest wait of a busy thread is a fraction of that one's."""
    kept = [[] for _ in range(1_500_000)]
    longest, running = [0.0], True

    def watch() -> None:
        last = time.perf_counter()
        while running:
            now = time.perf_counter()
            longest[0], last = max(longest[0], now - last), now

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        probe = ObjectProbe()
        longest[0] = 0.0
        probe.census(0.05)
        by_census = longest[0]
        longest[0] = 0.0
        everything = gc.get_objects()
        by_objgraph = longest[0]
    finally:
        running = False
        watcher.join()
    assert len(everything) > len(kept)
    assert by_census < max(by_objgraph, 0.1)


def test_the_programs_random_numbers_are_left_alone() -> None:
    random.seed(7)
    expected = random.random()
    random.seed(7)
    ObjectProbe().census(0.01)
    assert random.random() == expected


@pytest.mark.parametrize("options", [["-X", "dev"], ["-E"]])
def test_another_heap_layout_is_recognised_and_named(options: list[str]) -> None:
    code = "from amm_exporter.probes.objects import ObjectProbe; print(ObjectProbe().unavailable or 'works')"
    environment = {"PYTHONMALLOC": "malloc", "PATH": "/usr/bin"}
    result = subprocess.run(
        [sys.executable, *options, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    if options == ["-E"]:
        assert result.stdout.strip() == "works"
    else:
        assert result.stdout.startswith("objects do not lie in pymalloc's pools")


def test_an_unreadable_memory_is_a_reason_and_then_an_error(tmp_path) -> None:
    probe = ObjectProbe(proc=tmp_path)
    assert probe.unavailable == f"cannot read {tmp_path}/self/mem: No such file or directory"
    with pytest.raises(ProbeError, match="no census of objects: cannot read"):
        probe.census()


def header(**changes: int) -> bytes:
    """A full pool of 64-byte blocks, unless told otherwise."""
    fields = {
        "used": 255, "padding": 0, "free": 0, "next": 0, "previous": 0, "arena": 3,
        "size_class": 3, "next_offset": 48 + 255 * 64, "max_offset": POOL_BYTES - 64,
    } | changes  # fmt: skip
    return struct.pack("=IIQQQIIII", *fields.values())


def test_a_true_header_is_believed() -> None:
    pool = parse_header(POOL_BYTES, header())
    assert pool == Pool(address=POOL_BYTES, block_bytes=64, used_count=255, carved_count=255, free_block=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"size_class": 32},
        {"size_class": 4},
        {"max_offset": 0},
        {"next_offset": 48},
        {"next_offset": 49},
        {"next_offset": 48 + 256 * 64},
        {"used": 0},
        {"used": 256},
        {"free": POOL_BYTES + 47},
        {"free": 2 * POOL_BYTES},
    ],
)
def test_a_header_at_odds_with_itself_is_not(changes: dict[str, int]) -> None:
    assert parse_header(POOL_BYTES, header(**changes)) is None


@pytest.mark.parametrize("raw", [b"\0" * HEADER.size, b"\xff" * HEADER.size, b"MZ" * 24])
def test_other_memory_is_no_pool(raw: bytes) -> None:
    assert parse_header(POOL_BYTES, raw) is None


@pytest.mark.parametrize("link", [POOL_BYTES + 48, POOL_BYTES + 49, 7, 2**63])
def test_a_free_list_out_of_place_or_in_a_ring_ends(link: int) -> None:
    words = memoryview(bytearray(POOL_BYTES)).cast("Q")
    words[6] = link
    pool = Pool(address=POOL_BYTES, block_bytes=64, used_count=250, carved_count=255, free_block=POOL_BYTES + 48)
    assert len(free_blocks(pool, words)) <= 5


def test_every_slot_is_met_once() -> None:
    for count in (1, 2, 3, 16, 97, 1000):
        assert sorted(PoolReader()._shuffled(count)) == list(range(count))


MAPS = b"""\
55d0c0000000-55d0c0200000 rw-p 00000000 00:00 0                          [heap]
7f0000001000-7f0000201000 rw-p 00000000 00:00 0
7f1000000000-7f1000100000 rw-p 00000000 00:00 0                          [anon:pymalloc]
7f2000000000-7f2000100000 r--p 00000000 fe:01 1234                       /usr/lib/x.so
7f3000000000-7f30000ff000 rw-p 00000000 00:00 0
7ffc00000000-7ffc00200000 rw-p 00000000 00:00 0                          [stack]
garbage
7f40-
"""


def test_only_private_anonymous_mappings_of_an_arena_or_more_are_searched() -> None:
    assert list(anonymous_ranges(MAPS)) == [(0x7F0000001000, 0x7F0000201000), (0x7F1000000000, 0x7F1000100000)]


def test_slots_are_aligned_and_lie_within_their_mapping() -> None:
    slots = SlotMap(MAPS)
    assert slots.count == 127 + 64
    assert slots.address(0) == 0x7F0000004000
    assert slots.address(126) == 0x7F00001FC000
    assert slots.address(127) == 0x7F1000000000


def test_no_mappings_no_pools(tmp_path) -> None:
    proc = make_tree(tmp_path, {"self": {"maps": "", "mem": ""}})
    assert list(PoolReader(proc=proc).pools(1.0)) == []


class Unhelpful(type):
    def __getattribute__(cls, name: str) -> object:
        raise RuntimeError(name)


def test_a_metaclass_is_not_asked_what_its_classes_are_called() -> None:
    """Of one class that answers by an error, no census would come about."""
    made = Unhelpful("Made", (), {})
    assert f"{__name__}.Made" in {*TypeNames().collected.values(), *TypeNames().managed.values()}
    del made
