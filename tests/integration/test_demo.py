"""`amm demo`: a job that shows where to look, moves the tier, and ends by itself."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from programs import AMM, clean_environ, get, line, running

DEMO = (AMM, "demo", "--port", "0", "--seconds")


def test_it_tells_where_to_look_and_ends_with_a_summary() -> None:
    with running([*DEMO, "4"]) as demo:
        told = [line(demo.stdout) for _ in range(4)]
        urls = dict(re.findall(r"(metrics|page): +(http://localhost:\d+/\S*)", "\n".join(told)))
        assert "amm_memory_tier" in get(urls["metrics"])
        assert "<html" in get(urls["page"])
        out, err = demo.communicate(timeout=60)
    assert (demo.returncode, err) == (0, "")
    lines = out.splitlines()
    row = re.compile(r" +\d+s [A-Z]+ +█[█·|]+  +[\d.]+% +[\d.]+ MiB  \d+ cached, \d+% hits")
    assert any(row.fullmatch(line) for line in lines), out
    assert re.fullmatch(r"AMM's own cost: [\d.]+ms of CPU for its samples, [\d.]+% of a core", lines[-2])
    assert lines[-1] == "the same with a leak that no plan helps: amm demo --leak"


def test_a_terminal_without_these_characters_gets_plain_ones() -> None:
    with running([*DEMO, "2"], environ=clean_environ(PYTHONIOENCODING="ascii")) as demo:
        out, err = demo.communicate(timeout=60)
    assert (demo.returncode, err) == (0, "")
    assert re.search(r"^ +\d+s [A-Z]+ +#+\.+\|\.\.\.\|", out, re.MULTILINE)


def test_a_leak_is_not_called_one_while_it_may_be_a_start() -> None:
    with running([*DEMO, "2", "--leak"]) as demo:
        out, err = demo.communicate(timeout=60)
    assert (demo.returncode, err) == (0, "")
    assert re.search(r", [1-9]\d* leaked$", out, re.MULTILINE)
    assert "no leak is certain yet: for the first forty seconds a start looks the same" in out
    assert "amm demo --leak" not in out.splitlines()[-1]


@pytest.mark.slow
def test_the_leak_is_named_with_its_slope_type_holder_and_line_within_the_default_minute() -> None:
    with running([AMM, "demo", "--port", "0", "--leak"]) as demo:
        out, err = demo.communicate(timeout=120)
    assert (demo.returncode, err) == (0, "")
    summary = out[out.index("looked up") :]
    assert re.search(r"^a leak, known after \d\ds: rss grows by [\d.]+ GiB/h \([\d.]+ GiB/h to ", summary, re.MULTILINE)
    receipt = "amm_exporter.cli.workload.Receipt"
    assert re.search(rf"^  type     {re.escape(receipt)}, [\d.]+ MiB in ", summary, re.MULTILINE)
    assert "  kept by  module amm_exporter.cli.workload -> dict -> list -> Receipt\n" in summary
    (site,) = re.findall(r"^  line     (\S+):(\d+), [\d.]+ MiB in 2s$", summary, re.MULTILINE)
    assert "RECEIPTS.append(" in Path(site[0]).read_text().splitlines()[int(site[1]) - 1]


def test_ctrl_c_ends_it_with_the_summary() -> None:
    with running([*DEMO, "60"]) as demo:
        assert any("cached" in line(demo.stdout) for _ in range(20))
        demo.send_signal(signal.SIGINT)
        out, err = demo.communicate(timeout=20)
    assert (demo.returncode, err) == (0, "")
    assert "stopped by Ctrl-C" in out
    assert "time in tiers: " in out
