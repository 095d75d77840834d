"""Processes and trees read from fake /proc trees; real ones are in tests/integration."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from probe_trees import make_tree, open_fds, process, stat_line

from amm_exporter.errors import ProbeError
from amm_exporter.probes.process import MOST_KEPT_FILES, HighWaterMark, ProcessProbe, TreeProbe
from amm_exporter.probes.procfs import PAGE_BYTES


def test_pages_of_statm_become_bytes(tmp_path: Path) -> None:
    proc = make_tree(tmp_path, {"42": process(42, rss_pages=300, virtual_pages=900)})
    memory = ProcessProbe(42, proc=proc).read()
    assert (memory.pid, memory.rss_bytes, memory.virtual_bytes) == (42, 300 * PAGE_BYTES, 900 * PAGE_BYTES)


def test_the_cheap_reading_leaves_the_costly_fields_absent(tmp_path: Path) -> None:
    memory = ProcessProbe(42, proc=make_tree(tmp_path, {"42": process(42)})).read()
    assert (memory.peak_bytes, memory.swap_bytes, memory.minor_faults, memory.major_faults) == (None,) * 4


def test_details_add_peak_swap_and_faults(tmp_path: Path) -> None:
    memory = ProcessProbe(42, proc=make_tree(tmp_path, {"42": process(42)})).details()
    assert (memory.peak_bytes, memory.swap_bytes) == (4000 * 1024, 8 * 1024)
    assert (memory.minor_faults, memory.major_faults) == (11, 22)


def test_a_kernel_without_swap_line_yields_none_for_swap(tmp_path: Path) -> None:
    proc = make_tree(tmp_path, {"42": process(42) | {"status": "Name:\tapp\nVmHWM:\t4 kB\n"}})
    assert ProcessProbe(42, proc=proc).details().swap_bytes is None


def test_a_changed_statm_is_seen_and_an_unchanged_one_is_the_same_value(tmp_path: Path) -> None:
    proc = make_tree(tmp_path, {"42": process(42, rss_pages=300)})
    probe = ProcessProbe(42, proc=proc)
    first = probe.read()
    assert probe.read() is first
    (proc / "42/statm").write_text("900 301 10 5 0 60 0\n")
    assert probe.read().rss_bytes == probe.rss_bytes() == 301 * PAGE_BYTES


def test_own_process_is_read_through_self(tmp_path: Path) -> None:
    probe = ProcessProbe(proc=make_tree(tmp_path, {"self": process(7)}))
    assert probe.read().pid == probe.pid == os.getpid()


def test_start_time_is_boot_time_and_ticks(tmp_path: Path) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    proc = make_tree(tmp_path, {"42": process(42, start=3 * ticks), "stat": "cpu 1 2\nbtime 1000\nprocesses 9\n"})
    assert ProcessProbe(42, proc=proc).start_unix_seconds() == 1003.0


def test_a_missing_boot_time_says_so(tmp_path: Path) -> None:
    proc = make_tree(tmp_path, {"42": process(42), "stat": "cpu 1 2\n"})
    with pytest.raises(ProbeError, match="no line with btime"):
        ProcessProbe(42, proc=proc).start_unix_seconds()


def test_an_absent_pid_is_refused_with_a_clear_text(tmp_path: Path) -> None:
    with pytest.raises(ProbeError) as caught:
        ProcessProbe(42, proc=tmp_path)
    assert str(caught.value) == f"process 42 has ended, or was never there: no {tmp_path}/42/stat"


def test_a_pid_given_to_another_process_is_noticed_by_its_start_time(tmp_path: Path) -> None:
    proc = make_tree(tmp_path, {"42": process(42, start=5000)})
    probe = ProcessProbe(42, proc=proc)
    (proc / "42/stat").write_text(stat_line(42, start=5001))
    with pytest.raises(ProbeError) as caught:
        probe.details()
    assert str(caught.value) == "process 42 has ended; its pid now belongs to another process"


def test_a_successor_under_the_same_pid_is_not_opened(tmp_path: Path) -> None:
    """After the kept file was lost, reading starts with the check of who the pid belongs to."""
    proc = make_tree(tmp_path, {"42": process(42, start=5000)})
    probe = ProcessProbe(42, proc=proc)
    probe.read()
    probe.close()
    (proc / "42/stat").write_text(stat_line(42, start=5001))
    for _ in range(2):  # not at the second reading either
        with pytest.raises(ProbeError, match="now belongs to another process"):
            probe.read()


def test_a_process_without_memory_has_ended(tmp_path: Path) -> None:
    """A zombie's statm is all zeros."""
    proc = make_tree(tmp_path, {"42": process(42) | {"statm": "0 0 0 0 0 0 0\n"}})
    with pytest.raises(ProbeError, match="process 42 has ended: it has no memory left"):
        ProcessProbe(42, proc=proc).read()


@pytest.mark.parametrize("raw", ["", "\n", "12", "12 13", "a b c d", "900 x 1 1 1 1 1\n", "\0\0\0"])
def test_garbage_in_statm_is_an_error_that_shows_it(tmp_path: Path, raw: str) -> None:
    probe = ProcessProbe(42, proc=make_tree(tmp_path, {"42": process(42) | {"statm": raw}}))
    with pytest.raises(ProbeError, match="unexpected content"):
        probe.read()


