"""Short peaks, and memory that a test takes again from the free heap: what a look now and then would miss."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.usefixtures("only_this_plugin")
MB = 1 << 20


def measured(pytester: pytest.Pytester, *arguments: str) -> tuple[dict[str, dict[str, Any]], pytest.RunResult]:
    result = pytester.runpytest_subprocess("--amm-json=report.json", *arguments)
    tests = json.loads((pytester.path / "report.json").read_text())["tests"]
    return {test["nodeid"].partition("::")[2]: test for test in tests}, result


def test_thirty_of_thirty_spikes_of_20_ms_are_seen_within_a_megabyte(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import mmap, pytest, time
        @pytest.mark.parametrize("number", range(30))
        def test_spike(number):
            spike = mmap.mmap(-1, 64 << 20)
            spike.write(b"1" * (1 << 20) * 64) if number % 2 else [
                spike.__setitem__(page, 1) for page in range(0, len(spike), mmap.PAGESIZE)]
            time.sleep(0.02)
            spike.close()
        """
    )
    tests, _ = measured(pytester)
    expected = [128 * MB if number % 2 else 64 * MB for number in range(30)]  # written from a copy, or page by page
    grown = [tests[f"test_spike[{number}]"]["growth_bytes"] for number in range(30)]
    assert [size for size, wanted in zip(grown, expected, strict=True) if abs(size - wanted) > MB] == []


HEAP = """
    kept = []

    def blocks():
        return [b"%1000d" % 1 * 4 for _ in range(16 << 10)]  # 64 MiB of malloc's, each too small for a mapping

    def test_before(): pass

    def test_frees():
        all_blocks = blocks()
        kept.append(all_blocks[-1])  # the end of the heap stays in use: nothing goes back to the system

    def test_takes_it_again():
        assert len(blocks()) == 16 << 10
"""


def test_memory_taken_again_from_the_free_heap_is_shown_as_slack(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(HEAP)
    tests, result = measured(pytester)
    before, frees, again = (tests[name] for name in ("test_before", "test_frees", "test_takes_it_again"))
    assert frees["growth_bytes"] > 60 * MB
    assert again["growth_bytes"] < 16 * MB, "it took the heap that lay free"
    assert before["slack_bytes"] < 16 * MB
    assert 56 * MB < again["slack_bytes"] <= again["peak_bytes"]
    result.stdout.re_match_lines([r"slack: up to 6\d[\d.]* MiB of free heap could be taken again .*"])


def test_a_failure_tells_the_slack(pytester: pytest.Pytester) -> None:
    more = "\n    @pytest.mark.amm_budget('32MB')\n    def test_more():\n        both = blocks(), blocks()\n"
    pytester.makepyfile("    import pytest\n" + HEAP + more)
    _, result = measured(pytester, "--amm-on-breach=fail", "-k", "frees or more")
    result.stdout.re_match_lines([r"  slack    6\d[\d.]* MiB of free heap was resident already and could be used .*"])


def test_the_tree_had_no_less_than_its_highest_test(pytester: pytest.Pytester) -> None:
    """Samples come ten times a second far from a budget: they miss what the kernel's mark has."""
    pytester.makepyfile(test_it="def test_spike(): bytearray(60 << 20)")
    measured(pytester)
    document = json.loads((pytester.path / "report.json").read_text())
    assert document["summary"]["tree_peak_bytes"] >= document["summary"]["peak_bytes"] > 60 << 20
