"""Whose growth a leak is, from end to end: three programs that grow alike, told apart by page and evidence."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from amm_exporter.analysis.growth import FRAGMENTATION, NATIVE, ORIGIN_WORDS, PYTHON
from tests.fixtures.programs import AMM, clean_environ, eventually, free_port, get, run, running

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PROGRAMS = Path(__file__).parent.parent / "fixtures" / "holding"
ORIGINS = {"objects": PYTHON, "native": NATIVE, "fragments": FRAGMENTATION}


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """All three under `amm run` side by side, each with its port and pid: it takes a minute until they are judged."""
    own = clean_environ(TMPDIR=str(tmp_path_factory.mktemp("tmp")), XDG_RUNTIME_DIR="", AMM_INTERVAL="500ms")
    with ExitStack() as stack:
        started = {}
        for name in ORIGINS:
            port = free_port()
            command = [AMM, "run", "--port", str(port), "--", sys.executable, str(PROGRAMS / f"{name}.py")]
            started[name] = port, stack.enter_context(running(command, environ=own)).pid
        yield started, own


def seen_growing(port: int):
    evidence = json.loads(get(f"http://localhost:{port}/api/v1/status.json"))["evidence"] or {}
    return evidence if evidence.get("growth") else None


@pytest.mark.parametrize("name", ORIGINS)
def test_page_evidence_and_analysis_say_whose_growth_it_is(programs, name, tmp_path):
    started, own = programs
    port, pid = started[name]
    words = ORIGIN_WORDS[ORIGINS[name]]
    shown = eventually(lambda: seen_growing(port), seconds=300)
    assert "rss" in [row["series"] for row in shown["series"]]
    assert shown["growth"]["origin"] == words
    assert words in get(f"http://localhost:{port}/")

    file = tmp_path / "evidence.json"
    asked = run([AMM, "evidence", "--pid", str(pid), "--trace", "6s", "--output", str(file)], environ=own)
    assert asked.returncode == 0
    analysed = run([AMM, "analyze", str(file)], environ=own).stdout
    assert words in analysed
    if name != "fragments":  # which has ended by now, or rests
        assert ("the rest is C code's" in analysed) == (name == "native")
        assert ("module __main__" in analysed) == (name == "objects")
