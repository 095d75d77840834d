"""The box that requests for evidence are found in."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from amm_exporter.control.evidence_request import RequestBox


def test_a_thread_that_cannot_be_had_keeps_no_later_request_from_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    box = RequestBox(lambda _: answered.set() or {}, environ={"XDG_RUNTIME_DIR": str(tmp_path)})
    request = tmp_path / "amm-exporter" / "evidence" / f"{os.getpid()}.request"
    request.parent.mkdir(parents=True)
    request.write_text('{"trace_seconds": 0}')
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            box.look()
    box.look()
    assert answered.wait(10)


def refuse(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
