"""What README shows is what happens: every block is run, and the excerpts are held against real output."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent
NUMBER = re.compile(r"-?\d+(\.\d+)?( ([KMG]i)?B\b)?")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def excerpt(marker: str) -> list[str]:
    found = re.search(rf"<!-- {marker}:.*?-->\n```\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert found, f"README has no block marked {marker}"
    return found[1].splitlines()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    theirs = ("AMM_", "OTEL_", "PYTEST_", "CI", "BUILD_NUMBER")  # pytest cuts no line on CI
    kept = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    return {**kept, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "80", **more}


def scrape(port: int, deadline_seconds: float = 20) -> str:
    until = time.monotonic() + deadline_seconds
    while True:
        try:
            with urllib.request.urlopen(f"http://localhost:{port}/metrics", timeout=5) as answer:
                text = str(answer.read().decode())
            if "amm_memory_tier " in text:
                return text
        except OSError:
            if time.monotonic() > until:
                raise
        time.sleep(0.1)


def series(line: str) -> str:
    return line.rpartition(" ")[0]


@pytest.mark.parametrize("command", [line for block in blocks("sh") for line in block.splitlines()])
def test_command_serves_every_series_of_the_scrape_excerpt(command: str) -> None:
    port = free_port()
    arguments = shlex.split(command.replace("8000", str(free_port())))
    program = subprocess.Popen(
        arguments, cwd=ROOT, env=environment(OTEL_EXPORTER_PROMETHEUS_PORT=str(port)), stdout=subprocess.PIPE
    )
    try:
        shown = {series(line) for line in scrape(port).splitlines()}
    finally:
        program.terminate()
        program.communicate(timeout=20)
    expected = {series(line) for line in excerpt("scrape") if 'generation="2"' not in line}
    assert expected <= shown


def test_pytest_excerpt_is_the_real_output() -> None:
    command, *lines = excerpt("pytest")
    arguments = [sys.executable, "-m", *shlex.split(command.removeprefix("$ "))]
    done = subprocess.run(arguments, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    shown = [normalised(line) for line in done.stdout.splitlines()]
    missing = [line for line in lines if normalised(line) not in shown]
    assert not missing, done.stdout


def normalised(line: str) -> str:
    """Without what differs from run to run: numbers and sizes, padding, the length of bars, where a line is cut."""
    uncut = re.sub(r" \S*\s?\S*\.\.\.$", "", line)
    return re.sub(r"\s+", " ", NUMBER.sub("N", re.sub(r"[█▉▊▋▌▍▎▏]+", "", uncut))).strip(" =_")


@pytest.mark.parametrize("code", blocks("python"))
def test_python_block_runs(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_adaptive_batches_example_runs() -> None:
    done = subprocess.run(
        [sys.executable, "examples/adaptive_batches.py"], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"100000 rows; tier [A-Z]+, batch size \d+\n", done.stdout)


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    targets = re.findall(r"^    make (\w+)", README, re.MULTILINE)
    assert targets == ["demo", "test"]
    for target in targets:
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
