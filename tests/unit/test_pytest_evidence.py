"""What is said of a stopped test beside its figures: stacks, mappings, children, allocation sites."""

from __future__ import annotations

import faulthandler
import os
import tempfile
import threading
import tracemalloc

import pytest

from pytest_amm.board import Board
from pytest_amm.evidence import Evidence, Witness, from_text, largest_mappings, mappings, sites, stacks, to_text

MIB = 1 << 20
SMAPS = b"""\
55d0a0000000-55d0a0900000 rw-p 00000000 00:00 0                          [heap]
Size:               9216 kB
KernelPageSize:        4 kB
Rss:                9000 kB
Pss:                9000 kB
VmFlags: rd wr mr mw me ac
7f0000000000-7f00c0000000 rw-p 00000000 00:00 0
Size:            3145728 kB
Rss:              200000 kB
7f10c0000000-7f11c0000000 rw-p 00000000 00:00 0
Size:            4194304 kB
Rss:              100000 kB
7f2000000000-7f2000100000 r-xp 00000000 08:01 77                         /usr/lib/lib with space.so (deleted)
Size:               1024 kB
Rss:                 512 kB
7f3000000000-7f3000100000 r--p 00000000 08:01 78                         /usr/lib/untouched.so
Size:               1024 kB
Rss:                   0 kB
"""
DUMP = """\
Thread 0x00007f2222222222 (most recent call first):
  File "/suite/test_it.py", line 5 in fill
  File "/usr/lib/python3.11/threading.py", line 982 in run

Thread 0x00007f3333333333 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 320 in wait
  File "/suite/test_it.py", line 50 in pool

Current thread 0x00007f1111111111 (most recent call first):
  File "/suite/helper.py", line 7 in load
  File "/suite/test_it.py", line 9 in test_it
  File "/site-packages/_pytest/python.py", line 194 in pytest_pyfunc_call
  File "/suite/never.py", line 1 in never

Current thread 0x00007f1111111111 (most recent call first):
  File "/suite/helper.py", line 8 in later

"""


def test_mappings_are_summed_by_name_and_told_by_what_is_resident() -> None:
    assert largest_mappings(SMAPS, 5) == [
        Evidence("mapped", 300_000 << 10, "anonymous memory, 2 mappings"),
        Evidence("mapped", 9000 << 10, "[heap]"),
        Evidence("mapped", 512 << 10, "lib with space.so (deleted)"),
    ]
    assert len(largest_mappings(SMAPS, 2)) == 2
    assert largest_mappings(b"", 3) == []


def test_stacks_are_the_part_that_the_test_wrote_the_main_thread_first() -> None:
    assert stacks(DUMP) == [
        Evidence("stack", 0, "load (helper.py:7) < test_it (test_it.py:9)"),
        Evidence("stack", 0, "fill (test_it.py:5)"),
    ]


def test_a_deep_stack_keeps_its_innermost_frames_and_the_test() -> None:
    frames = "".join(f'  File "/suite/m.py", line {depth} in f{depth}\n' for depth in range(50))
    (stack,) = stacks(f"Current thread 0x1 (most recent call first):\n{frames}")
    assert stack.text == "f0 (m.py:0) < f1 (m.py:1) < f2 (m.py:2) < f3 (m.py:3) < f4 (m.py:4) < f49 (m.py:49)"


def test_a_real_dump_and_real_mappings_are_read() -> None:
    block = b"1" * (64 * MIB)
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file)
        witness = Witness(os.getpid(), file.fileno())
        found = witness.news() or []
        assert witness.news() is None
        faulthandler.dump_traceback(file)
        assert witness.news() == found  # more of the same thread: the first counts
    assert any("test_a_real_dump_and_real_mappings_are_read (test_pytest_evidence.py:" in each.text for each in found)
    assert next(each for each in found if each.text.startswith("anonymous")).size_bytes > len(block)


def test_a_process_that_has_ended_has_none() -> None:
    assert mappings(2**22 + 1) == []
    witness = Witness(2**22 + 1, 3)
    assert (witness.news(), witness.news()) == ([], None)


def test_it_crosses_the_board_and_a_cut_line_is_left_out() -> None:
    found = [Evidence("child", 7 * MIB, "node (pid 7)"), Evidence("stack", 0, "f (ü.py:1)")]
    assert from_text(to_text(found)) == found
    assert from_text(to_text(found)[:-4])[0] == found[0]
    assert from_text("\nmapped\nmapped\tx\ty\nmapped\t5") == []
    board = Board.create()
    try:
        board.write_evidence(3, 7, to_text(found))
        assert from_text(board.evidence(3, 7)) == found
        assert (board.evidence(3, 8), board.evidence(2, 7), board.evidence(4, 7)) == ("", "", "")
        board.write_evidence(3, 9, "x" * 10_000)
        assert len(board.evidence(3, 9)) < 4096
        assert board.evidence(4, 9) == ""
    finally:
        board.close()


def test_allocation_sites_are_told_only_while_somebody_traces() -> None:
    if tracemalloc.is_tracing():
        pytest.fail("another test left tracemalloc on")
    assert sites() == []
    tracemalloc.start()
    try:
        held = b"1" * (32 * MIB)
        (site,) = [each for each in sites() if "test_pytest_evidence.py" in each.text]
        assert len(held) <= site.size_bytes < 33 * MIB
    finally:
        tracemalloc.stop()


def test_an_idle_thread_is_left_out() -> None:
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        found = stacks(file.read().decode())
    ended.set()
    thread.join()
    assert [each for each in found if "threading.py" in each.text] == []
