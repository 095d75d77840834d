"""Options as they reach the plugin through pytest's own parsing, by flag, ini file and variable."""

from __future__ import annotations

import os
import random

import pytest

from pytest_amm import options
from pytest_amm.options import OPTIONS, Option
from pytest_amm.settings import read

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.usefixtures("only_this_plugin")

PIECES = (*"10%=:, \nxé'{", "-1", "1.5", "nan", "MB", "85", "off", "true", '"', "}", "%s")
COUNTS = (3, pytest.param(100, marks=pytest.mark.slow))


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
@pytest.mark.parametrize("way", ["flag", "ini", "variable"])
def test_any_text_is_taken_or_refused_in_one_line(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, option: Option, way: str, count: int
) -> None:
    chance = random.Random(option.name + way)
    for _ in range(count):
        text = "".join(chance.choices(PIECES, k=chance.randint(0, 4)))
        if way == "variable":
            monkeypatch.setenv(option.variable, text)
        arguments = {"flag": [f"{option.flag}={text}"], "ini": ["-o", f"{option.name}={text}"], "variable": []}[way]
        told = ""
        try:
            read(options.asked(pytester.parseconfig(*arguments)))
        except pytest.UsageError as error:
            told = str(error)
        if way == "flag" and option.kind == "bool":
            assert "ignored explicit argument" in told  # pytest's own words: a switch has no value there
        else:
            assert len(told.splitlines()) <= 1


@pytest.mark.parametrize("flag", ["--amm-json", "--amm-html"])
def test_a_report_that_cannot_be_written_is_refused_before_the_tests(pytester: pytest.Pytester, flag: str) -> None:
    pytester.makepyfile(test_it="def test_it(): pass")
    for path in ("9" * 400, os.devnull, ".", "test_it.py/x"):
        result = pytester.runpytest_inprocess(f"{flag}={path}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR, path
        assert [line.partition(":")[0] for line in result.errlines if line] == ["ERROR"]
        assert flag in result.stderr.str()


def test_the_directory_of_a_report_is_made(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    assert pytester.runpytest_subprocess("--amm-json=a/b/r.json", "--amm-html=c/r.html").ret == 0
    assert (pytester.path / "a/b/r.json").stat().st_size > 100
    assert (pytester.path / "c/r.html").stat().st_size > 100


def test_a_report_behind_a_link_leaves_the_link(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    (pytester.path / "link.json").symlink_to("real.json")
    assert pytester.runpytest_subprocess("--amm-json=link.json").ret == 0
    assert (pytester.path / "link.json").is_symlink()
    assert '"complete": true' in (pytester.path / "real.json").read_text()


def test_a_marker_that_takes_no_argument_says_so(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.amm_isolate(True)\ndef test_it(): pass\n")
    result = pytester.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *::test_it: @pytest.mark.amm_isolate: takes no argument"])


def test_hard_holds_the_budget_of_a_marker(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.amm_budget('64MB')\ndef test_it(): bytearray(1 << 30)\n")
    result = pytester.runpytest_subprocess("--amm-hard")
    assert result.parseoutcomes() == {"failed": 1}
    result.stdout.fnmatch_lines(["refused in call: an allocation that would pass the budget of 64 MiB"])
    result.stdout.no_fnmatch_line("*has no budget to hold*")


def test_hard_without_any_budget_is_told_and_refuses_no_part_of_a_suite(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_inprocess("--amm-hard")
    assert result.parseoutcomes() == {"passed": 1}
    result.stdout.fnmatch_lines(["amm: --amm-hard has no budget to hold: add --amm-budget, *"])


def errors(result: pytest.RunResult) -> list[str]:
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    return [line for line in result.errlines if line.startswith("ERROR")]


def test_a_wrong_marker_is_one_line_with_xdist_too(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its workers tell nobody why they end, so xdist fails by an assertion of its own."""
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_amm.plugin,xdist.plugin")
    pytester.makepyfile("import pytest\n@pytest.mark.amm_budget('64Q')\ndef test_it(): pass")
    [told] = errors(pytester.runpytest_subprocess("-n2"))
    assert "test_it: @pytest.mark.amm_budget: got '64Q'" in told


def test_a_misspelt_marker_of_ours_is_refused(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.amm_bugdet('64MB')\ndef test_it(): pass")
    [told] = errors(pytester.runpytest_subprocess())
    assert told == "ERROR: @pytest.mark.amm_bugdet: unknown marker; did you mean 'amm_budget'?"


def test_a_misspelt_ini_key_of_ours_is_refused(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\namm_test_bugdet = 64MB")
    [told] = errors(pytester.runpytest_subprocess())
    assert told == "ERROR: amm_test_bugdet (tox.ini): unknown key; did you mean 'amm_test_budget'?"


def test_a_key_and_a_marker_of_others_that_begin_alike_are_left_alone(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\namm_dataset = small\nmarkers =\n  amm_slow")
    pytester.makepyfile("import pytest\n@pytest.mark.amm_slow\ndef test_it(): pass")
    assert pytester.runpytest_subprocess("--amm-peaks").ret == 0
