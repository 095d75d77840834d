"""How scrapes, forks and each other wait: one at a time, and nobody for ever."""

from __future__ import annotations

import threading

from amm_exporter.export.scrape_gate import ScrapeGate


def passes_in_a_thread(gate: ScrapeGate) -> tuple[threading.Thread, threading.Event]:
    passed = threading.Event()

    def scrape() -> None:
        with gate.passing():
            passed.set()

    thread = threading.Thread(target=scrape)
    thread.start()
    return thread, passed


def test_a_shut_gate_lets_nobody_pass_until_it_is_open_again() -> None:
    gate = ScrapeGate(wait_seconds=10)
    gate.shut()
    thread, passed = passes_in_a_thread(gate)
    assert not passed.wait(0.02)
    gate.reopen()
    assert passed.wait(10)
    thread.join()


def test_a_fork_waits_for_the_scrape_under_way() -> None:
    gate = ScrapeGate(wait_seconds=10)
    shut = threading.Event()
    with gate.passing():
        thread = threading.Thread(target=lambda: (gate.shut(), shut.set(), gate.reopen()))
        thread.start()
        assert not shut.wait(0.02)
    assert shut.wait(10)
    thread.join()


def test_a_fork_does_not_wait_for_a_scrape_that_hangs() -> None:
    gate = ScrapeGate(wait_seconds=0.01)
    shut = threading.Event()
    with gate.passing():
        thread = threading.Thread(target=lambda: (gate.shut(), shut.set(), gate.reopen()))
        thread.start()
        assert shut.wait(10)
        thread.join()
    with gate.passing():
        pass


def test_a_callback_of_a_scrape_may_fork() -> None:
    gate = ScrapeGate(wait_seconds=10)
    with gate.passing():
        gate.shut()
        gate.reopen()
    thread, passed = passes_in_a_thread(gate)
    assert passed.wait(10)
    thread.join()
