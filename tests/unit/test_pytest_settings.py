"""Options of the pytest plugin: every accepted form, every refusal with its full text."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from amm_exporter.export.test_results import DESTINATIONS
from amm_exporter.policy.keys import KEYS, environment_variable
from amm_exporter.policy.load import PYTEST_VARIABLES
from pytest_amm.budget import DirectoryBudget
from pytest_amm.options import OPTIONS, _ini, check_variables
from pytest_amm.parsers import EXPORT_FORMS
from pytest_amm.settings import Settings, read

SIZES = "a size such as '512MB', '1.5 GiB' or a whole number of bytes (units: B KB MB GB TB, KiB MiB GiB TiB)"
RATIOS = "a ratio such as '85%' or 0.85"

EXPORTS = "a file ending in .prom, 'otlp', or the http(s) address of an OTLP receiver"


def test_nothing_asked_is_not_active() -> None:
    assert not read({}).active


def test_a_shade_alone_is_not_active() -> None:
    assert not read({"amm_on_breach": ("ini", "warn"), "amm_top": ("ini", "3")}).active


@pytest.mark.parametrize(
    ("name", "raw", "field", "value"),
    [
        ("amm_budget", "1536MB", "budget_bytes", 1536 * 1024**2),
        ("amm_budget", "1.5 GiB", "budget_bytes", 1536 * 1024**2),
        ("amm_budget", "1048576", "budget_bytes", 1048576),
        ("amm_test_budget", "64 kb", "test_budget_bytes", 65536),
        ("amm_on_breach", "Warn", "on_breach", "warn"),
        ("amm_peaks", True, "peaks", True),
        ("amm_peaks", "yes", "peaks", True),
        ("amm_peaks", "0", "peaks", False),
        ("amm_emergency", "90%", "emergency_ratio", 0.9),
        ("amm_emergency", "off", "emergency_ratio", None),
        ("amm_emergency_warn", "0.5", "emergency_warn_ratio", 0.5),
        ("amm_emergency_stall", "OFF", "emergency_stall_ratio", None),
        ("amm_top", "0", "top_count", 0),
        ("amm_export", " OTLP ", "export", "otlp"),
        ("amm_export", "http://localhost:4318/v1/metrics", "export", "http://localhost:4318/v1/metrics"),
        ("amm_export", "https://[::1]:4318/v1/metrics.prom", "export", "https://[::1]:4318/v1/metrics.prom"),
        ("amm_export", "out/unit.prom", "export", os.path.abspath("out/unit.prom")),
        ("amm_budget_for", ["./tests/a=1MB", "tests/b/ = 2MB"], "directories", (
            DirectoryBudget(path="tests/a", size_bytes=1 << 20),
            DirectoryBudget(path="tests/b", size_bytes=2 << 20),
        )),
        ("amm_budget_for", ["./a.py::test[b//c]=1MB"], "directories", (
            DirectoryBudget(path="a.py::test[b//c]", size_bytes=1 << 20),
        )),
        ("amm_budget_for", "a=1MB, b=2KB", "directories", (
            DirectoryBudget(path="a", size_bytes=1 << 20),
            DirectoryBudget(path="b", size_bytes=2048),
        )),
    ],
)  # fmt: skip
def test_accepted(name: str, raw: object, field: str, value: object) -> None:
    assert getattr(read({name: ("here", raw)}), field) == value


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("amm_budget", "1 MBananas", f"got '1 MBananas'; expected {SIZES}; unknown unit 'MBananas'"),
        ("amm_budget", "13MBs", f"got '13MBs'; expected {SIZES}; unknown unit 'MBs', did you mean 'MB'?"),
        ("amm_budget", "", f"got ''; expected {SIZES}"),
        ("amm_budget", "-1MB", f"got '-1MB'; expected {SIZES}; it cannot be negative"),
        ("amm_budget", "0MB", f"got '0MB'; expected {SIZES}, more than zero"),
        ("amm_budget", "nan", f"got 'nan'; expected {SIZES}"),
        ("amm_budget", "1e9", f"got '1e9'; expected {SIZES}"),
        ("amm_budget", "9" * 30, f"got '{'9' * 30}'; expected {SIZES}; it is larger than 2**63 - 1 bytes"),
        (
            "amm_budget",
            "1536",
            f"got '1536'; expected {SIZES}, at least 1MB for the whole session; "
            "write '1536MB' if megabytes are meant",
        ),
        ("amm_test_budget", "1.5", f"got '1.5'; expected {SIZES}; write '1.5MB' if megabytes are meant"),
        ("amm_on_breach", "stopp", "got 'stopp'; expected stop, fail or warn; did you mean 'stop'?"),
        ("amm_on_breach", "zzz", "got 'zzz'; expected stop, fail or warn; accepted: stop, fail, warn"),
        ("amm_peaks", "treu", "got 'treu'; expected true or false; did you mean 'true'?"),
        ("amm_emergency", "85", f"got '85'; expected {RATIOS} between 0% and 100%, or 'off'; "
            "write '85%' if a percentage is meant"),
        ("amm_emergency", "offf", f"got 'offf'; expected {RATIOS}, or 'off'; did you mean 'off'?"),
        ("amm_emergency_warn", "0", f"got '0'; expected {RATIOS}, more than zero"),
        ("amm_top", "ten", "got 'ten'; expected a whole number from 0 to 999999"),
        ("amm_json", "", "got ''; expected the name of a file"),
        ("amm_json", ".", "got '.'; expected the name of a file; it is a directory"),
        ("amm_html", "missing/..", "got 'missing/..'; expected the name of a file; it is a directory"),
        ("amm_export", "results.txt", f"got 'results.txt'; expected {EXPORTS}"),
        ("amm_export", "otpl", f"got 'otpl'; expected {EXPORTS}; did you mean 'otlp'?"),
        ("amm_export", "ftp://host/a.prom", f"got 'ftp://host/a.prom'; expected {EXPORTS}"),
        ("amm_export", "http://", f"got 'http://'; expected {EXPORTS}"),
        ("amm_export", "http://a b", f"got 'http://a b'; expected {EXPORTS}"),
        ("amm_compare", ["nowhere.json"],
            "got 'nowhere.json'; expected an existing JSON report, as --amm-json writes it"),
        ("amm_budget_for", ["tests/unit"], "got 'tests/unit'; expected DIR=SIZE such as 'tests/unit=64MB'"),
        ("amm_budget_for", ["../a=1MB"], "got '../a'; expected a directory or file below the rootdir, as 'tests/unit'"),
        ("amm_budget_for", ["/a=1MB"], "got '/a'; expected a directory or file below the rootdir, as 'tests/unit'"),
        ("amm_budget_for", ["=1MB"], "got '=1MB'; expected DIR=SIZE such as 'tests/unit=64MB'"),
        ("amm_budget_for", ["a=1MX"], f"got '1MX'; expected {SIZES}; unknown unit 'MX'"),
    ],
)  # fmt: skip
def test_refused_with_the_source_and_the_full_text(name: str, raw: object, message: str) -> None:
    with pytest.raises(pytest.UsageError) as caught:
        read({name: ("--the-source", raw)})
    assert str(caught.value) == f"--the-source: {message}"


def test_to_export_means_to_measure() -> None:
    assert read({"amm_export": ("flag", "otlp")}).active


def test_the_exporter_itself_names_the_same_destinations() -> None:
    assert EXPORT_FORMS == DESTINATIONS


def test_growth_needs_a_report_to_compare_with() -> None:
    with pytest.raises(pytest.UsageError) as caught:
        read({"amm_fail_growth": ("AMM_FAIL_GROWTH", "10%")})
    assert str(caught.value) == "AMM_FAIL_GROWTH: needs a report to compare with: add --amm-compare BASE.json"


def test_two_reports_do_not_go_to_one_file() -> None:
    with pytest.raises(pytest.UsageError) as caught:
        read({"amm_json": ("--amm-json", "out/it"), "amm_html": ("AMM_HTML", "out/../out/it")})
    path = os.path.abspath("out/it")
    assert str(caught.value) == f"AMM_HTML: --amm-json writes {path} too; give each a file of its own"


def test_the_warning_comes_before_the_stop() -> None:
    with pytest.raises(pytest.UsageError) as caught:
        read({"amm_emergency": ("flag", "70%"), "amm_emergency_warn": ("ini", "75%")})
    assert str(caught.value) == "ini: 75% is above the emergency stop at 70%; the warning has to come first"


def test_a_low_emergency_brings_its_default_warning_down_with_it() -> None:
    assert read({"amm_emergency": ("flag", "70%")}).emergency_warn_ratio == 0.7


def test_a_warning_alone_is_watched_for_also_where_the_stop_is_off() -> None:
    assert read({"amm_emergency_warn": ("flag", "50%")}).active
    off = read({"amm_emergency": ("flag", "off"), "amm_emergency_warn": ("flag", "90%")})
    assert (off.active, off.emergency_ratio, off.emergency_warn_ratio) == (True, None, 0.9)
    assert read({"amm_emergency": ("flag", "off")}).emergency_warn_ratio is None


def test_with_each_trigger_off_the_machine_is_not_watched() -> None:
    off = {"amm_emergency": ("flag", "off"), "amm_emergency_stall": ("flag", "off")}
    assert not read(off).watches_host
    assert read({"amm_emergency": ("flag", "off")}).watches_host  # stalls are
    assert read({}).watches_host


def test_every_option_has_a_parser_and_a_field() -> None:
    fields = set(Settings.__dataclass_fields__)
    suffixes = ("", "_bytes", "_ratio", "_path", "_paths", "_count")
    for option in OPTIONS:
        stem = option.name.removeprefix("amm_")
        assert stem == "budget_for" or fields & {stem + suffix for suffix in suffixes}, option.name


def test_every_variable_of_the_plugin_is_known_to_the_policy() -> None:
    """Else a program run by tests that have a budget would call AMM_TEST_BUDGET an unknown variable."""
    of_the_policy = {environment_variable(key) for key in KEYS}
    assert {option.variable for option in OPTIONS} - of_the_policy <= PYTEST_VARIABLES


def test_an_ini_value_of_another_type_is_one_line() -> None:
    """Some versions of pytest say it themselves; others raise TypeError."""

    def refuses(name: str) -> object:
        raise TypeError(f"'{name}' expects a string, got int: 512")

    config = SimpleNamespace(getini=refuses, inipath=Path("pytest.toml"))
    with pytest.raises(pytest.UsageError) as caught:
        _ini(config, OPTIONS[0])  # type: ignore[arg-type]
    name = OPTIONS[0].name
    assert str(caught.value) == (
        f"{name} (pytest.toml): '{name}' expects a string, got int: 512; write it as a string in quotes"
    )


@pytest.mark.parametrize(
    ("name", "meant"),
    [("AMM_BUGET", "AMM_BUDGET"), ("AMM_TESTBUDGET", "AMM_TEST_BUDGET"), ("AMM_LEAK", "AMM_LEAKS")],
)
def test_a_misspelt_variable_is_refused(name: str, meant: str) -> None:
    with pytest.raises(pytest.UsageError, match=f"{name}: unknown variable; did you mean '{meant}'"):
        check_variables({name: "1GB"})


def test_variables_of_the_policy_and_of_others_are_left_alone() -> None:
    check_variables({"AMM_LIMIT": "1GB", "AMM_TIERS_HIGH": "80%", "AMM_WEB_CONFIG": "x", "AMM_HOME": "x"})
    check_variables(dict.fromkeys((option.variable for option in OPTIONS), "x"))
