"""Kept files and the shapes of kernel text."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from probe_trees import open_fds

from amm_exporter.errors import ProbeError
from amm_exporter.probes.procfs import KeptFile, keyed_number, kib_field, parse_stat


def test_a_kept_file_tells_what_stands_there_now(tmp_path: Path) -> None:
    path = tmp_path / "usage"
    path.write_text("1")
    kept = KeptFile(path)
    assert kept.read() == b"1"
    path.write_text("22")
    assert kept.read() == b"22"
    kept.close()


def test_a_hundred_reads_hold_one_descriptor_and_close_gives_it_back(tmp_path: Path) -> None:
    (tmp_path / "usage").write_text("1")
    before = open_fds()
    kept = KeptFile(tmp_path / "usage")
    for _ in range(100):
        kept.read()
    assert open_fds() == before + 1
    kept.close()
    assert open_fds() == before


def test_a_dropped_kept_file_gives_its_descriptor_back(tmp_path: Path) -> None:
    (tmp_path / "usage").write_text("1")
    before = open_fds()
    KeptFile(tmp_path / "usage").read()
    assert open_fds() == before


def test_it_can_be_read_again_after_close(tmp_path: Path) -> None:
    (tmp_path / "usage").write_text("1")
    kept = KeptFile(tmp_path / "usage")
    kept.read()
    kept.close()
    assert kept.read() == b"1"
    kept.close()


def test_a_descriptor_closed_by_somebody_else_is_opened_anew(tmp_path: Path) -> None:
    (tmp_path / "usage").write_text("1")
    kept = KeptFile(tmp_path / "usage")
    kept.read()
    os.close(kept._fd)
    with pytest.raises(ProbeError, match="Bad file descriptor"):
        kept.read()
    assert kept.read() == b"1"
    kept.close()


def test_close_spares_the_file_that_took_over_its_number(tmp_path: Path) -> None:
    """As after a daemon has closed all descriptors it inherited."""
    (tmp_path / "ours").write_text("1")
    (tmp_path / "theirs").write_text("2")
    kept = KeptFile(tmp_path / "ours")
    kept.read()
    number = kept._fd
    os.close(number)
    theirs = os.open(tmp_path / "theirs", os.O_RDONLY)
    os.dup2(theirs, number)
    kept.close()
    assert os.read(number, 1) == b"2"
    os.close(number)
    if theirs != number:
        os.close(theirs)


def test_nothing_is_written_to_the_file_that_somebody_opens_after_closing_ours(tmp_path: Path) -> None:
    (tmp_path / "ours").write_text("")
    (tmp_path / "theirs").write_text("theirs")
    kept = KeptFile(tmp_path / "ours", flags=os.O_WRONLY)
    os.close(kept.fileno())
    theirs = os.open(tmp_path / "theirs", os.O_WRONLY)
    with pytest.raises(ProbeError, match="Bad file descriptor"):
        kept.write(b"5")
    kept.write(b"5")
    kept.close()
    os.close(theirs)
    assert [(tmp_path / name).read_text() for name in ("ours", "theirs")] == ["5", "theirs"]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda path: None, "cannot read {path}: No such file or directory"),
        (lambda path: path.mkdir(), "cannot read {path}: Is a directory"),
    ],
)
def test_an_unreadable_file_is_named_with_the_reason(tmp_path: Path, make, text) -> None:
    path = tmp_path / "statm"
    make(path)
    with pytest.raises(ProbeError) as caught:
        KeptFile(path).read()
    assert str(caught.value) == text.format(path=path)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"VmHWM:\t    1768 kB\n", 1768 * 1024),
        (b"Name:\tx\nVmHWM:\t0 kB\nVmRSS:\t9 kB\n", 0),
        (b"XVmHWM:\t5 kB\nVmHWM:\t7 kB\n", 7 * 1024),
        (b"Name:\tVmHWM: 99 kB\nVmHWM:\t7 kB\n", 7 * 1024),
        (b"VmHWM:\t7 kB", 7 * 1024),
        (b"VmHWM:\t7", 7 * 1024),
        (b"VmHWM:", None),
        (b"VmHWM:\n", None),
        (b"VmHWM:\tabc kB\n", None),
        (b"VmHWM:\t-1 kB\n", None),
        (b"VmRSS:\t7 kB\n", None),
        (b"", None),
    ],
)
def test_kib_field(raw: bytes, expected: int | None) -> None:
    assert kib_field(raw, b"VmHWM:") == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"oom 3\noom_kill 5\n", 3),
        (b"oom_kill 5\noom 3\n", 3),
        (b"oom_kill 5\n", None),
        (b"oom ", None),
        (b"oom x\n", None),
        (b"oom 3", 3),
        (b"", None),
    ],
)
def test_keyed_number(raw: bytes, expected: int | None) -> None:
    assert keyed_number(raw, b"oom") == expected


def test_a_command_name_with_spaces_and_parentheses_does_not_shift_the_fields() -> None:
    tail = b" S 77 1 1 0 -1 0 11 0 22 0 0 0 0 0 20 0 1 0 4242 0 0"
    stat = parse_stat(Path("stat"), b"12 (a) b (c) d)" + tail)
    assert (stat.state, stat.parent_pid, stat.minor_faults, stat.major_faults, stat.start_ticks) == (
        "S",
        77,
        11,
        22,
        4242,
    )


@pytest.mark.parametrize(
    "raw", [b"", b"12", b"12 (x", b"12 (x) S 1 2", b"12 (x) S a b c d e f g h i j k l m n o p q r"]
)
def test_a_truncated_stat_line_is_an_error_that_shows_it(raw: bytes) -> None:
    with pytest.raises(ProbeError, match="unexpected content"):
        parse_stat(Path("stat"), raw)