@pytest.mark.parametrize("raw", ["", "12", "a b c"])
def test_garbage_in_statm_is_an_error_for_the_cheapest_reading_too(tmp_path: Path, raw: str) -> None:
    probe = ProcessProbe(42, proc=make_tree(tmp_path, {"42": process(42) | {"statm": raw}}))
    with pytest.raises(ProbeError, match="unexpected content"):
        probe.rss_bytes()


def test_a_tree_sums_the_root_and_all_generations_below(tmp_path: Path) -> None:
    proc = make_tree(
        tmp_path,
        {
            "10": process(10, 1, rss_pages=100),
            "11": process(11, 10, rss_pages=20),
            "12": process(12, 11, rss_pages=3),
            "99": process(99, 1, rss_pages=5000),
        },
    )
    tree = TreeProbe(10, proc=proc).read()
    assert tree.rss_bytes == 123 * PAGE_BYTES
    assert [member.pid for member in tree.processes] == [10, 11, 12]


def test_the_kernels_lists_of_children_are_preferred_and_cover_all_threads(tmp_path: Path) -> None:
    """The parent pids here are wrong on purpose: only the children files lead to 11 and 12."""
    proc = make_tree(
        tmp_path,
        {
            "10": process(10, 1, rss_pages=100) | {"task/10/children": "11 ", "task/15/children": "12 "},
            "11": process(11, 999, rss_pages=20) | {"task/11/children": ""},
            "12": process(12, 999, rss_pages=3) | {"task/12/children": ""},
        },
    )
    assert TreeProbe(10, proc=proc).read().rss_bytes == 123 * PAGE_BYTES


def test_a_child_that_vanishes_between_listing_and_reading_is_left_out(tmp_path: Path) -> None:
    proc = make_tree(
        tmp_path,
        {
            "10": process(10, 1, rss_pages=100) | {"task/10/children": "11 12 "},
            "11": process(11, 10, rss_pages=20) | {"statm": ""},
        },
    )
    assert TreeProbe(10, proc=proc).read().rss_bytes == 100 * PAGE_BYTES


def test_children_that_come_and_go_are_followed(tmp_path: Path) -> None:
    proc = make_tree(tmp_path, {"10": process(10, 1), "11": process(11, 10)})
    probe = TreeProbe(10, proc=proc)
    assert len(probe.read().processes) == 2
    make_tree(proc, {"12": process(12, 11)})
    assert len(probe.read().processes) == 3
    (proc / "12/stat").write_text(stat_line(12, 1))  # adopted by init
    assert [member.pid for member in probe.read().processes] == [10, 11]


def test_new_children_are_looked_for_as_often_as_asked_and_known_ones_always_read(tmp_path: Path) -> None:
    proc = make_tree(tmp_path, {"10": process(10, 1), "11": process(11, 10)})
    probe = TreeProbe(10, proc=proc, look_seconds=3600)
    assert len(probe.read().processes) == 2
    make_tree(proc, {"12": process(12, 10), "11": process(11, 10, rss_pages=5)})
    known = probe.read().processes
    assert [(member.pid, member.rss_bytes) for member in known[1:]] == [(11, 5 * PAGE_BYTES)]
    shutil.rmtree(proc / "11")
    probe.close()
    probe.read()  # finds that one has gone: reason enough to look
    assert [member.pid for member in probe.read().processes] == [10, 12]


def test_the_sum_alone_is_that_of_the_members_found_last_and_an_error_when_one_has_gone(tmp_path: Path) -> None:
    proc = make_tree(tmp_path, {"10": process(10, 1, rss_pages=3), "11": process(11, 10, rss_pages=4)})
    probe = TreeProbe(10, proc=proc)
    probe.read()
    make_tree(proc, {"11": process(11, 10, rss_pages=5)})
    assert probe.rss_bytes() == 8 * PAGE_BYTES
    probe.close()
    assert probe.rss_bytes() == 3 * PAGE_BYTES
    probe.read()
    (proc / "11/statm").write_text("")
    with pytest.raises(ProbeError):
        probe.rss_bytes()


ASKS = """
import os, subprocess
from amm_exporter.probes.descendants import Descendants, has_no_children
family = Descendants(os.getpid())
print(has_no_children(), len(family.pids()))
child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
print(has_no_children(), family.pids() == {child.pid})
child.stdin.close()
os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
print(has_no_children())
print(child.wait(), has_no_children(), len(family.pids()))
"""


def test_asking_for_children_leaves_one_that_ended_to_whoever_waits_for_it() -> None:
    out = subprocess.run([sys.executable, "-c", ASKS], capture_output=True, text=True, check=True).stdout
    assert out.splitlines() == ["True 0", "False True", "False", "0 True 0"]


