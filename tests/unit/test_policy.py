"""From defaults, file, environment and flags to one policy. What is refused, and how, is in test_policy_messages."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amm_exporter.errors import PolicyError
from amm_exporter.model import RAISED_TIERS, Tier
from amm_exporter.policy import KEYS, Policy, Threshold, environment_variable, load_policy
from amm_exporter.units import GIB, MIB


def load(given: object = None, **environ: str) -> Policy:
    """A policy of this file, or of this environment, and of nothing else on the machine."""
    return load_policy(given if given is not None else {}, environ=environ)  # type: ignore[arg-type]


def test_every_key_has_a_default_that_it_accepts_itself() -> None:
    policy = load()
    assert policy.settings.keys() == policy.sources.keys() == KEYS.keys()
    assert set(policy.sources.values()) == {"default"}
    assert policy.limit_bytes is None
    assert policy.signal == "auto"
    assert policy.interval_seconds == 1.0
    assert policy.enter_ratios(GIB) == (0.6, 0.7, 0.8, 0.85)
    assert policy.hysteresis_ratio == 0.03
    assert policy.actions[Tier.SEVERE] == ("shrink_caches", "collect", "trim")
    assert policy.leak.min_slope_bytes_per_second == MIB / 3600


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_documented(key: str) -> None:
    assert KEYS[key].help.endswith((".", ")"))
    assert KEYS[key].accepts


def test_a_tier_that_the_plan_leaves_out_takes_the_value_below() -> None:
    policy = load({"plan": {"workers": {"normal": 10, "severe": 2}}})
    assert [policy.setting("workers", tier) for tier in Tier] == [10, 10, 10, 2, 2]


def test_a_plan_value_may_be_any_scalar() -> None:
    values = {"normal": 1.5, "moderate": "lazy", "high": False}
    assert [load({"plan": {"x": values}}).setting("x", tier) for tier in Tier] == [1.5, "lazy", False, False, False]


@pytest.mark.parametrize(
    ("written", "threshold", "text"),
    [
        ("60%", Threshold(ratio=0.6), "60%"),
        (0.6, Threshold(ratio=0.6), "60%"),
        ("0.6", Threshold(ratio=0.6), "60%"),
        ("512MB", Threshold(size_bytes=512 * MIB), "512 MiB"),
        ("1.5 gib ", Threshold(size_bytes=1536 * MIB), "1.5 GiB"),
        ("1.5x target", Threshold(multiple=1.5), "1.5x target"),
    ],
)
def test_a_threshold_is_a_ratio_a_size_or_a_multiple(written: object, threshold: Threshold, text: str) -> None:
    policy = load({"limit": "100GB", "target": "1GB", "hysteresis": 0, "tiers": tiers(critical=written)})
    assert policy.thresholds[Tier.CRITICAL] == threshold
    assert str(threshold) == text


def tiers(**given: object) -> dict[str, object]:
    return {"moderate": "0.1%", "high": "0.2%", "severe": "0.3%", **given}


def test_sizes_and_multiples_become_ratios_of_the_limit() -> None:
    levels = {"moderate": "50%", "high": "600MB", "severe": "1.5x target", "critical": "2GB"}
    policy = load({"target": "500MB", "tiers": levels})
    assert policy.enter_ratios(1000 * MIB) == (0.5, 0.6, 0.75, 2.048)


def test_mixed_thresholds_are_judged_under_the_limit_of_the_machine() -> None:
    policy = load({"tiers": {"moderate": "600MB"}})
    assert policy.enter_ratios(1200 * MIB)[0] == 0.5
    with pytest.raises(PolicyError, match=r"which is not below tiers.high = 70% \(default\) under a limit of 800 MiB"):
        policy.enter_ratios(800 * MIB)


def test_a_gap_as_wide_as_the_hysteresis_is_accepted() -> None:
    assert load({"hysteresis": "5%"}).hysteresis_ratio == 0.05


# -- where it comes from


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "deep" / "down").mkdir(parents=True)
    return tmp_path


def test_the_nearest_file_upwards_is_read(project: Path) -> None:
    (project / "amm.yaml").write_text("limit: 1GB\n")
    assert load_policy(environ={}, directory=project / "deep" / "down").limit_bytes == GIB
    (project / "deep" / "amm.yaml").write_text("limit: 2GB\n")
    policy = load_policy(environ={}, directory=project / "deep" / "down")
    assert policy.limit_bytes == 2 * GIB
    assert policy.sources["limit"] == str(project / "deep" / "amm.yaml")


def test_a_pyproject_counts_when_it_has_the_table(project: Path) -> None:
    (project / "deep" / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    (project / "pyproject.toml").write_text("[tool.amm]\nlimit = '3GB'\n[tool.amm.tiers]\nhigh = 0.75\n")
    policy = load_policy(environ={}, directory=project / "deep")
    assert (policy.limit_bytes, policy.thresholds[Tier.HIGH]) == (3 * GIB, Threshold(ratio=0.75))
    assert policy.sources["tiers.high"] == f"{project / 'pyproject.toml'} [tool.amm]"


@pytest.mark.parametrize(("name", "text"), [("a.yaml", ""), ("b.yaml", "# nothing\n"), ("c.toml", "tool = 5\n")])
def test_a_file_without_keys_is_an_empty_policy(project: Path, name: str, text: str) -> None:
    (project / name).write_text(text)
    assert load_policy(project / name, environ={}).settings == load().settings


@pytest.mark.parametrize("variable", ["AMM_CONFIG", "OTEL_PYTHON_AMM_CONFIG"])
def test_the_environment_may_name_the_file(project: Path, variable: str) -> None:
    (project / "other.yaml").write_text("limit: 1GB\n")
    (project / "amm.yaml").write_text("limit: 2GB\n")
    named = load_policy(environ={variable: str(project / "other.yaml")}, directory=project)
    assert named.limit_bytes == GIB
    assert load_policy(environ={variable: ""}, directory=project).limit_bytes == 2 * GIB


def test_a_file_named_in_the_call_wins_over_the_environment(project: Path) -> None:
    (project / "given.yaml").write_text("limit: 1GB\n")
    assert load_policy(project / "given.yaml", environ={"AMM_CONFIG": "nowhere.yaml"}).limit_bytes == GIB


def test_later_layers_win_and_are_named() -> None:
    def limit(environ: Mapping[str, str], flags: Mapping[str, object]) -> tuple[int | None, str]:
        policy = load_policy({"limit": "1GB"}, environ=environ, flags=flags)
        return policy.limit_bytes, policy.sources["limit"]

    assert limit({}, {}) == (GIB, "policy")
    assert limit({"AMM_LIMIT": "2GB"}, {}) == (2 * GIB, "environment variable AMM_LIMIT")
    assert limit({"AMM_LIMIT": "2GB"}, {"limit": "3GB"}) == (3 * GIB, "flag --limit")


def test_a_flag_of_opentelemetry_instrument_is_a_variable_that_gives_way_to_the_plain_one() -> None:
    assert load(OTEL_PYTHON_AMM_BUDGET="1536MB").budget_bytes == 1536 * MIB
    assert load(AMM_BUDGET="1GB", OTEL_PYTHON_AMM_BUDGET="2GB").budget_bytes == GIB
    assert load(OTEL_PYTHON_AMM_BUDGET="2GB", AMM_BUDGET="1GB").budget_bytes == GIB


@pytest.mark.parametrize("key", KEYS)
def test_every_key_has_a_variable(key: str) -> None:
    default = KEYS[key].default
    text = ", ".join(default) if isinstance(default, list) else str(default)
    policy = load(**{environment_variable(key): text})
    assert policy.sources[key] == f"environment variable {environment_variable(key)}"


def test_a_mapping_in_a_variable_or_a_flag_is_yaml_on_one_line() -> None:
    text = "{workers: {normal: 4, high: 2}}"
    assert load(AMM_PLAN=text).setting("workers", Tier.HIGH) == 2
    assert load_policy({}, environ={}, flags={"plan": text}).setting("workers", Tier.HIGH) == 2


def test_variables_of_the_pytest_options_are_not_ours_to_judge() -> None:
    assert load(AMM_TEST_BUDGET="64MB", AMM_ON_BREACH="stop").settings == load().settings


def test_a_ready_policy_is_taken_as_it_is() -> None:
    policy = load()
    assert load_policy(policy, environ={"AMM_LIMIT": "nonsense"}) is policy


def test_a_deleted_working_directory_has_no_policy_file(tmp_path: Path) -> None:
    code = (
        "import os, sys; os.mkdir(sys.argv[1]); os.chdir(sys.argv[1]); os.rmdir(sys.argv[1])\n"
        "from amm_exporter.policy import load_policy; print(load_policy().sources['limit'])"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AMM_")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "gone")], capture_output=True, text=True, check=False, env=environ
    )
    assert (done.stdout, done.stderr) == ("default\n", "")


# -- properties

RATIOS = st.lists(st.integers(1, 100), min_size=4, max_size=4)


@given(ratios=RATIOS, hysteresis=st.integers(0, 100))
def test_a_policy_is_accepted_exactly_when_its_tiers_are_in_order_and_apart(ratios: list[int], hysteresis: int) -> None:
    levels = {tier.label: f"{ratio}%" for tier, ratio in zip(RAISED_TIERS, ratios, strict=True)}
    gaps = [after - before for before, after in itertools.pairwise(ratios)]
    usable = ratios[0] > hysteresis and all(gap > 0 and gap >= hysteresis for gap in gaps)
    try:
        policy = load({"tiers": levels, "hysteresis": f"{hysteresis}%"})
    except PolicyError:
        assert not usable
    else:
        assert usable
        assert policy.enter_ratios(GIB) == tuple(ratio / 100 for ratio in ratios)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


@given(key=st.sampled_from(sorted({*KEYS, "tiers", "actions", "leak", "gc", "anomaly", "nonsense"})), value=JSON)
def test_whatever_is_written_gives_a_policy_or_a_policy_error(key: str, value: object) -> None:
    try:
        assert load({key: value}).sources
    except PolicyError as error:
        assert error.source == "policy"  # noqa: PT017 - both outcomes are fine
