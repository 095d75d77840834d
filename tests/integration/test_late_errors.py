"""A signal that arrives during a collection ends what it would have ended without the gc probe."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time

import pytest

from amm_exporter.probes.gc_events import GcProbe


@pytest.fixture(autouse=True)
def hook():
    """The interpreter's own, in place of pytest's, which makes a failure of every exception it sees. Nor is there a
    callback of Hypothesis, which loses the signals that it is called with."""
    before, sys.unraisablehook = sys.unraisablehook, sys.__unraisablehook__
    others, gc.callbacks[:] = gc.callbacks[:], []
    yield
    sys.unraisablehook, gc.callbacks[:] = before, others


@pytest.fixture
def probe():
    probe = GcProbe()
    probe.start()
    yield probe
    probe.stop()


def _collect_until_a_signal(number: signal.Signals) -> None:
    """The heap is large enough for the signal to come during a collection."""
    junk = [[each] for each in range(200_000)]
    gc.collect()  # a __del__ of what other tests left would lose the signal as well
    threading.Timer(0.01, os.kill, (os.getpid(), number)).start()
    end = time.monotonic() + 0.1
    while time.monotonic() < end:
        gc.collect()
    time.sleep(10)  # a late exception ends this too
    del junk


@pytest.mark.parametrize("_", range(5))
def test_ctrl_c_during_a_collection_is_not_lost(probe: GcProbe, _: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        _collect_until_a_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_a_handler_raises_arrives_as_it_is_and_once(probe: GcProbe) -> None:
    calls: list[int] = []

    def stop(number: int, _: object) -> None:
        calls.append(number)
        raise SystemExit(7)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(SystemExit, match="7"):
            _collect_until_a_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert calls == [signal.SIGTERM]


def test_with_two_probes_too(probe: GcProbe) -> None:
    second = GcProbe()
    second.start()
    with pytest.raises(KeyboardInterrupt):
        _collect_until_a_signal(signal.SIGINT)
    second.stop()


def test_unraisable_exceptions_of_others_go_where_they_went() -> None:
    seen: list[object] = []
    sys.unraisablehook = lambda unraisable: seen.append(unraisable.exc_value)
    probe = GcProbe()
    probe.start()

    class Failing:
        def __del__(self) -> None:
            raise ValueError("theirs")

    Failing()
    probe.stop()
    assert [str(error) for error in seen] == ["theirs"]


def test_stop_puts_the_hook_back(probe: GcProbe) -> None:
    assert sys.unraisablehook is not sys.__unraisablehook__
    probe.stop()
    assert sys.unraisablehook is sys.__unraisablehook__


def test_a_hook_set_since_is_left_alone(probe: GcProbe) -> None:
    def theirs(unraisable: object) -> None: ...

    sys.unraisablehook = theirs
    probe.stop()
    assert sys.unraisablehook is theirs