def beside_a_stranger(tmp_path: Path, me: int) -> tuple[Path, TreeProbe]:
    """A /proc with this process and one of somebody else's, and the probe that looks at it."""
    tree = {str(me): process(me), "5": process(5, 1), "loadavg": "0.1 0.1 0.1 1/90 700\n"}
    proc = make_tree(tmp_path, tree)
    (proc / "self").symlink_to(str(me))
    return proc, TreeProbe(me, proc=proc)


def test_strangers_are_not_looked_at_again_until_a_pid_was_given_out(tmp_path: Path) -> None:
    me = os.getpid()
    proc, probe = beside_a_stranger(tmp_path, me)
    assert len(probe.read().processes) == 1
    make_tree(proc, {"701": process(701, me)})
    assert len(probe.read().processes) == 1, "nothing was given out according to loadavg"
    (proc / "loadavg").write_text("0.1 0.1 0.1 1/91 701\n")
    assert len(probe.read().processes) == 2


def test_a_reused_low_pid_is_found_after_the_numbers_wrapped_around(tmp_path: Path) -> None:
    me = os.getpid()
    proc, probe = beside_a_stranger(tmp_path, me)
    probe.read()
    (proc / "5/stat").write_text(stat_line(5, me))
    (proc / "loadavg").write_text("0.1 0.1 0.1 1/91 5\n")
    assert len(probe.read().processes) == 2


def test_the_tree_of_an_ended_root_is_an_error(tmp_path: Path) -> None:
    proc = make_tree(tmp_path, {"10": process(10, 1)})
    probe = TreeProbe(10, proc=proc)
    (proc / "10/statm").write_text("0 0 0 0 0 0 0\n")
    with pytest.raises(ProbeError, match="process 10 has ended"):
        probe.read()


def test_a_large_tree_is_read_whole_and_holds_a_bounded_number_of_descriptors(tmp_path: Path) -> None:
    count = MOST_KEPT_FILES + 20
    proc = make_tree(tmp_path, {"10": process(10)} | {str(pid): process(pid, 10) for pid in range(11, 11 + count)})
    probe = TreeProbe(10, proc=proc)
    before = open_fds()
    for _ in range(3):
        assert len(probe.read().processes) == 1 + count
        assert probe.rss_bytes() == probe.read().rss_bytes
    assert open_fds() <= before + MOST_KEPT_FILES + 2
    probe.close()
    assert open_fds() == before


def test_garbage_in_stat_is_told_once(tmp_path: Path) -> None:
    proc = make_tree(tmp_path, {"42": process(42) | {"stat": "garbage"}})
    with pytest.raises(ProbeError) as caught:
        ProcessProbe(42, proc=proc)
    assert str(caught.value) == f"cannot read {proc}/42/stat: unexpected content b'garbage'"


def test_the_mark_is_reset_by_writing_five_and_read_as_bytes(tmp_path: Path) -> None:
    proc = make_tree(tmp_path, {"42": process(42)})
    mark = HighWaterMark(42, proc=proc)
    assert mark.supported
    mark.reset()
    assert (proc / "42/clear_refs").read_bytes() == b"5"
    assert mark.read_bytes() == 4000 * 1024


def test_a_mark_behind_many_groups_is_found(tmp_path: Path) -> None:
    status = "Name:\tapp\nGroups:\t" + "1234567 " * 9000 + "\nVmHWM:\t12 kB\n"
    proc = make_tree(tmp_path, {"42": process(42) | {"status": status[-60000:]}})
    assert HighWaterMark(42, proc=proc).read_bytes() == 12 * 1024


def test_the_mark_is_read_anew_where_another_file_has_its_number(tmp_path: Path) -> None:
    """As after a daemon has closed all descriptors, and opened files of its own."""
    mark = HighWaterMark(42, proc=make_tree(tmp_path, {"42": process(42)}))
    mark.read_bytes()
    foreign = mark._status.fileno()
    with (tmp_path / "42" / "stat").open() as other:
        os.dup2(other.fileno(), foreign)
    assert mark.read_bytes() == 4000 * 1024
    mark.close()
    assert os.read(foreign, 2) == b"42"
    os.close(foreign)


def test_no_mark_without_clear_refs(tmp_path: Path) -> None:
    proc = make_tree(tmp_path, {"42": {"status": "VmHWM:\t4 kB\n"}})
    assert not HighWaterMark(42, proc=proc).supported


@pytest.mark.parametrize("status", ["", "Name:\tx\n", "VmHWM:\n", "VmHWM:\tx kB\n"])
def test_a_status_without_mark_is_an_error(tmp_path: Path, status: str) -> None:
    proc = make_tree(tmp_path, {"42": process(42) | {"status": status}})
    with pytest.raises(ProbeError, match="unexpected content"):
        HighWaterMark(42, proc=proc).read_bytes()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="psutil is the way elsewhere")
def test_importing_and_using_the_probes_does_not_load_psutil() -> None:
    code = (
        "import sys\n"
        "from amm_exporter.probes import process, limit, pressure, gc_events\n"
        "process.ProcessProbe().details(); process.TreeProbe().read(); limit.LimitProbe().read()\n"
        "assert 'psutil' not in sys.modules, 'psutil was loaded'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
