"""Which threads of a stopped test are ended: those that run its code, and none that wait for work."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

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
    threads = TestThreads()
    threads.begin()
    with busy() as thread:
        threads.wait(10.0)
        assert not thread.is_alive()


def test_a_pool_that_waits_for_work_still_does_it_and_is_not_waited_for() -> None:
    threads = TestThreads()
    threads.begin()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(len, "x").result(10) == 1
        threads.interrupt()
        threads.wait(10.0)
        assert pool.submit(len, "xy").result(10) == 2


def test_threads_that_were_there_before_are_left_alone() -> None:
    with busy() as thread:
        threads = TestThreads()
        threads.begin()
        threads.wait(1.0)
        assert thread.is_alive()
