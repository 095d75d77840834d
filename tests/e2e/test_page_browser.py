"""The page in a real Chromium: charts are drawn, nothing is refused or fails, and it reads without script too."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from browser import browse

pytestmark = pytest.mark.e2e

FIXTURES = Path(__file__).parent.parent / "fixtures"


@contextmanager
def page_of(*arguments: str):
    command = [sys.executable, str(FIXTURES / "page_program.py"), "0", *arguments]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{int(program.stdout.readline())}/"
    finally:
        program.kill()
        program.communicate()


@pytest.fixture(scope="module")
def url():
    with page_of("40") as url:
        time.sleep(3)
        yield url


@pytest.fixture(scope="module")
def leaking_url():
    """Of a program that was found to leak, and followed until it was seen where it grows: takes about a minute."""
    with page_of("600", "leak") as url:
        until = time.monotonic() + 300
        while not ((status_of(url)["evidence"] or {}).get("growth")):
            assert time.monotonic() < until
            time.sleep(1)
        yield url


def status_of(url: str):
    with urllib.request.urlopen(f"{url}api/v1/status.json") as response:
        return json.load(response)


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


def test_the_evidence_of_a_leak_is_on_the_page_and_in_its_json(leaking_url):
    evidence = status_of(leaking_url)["evidence"]
    assert [row["series"] for row in evidence["series"]] == ["rss"]
    assert evidence["growth"]["origin"].startswith("small Python objects")
    assert "__main__.Order" in [row["name"] for row in evidence["growth"]["types"]]
    assert "prices" in [row["name"] for row in evidence["caches"]]
    assert evidence["mappings"][0]["name"] == "anonymous"
    with urllib.request.urlopen(leaking_url) as response:
        document = response.read().decode()
    assert len(document) <= 100_000
    for said in ("Evidence of the last leak", "rss leaks", "__main__.Order", "[heap]", "prices"):
        assert said in document
    for place in (str(FIXTURES), sys.prefix):
        assert place not in document
        assert place not in json.dumps(evidence)


def test_the_evidence_stays_where_the_page_refreshes_itself(leaking_url, tmp_path):
    document, console = browse(leaking_url, tmp_path, "--dump-dom")
    assert console == ""
    assert 'id="evidence"' in document
    assert 'class="stale"' not in document
