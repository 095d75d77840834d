"""The clock that leaves out what a thread waited for a processor."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from amm_exporter.probes.waiting import UnhinderedClock


class Machine:
    """A clock, and the file in which the kernel tells how long was waited."""

    def __init__(self, directory: Path) -> None:
        self.now = 100.0
        self._file = directory / "thread-self" / "schedstat"
        self._file.parent.mkdir()
        self.waited(7.0)

    def waited(self, seconds: float) -> None:
        self._file.write_text(f"1000 {round(seconds * 1e9)} 3\n")


def test_what_was_waited_is_not_in_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    clock = UnhinderedClock(proc=tmp_path, clock=lambda: machine.now)
    machine.now, _ = 110.0, machine.waited(11.0)
    assert clock() == pytest.approx(6.0)
    clock.close()


def test_it_goes_on_at_a_third_of_the_pace_at_least(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    clock = UnhinderedClock(proc=tmp_path, clock=lambda: machine.now)
    machine.now, _ = 130.0, machine.waited(37.0)
    assert clock() == pytest.approx(10.0)


def test_another_file_under_its_number_is_left_alone_and_its_own_opened_anew(tmp_path: Path) -> None:
    """As after a daemon has closed all descriptors, and opened files of its own."""
    machine = Machine(tmp_path)
    clock = UnhinderedClock(proc=tmp_path, clock=lambda: machine.now)
    (tmp_path / "other").write_text("1 0 0")
    with (tmp_path / "other").open() as other:
        os.dup2(other.fileno(), clock._file.fileno())
    foreign = clock._file.fileno()
    machine.now, _ = 110.0, machine.waited(11.0)
    assert clock() == pytest.approx(6.0)
    clock.close()
    assert os.pread(foreign, 5, 0) == b"1 0 0"
    os.close(foreign)


def test_without_the_file_it_is_the_clock(tmp_path: Path) -> None:
    times = iter([100.0, 103.5])
    assert UnhinderedClock(proc=tmp_path, clock=lambda: next(times))() == pytest.approx(3.5)
