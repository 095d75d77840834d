"""Tests that crash by themselves, in a worker of xdist or a forked child: every report has them."""

from __future__ import annotations

import json

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.usefixtures("only_this_plugin")

SUITE = """
import os

def test_crashes():
    x = b"1" * (60 << 20)
    os._exit(3)

def test_after(): pass
"""


@pytest.mark.parametrize(
    ("how", "worker", "said"),
    [
        ("--amm-isolate", "", "the isolated test ended with exit code 3 before it could report"),
        ("-n1", "gw0", "worker 'gw0' crashed while running 'test_it.py::test_crashes'"),
    ],
)
def test_a_test_that_crashes_stands_in_every_report(
    pytester: pytest.Pytester, how: str, worker: str, said: str
) -> None:
    pytester.makepyfile(test_it=SUITE)
    options = ("--amm-json=r.json", "--amm-html=r.html", "--junitxml=j.xml")
    result = pytester.runpytest_subprocess("--amm-budget=500MB", how, *options)
    assert result.parseoutcomes() == {"failed": 1, "passed": 1}
    document = json.loads((pytester.path / "r.json").read_text())
    crashed, after = document["tests"]
    assert (document["summary"]["tests"], document["summary"]["over_budget"]) == (2, 0)
    assert [crashed[key] for key in ("nodeid", "outcome", "worker", "file", "line", "breach")] == [
        "test_it.py::test_crashes", "failed", worker, "test_it.py", 3, None,
    ]  # fmt: skip
    assert said in crashed["message"]
    assert 0 < crashed["start_seconds"] < crashed["start_seconds"] + crashed["seconds"] < after["start_seconds"]
    assert "test_it.py::test_crashes" in (pytester.path / "r.html").read_text()
    if worker:  # nobody saw its peak
        assert crashed["phases"] == []
    else:  # the kernel tells its parent
        assert 59 << 20 < crashed["growth_bytes"] < 64 << 20
        assert f'value="{crashed["peak_bytes"]}"' in (pytester.path / "j.xml").read_text()
