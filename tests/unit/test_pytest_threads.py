"""Which threads of a stopped test are ended: those that run its code, and none that wait for work."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from pytest_amm.threads import TestThreads


@contextmanager
def busy() -> Iterator[threading.Thread]:
    """A thread that runs code of this file until the block ends."""
    running, ended = threading.Event(), threading.Event()

    def runs() -> None:
        running.set()
        while not ended.is_set():
            sum(range(1000))

    thread = threading.Thread(target=runs)
    thread.start()
    running.wait()
    try:
        yield thread
    finally:
        ended.set()
        thread.join()


def test_a_thread_that_runs_code_of_the_test_ends() -> None:
    threads = TestThreads(lambda: True)
    threads.begin()
    with busy() as thread:
        threads.wait(10.0)
        assert not thread.is_alive()


def test_a_pool_that_waits_for_work_still_does_it_and_is_not_waited_for() -> None:
    threads = TestThreads(lambda: True)
    threads.begin()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(len, "x").result(10) == 1
        threads.interrupt()
        threads.wait(10.0)
        assert pool.submit(len, "xy").result(10) == 2


def test_threads_that_were_there_before_are_left_alone() -> None:
    with busy() as thread:
        threads = TestThreads(lambda: True)
        threads.begin()
        threads.wait(1.0)
        assert thread.is_alive()


@pytest.mark.parametrize("stopped", [True, False])
def test_a_memory_error_in_a_thread_is_told_unless_it_ends_a_stopped_test(
    monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    def fails(*_: object) -> None:
        raise MemoryError

    told: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: told.append(arguments.exc_type))
    before = threading.excepthook
    threads = TestThreads(lambda: stopped)
    threads.begin()
    thread = threading.Thread(target=fails)
    thread.start()
    thread.join()
    threads.close()
    assert told == ([] if stopped else [MemoryError])
    assert threading.excepthook is before


def test_a_thread_that_was_there_before_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of an earlier test that has no memory any more: the next ones find it dead."""
    told: list[object] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    threads = TestThreads(lambda: True)
    with busy() as thread:
        threads.begin()
        arguments = threading.ExceptHookArgs((MemoryError, MemoryError(), None, thread))
        threading.excepthook(arguments)
    threads.close()
    assert told == [arguments]


def test_a_hook_that_a_test_has_set_hears_nothing_of_the_next_ones_end(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    threads = TestThreads(lambda: True)
    threads.begin()
    monkeypatch.setattr(threading, "excepthook", told.append)
    threads.interrupt()
    threading.excepthook(threading.ExceptHookArgs((SystemExit, SystemExit(), None, None)))
    threads.close()
    assert not told
    assert threading.excepthook == told.append


def test_whoever_has_taken_over_the_hook_is_told_all_after_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    threads = TestThreads(lambda: True)
    threads.begin()
    ours = threading.excepthook
    monkeypatch.setattr(threading, "excepthook", lambda arguments: ours(arguments))
    threads.close()
    arguments = threading.ExceptHookArgs((MemoryError, MemoryError(), None, None))
    threading.excepthook(arguments)
    assert told == [arguments]


def test_a_hook_that_tests_set_and_put_back_is_wrapped_once() -> None:
    original = threading.excepthook
    stopping = TestThreads(lambda: True)
    for _ in range(3):
        stopping.begin()
        ours, threading.excepthook = threading.excepthook, print
        stopping.begin()
        threading.excepthook = ours
    stopping.begin()
    stopping.close()
    assert threading.excepthook is original


def test_a_thread_whose_join_was_interrupted_is_waited_for() -> None:
    """Up to Python 3.12 such a thread says that it has ended (gh-90882)."""
    ended: list[bool] = []

    def runs() -> None:
        time.sleep(0.3)
        ended.append(True)

    stopping = TestThreads(lambda: True)
    stopping.begin()
    thread = threading.Thread(target=runs)
    thread.start()
    previous = signal.signal(signal.SIGALRM, _raise)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            thread.join()
    finally:
        signal.signal(signal.SIGALRM, previous)
    stopping.wait(5)
    stopping.close()
    assert ended or thread.ident not in sys._current_frames()


def _raise(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt
