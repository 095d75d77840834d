"""The page in a real Chromium: charts are drawn, nothing is refused or fails, and it reads without script too."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

FIXTURES = Path(__file__).parent.parent / "fixtures"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--window-size=1280,1500",
    "--enable-logging=stderr", "--virtual-time-budget=5000",
)  # fmt: skip


@pytest.fixture(scope="module")
def url():
    program = subprocess.Popen(
        [sys.executable, str(FIXTURES / "page_program.py"), "0", "40"], stdout=subprocess.PIPE, text=True
    )
    try:
        port = int(program.stdout.readline())
        time.sleep(3)
        yield f"http://127.0.0.1:{port}/"
    finally:
        program.kill()
        program.communicate()


def browse(url: str, folder: Path, *flags: str) -> tuple[str, str]:
    """The document after its scripts have run, and what the browser had to say."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
    result = subprocess.run(
        [chromium, *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, url],
        capture_output=True,
        text=True,
        timeout=90,
    )
    return result.stdout, "\n".join(line for line in result.stderr.splitlines() if "CONSOLE" in line)


def test_charts_are_drawn_and_the_console_is_silent(url, tmp_path):
    document, console = browse(url, tmp_path, "--dump-dom")
    assert console == ""
    assert len(re.findall(r'<div class="uplot', document)) == 2
    assert len(re.findall("<canvas", document)) == 2
    assert 'class="stale"' not in document
    assert re.search(r"<title>[A-Z]+ · checkout</title>", document)


def test_it_is_refreshed_by_itself(url, tmp_path):
    with urllib.request.urlopen(url) as response:
        before = response.read().decode()
    time.sleep(1.2)
    document, _ = browse(url, tmp_path, "--dump-dom")
    up = [re.search(r"up ([\d.]+)s", text)[1] for text in (before, document)]
    assert float(up[1]) > float(up[0])


def test_before_any_script_every_number_is_there(url):
    with urllib.request.urlopen(url) as response:
        document = response.read().decode()
    for said in ("checkout", "Resident", "400 MiB", "Garbage collection pauses", "What AMM itself costs"):
        assert said in document


def test_light_and_dark_differ(url, tmp_path):
    pictures = []
    for scheme in ("1", "0"):
        picture = tmp_path / f"{scheme}.png"
        browse(url, tmp_path / scheme, f"--screenshot={picture}", f"--blink-settings=preferredColorScheme={scheme}")
        pictures.append(picture.read_bytes())
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert pictures[0] != pictures[1]
