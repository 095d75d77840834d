"""What is said once."""

from __future__ import annotations

import pytest

from amm_exporter.errors import AMMError
from amm_exporter.export.complaints import Complaints


def test_each_consequence_is_said_once_whatever_the_error(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints()
    for number in range(3):
        with complaints.once("sums may fall"):
            raise AMMError(f"disk {number} is full")
    with complaints.once("old numbers are shown"):
        raise AMMError("disk 3 is full")
    assert caplog.messages == ["sums may fall: disk 0 is full", "old numbers are shown: disk 3 is full"]


def test_another_error_is_not_caught() -> None:
    with pytest.raises(ZeroDivisionError), Complaints().once("sums may fall"):
        raise ZeroDivisionError
