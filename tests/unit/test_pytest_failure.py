"""The words of a breach that the usual ones do not fit: an emergency of the machine, a time lost to stalls."""

from __future__ import annotations

import shlex

import pytest

from pytest_amm.breach import Breach
from pytest_amm.failure import explain, headline
from pytest_amm.records import Phase
from pytest_amm.refusals import refused

MIB, GIB = 1 << 20, 1 << 30


def emergency(used_bytes: int) -> Breach:
    return Breach(
        scope="emergency", budget_bytes=20 * GIB, peak_bytes=used_bytes, phase="call", source="--amm-emergency"
    )


def test_a_full_machine_is_told_as_the_machines_and_not_as_this_process() -> None:
    text = explain(emergency(21 * GIB), (), nodeid="test_it.py::test_it", exact=True)
    assert headline(emergency(21 * GIB)) == "machine at 21 GiB in call, 1 GiB over 20 GiB"
    assert "21 GiB in use on the whole machine or container" in text
    assert "high-water mark" not in text


def test_time_lost_to_stalls_is_no_size_below_zero() -> None:
    text = explain(emergency(9 * GIB), (), nodeid="test_it.py::test_it", exact=True)
    assert headline(emergency(9 * GIB)) == "every task stood still for memory in call, 9 GiB in use"
    assert "(--amm-emergency-stall)" in text
    assert "-11" not in text


@pytest.mark.parametrize(("others_mib", "said"), [(0, False), (200, True)])
def test_what_other_workers_had_is_told_apart_from_what_the_test_had(others_mib: int, said: bool) -> None:
    phase = Phase("call", 50 * MIB, 300 * MIB, 300 * MIB, 300 * MIB)
    peak_bytes = (300 + others_mib) * MIB
    breach = Breach(scope="session", budget_bytes=MIB, peak_bytes=peak_bytes, phase="call", source="--amm-budget")
    text = explain(breach, (phase,), nodeid="t.py::t", exact=True)
    assert ("at the watchdog's look; this test had 300 MiB of it (exact," in text) == said


@pytest.mark.parametrize(("others_mib", "said"), [(400, False), (600, True)])
def test_where_others_fill_the_budget_the_advice_is_about_them(others_mib: int, said: bool) -> None:
    """The controller of xdist and its workers hold each collected test: 0.3 to 0.5 GiB each for 50,000."""
    phase = Phase("call", 300 * MIB, 300 * MIB, 300 * MIB, 300 * MIB)
    peak_bytes = (300 + others_mib) * MIB
    breach = Breach(scope="session", budget_bytes=GIB, peak_bytes=peak_bytes, phase="call", source="--amm-budget")
    text = explain(breach, (phase,), nodeid="t.py::t", exact=True)
    assert (f"next     {others_mib} MiB was in other processes of the run" in text) == said


def test_what_to_type_next_can_be_pasted_into_a_shell() -> None:
    breach = Breach(scope="test", budget_bytes=GIB, peak_bytes=2 * GIB, phase="call", source="marker", stopped=True)
    command = explain(breach, (), nodeid="t.py::test[it's one]", exact=True).rpartition("takes: ")[2]
    assert shlex.split(command)[1:3] == ["t.py::test[it's one]", "--amm-peaks"]


def _raise() -> None:
    raise MemoryError("simulated")


def _ask() -> None:
    bytearray(1 << 62)


@pytest.mark.parametrize(("body", "expected"), [(_ask, True), (_raise, False)])
def test_an_error_that_the_code_raises_by_itself_is_no_refusal(body: object, expected: bool) -> None:
    assert callable(body)
    with pytest.raises(MemoryError) as caught:
        body()
    assert refused(caught.value) is expected


def test_other_errors_are_no_refusal() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        divmod(1, 0)
    assert not refused(caught.value)
    assert not refused(None)
