"""The page of many processes in a real Chromium: sorted, refreshed, and no process's name can do anything there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from browser import browse
from programs import AMM, eventually, free_port, get, line, running

pytestmark = pytest.mark.e2e

MARK = f"mark{uuid.uuid4().hex}"
HOLD = "import sys; kept = bytearray(int(sys.argv[1]) << 20); print('ready', flush=True); sys.stdin.read()"
HOSTILE = "<iframe>'\"&"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Two Python programs, of which the larger is the older, and a sleep by a hostile name."""
    port = free_port()
    with ExitStack() as stack:
        for size in ("90", "40"):
            program = running([sys.executable, "-I", "-c", HOLD, size, MARK], stdin=subprocess.PIPE)
            assert line(stack.enter_context(program).stdout) == "ready"
        stack.enter_context(
            running([HOSTILE, "-c", f"read wait; : {MARK}"], executable="/bin/sh", stdin=subprocess.PIPE)
        )
        stack.enter_context(running([AMM, "serve", "--match", MARK, "--limit", "110MB", "--port", str(port)]))
        url = f"http://localhost:{port}/"
        eventually(lambda: json.loads(get(f"{url}api/v1/status.json"))["count"] == 3)
        yield url


def column(document: str, place: int) -> list[str]:
    rows = re.findall(r"<tr><td>\d.*?</tr>", document, re.DOTALL)
    return [re.sub(r"<[^>]*>", "", re.findall(r"<td.*?</td>", row)[place]) for row in rows]


def test_the_order_chosen_is_kept_when_the_page_refreshes_itself(url: str, tmp_path: Path) -> None:
    before = get(url)
    assert column(before, 2)[0] == "critical"
    time.sleep(1.2)
    document, console = browse(f"{url}#-resident", tmp_path, "--dump-dom")
    assert console == ""
    assert column(document, 0) == column(before, 0)[::-1]
    assert column(document, 2)[-1] == "critical"
    assert re.findall(r'data-key="([\w-]+)" aria-sort="ascending"><button>', document) == ["resident"]
    said = [re.search(r"3 processes watched · (\S+ \S+) UTC", text) for text in (before, document)]
    assert said[0] is not None
    assert said[1] is not None
    assert said[1][1] > said[0][1]
    assert 'class="stale"' not in document
    assert re.search("<title>CRITICAL · mark", document)
    assert "&lt;iframe&gt;" in document
    assert "<iframe" not in document
