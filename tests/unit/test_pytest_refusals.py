"""Refused allocations are counted also where the MemoryError was caught; those that code raises itself are not."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from pytest_amm.refusals import Refusals
from pytest_amm.refusals import refused as is_refused

HUGE = 1 << 62


@pytest.fixture(autouse=True)
def nobody_traces() -> Iterator[None]:
    """Coverage does, where the suite is measured."""
    tracer = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracer)


@pytest.fixture
def refusals() -> Iterator[Refusals]:
    refusals = Refusals()
    yield refusals
    refusals.close()


def refused() -> None:
    bytes(HUGE)


def through_frames() -> None:
    refused()


def from_an_operator() -> None:
    b"1" * HUGE


def raised_by_itself() -> None:
    raise MemoryError("simulated")


def other_error() -> None:
    int("x")


@pytest.mark.parametrize(
    ("fn", "count"),
    [(refused, 1), (through_frames, 1), (from_an_operator, 1), (raised_by_itself, 0), (other_error, 0)],
)
def test_what_counts(refusals: Refusals, fn: Callable[[], None], count: int) -> None:
    def swallowing() -> None:
        with contextlib.suppress(MemoryError, ValueError):
            fn()

    refusals.start()
    swallowing()
    assert refusals.count == count
    assert refusals.where.startswith(__file__) is bool(count)


def test_a_thread_counts_as_well(refusals: Refusals) -> None:
    def swallowing() -> None:
        with contextlib.suppress(MemoryError):
            refused()

    refusals.start()
    thread = threading.Thread(target=swallowing)
    thread.start()
    thread.join()
    assert refusals.count == 1


def test_stopped_it_counts_no_more_and_closed_it_leaves_nothing_behind() -> None:
    refusals = Refusals()
    refusals.start()
    refusals.stop()
    with pytest.raises(MemoryError):
        refused()
    assert refusals.count == 0
    refusals.close()
    assert sys.gettrace() is None
    if sys.version_info >= (3, 12):
        assert "amm" not in map(sys.monitoring.get_tool, range(6))


def test_where_another_traces_it_stands_back() -> None:
    def tracer(*_: object) -> None: ...

    sys.settrace(tracer)
    refusals = Refusals()
    assert refusals.start() is (sys.version_info >= (3, 12))
    assert sys.gettrace() is tracer
    refusals.close()
    assert sys.gettrace() is tracer


def in_the_words_of_linux() -> None:
    mmap.mmap(-1, HUGE)


def raised_in_these_words() -> None:
    raise OSError("Cannot allocate memory")


def of_another_limit() -> None:
    hashlib.scrypt(b"", salt=b"", n=1 << 20, r=8, p=1)  # "memory limit exceeded": OpenSSL's own


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (refused, True),
        (in_the_words_of_linux, True),
        (raised_by_itself, False),
        (raised_in_these_words, False),
        (of_another_limit, False),
        (other_error, False),
    ],
)
def test_a_failed_allocation_is_known_by_any_error_that_c_code_makes_of_it(
    fn: Callable[[], None], expected: bool
) -> None:
    with pytest.raises((MemoryError, OSError, ValueError)) as caught:
        fn()
    assert is_refused(caught.value) is expected
