"""Every message that a policy file, the environment or a flag can bring about, with its full text."""

# ruff: noqa: E501 - a message is easier to compare on one line

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from amm_exporter.errors import PolicyError
from amm_exporter.policy import load_policy

# What is accepted, as messages say it.
SIZES = "a size such as '512MB', '1.5 GiB' or a whole number of bytes (units: B KB MB GB TB, KiB MiB GiB TiB)"
THRESHOLDS = f"a ratio such as '85%' or 0.85 up to 100%, {SIZES}, or a multiple such as '1.5x target'"
DURATIONS = "a duration such as '500ms', '1s', '5m' or '2h' (units: ms s m h d)"
ORDER = "the order is moderate < high < severe < critical"
ALL_VARIABLES = (
    "AMM_LIMIT, AMM_SIGNAL, AMM_BUDGET, AMM_TARGET, AMM_TIERS_MODERATE, AMM_TIERS_HIGH, "
    "AMM_TIERS_SEVERE, AMM_TIERS_CRITICAL, AMM_HYSTERESIS, AMM_INTERVAL, AMM_PLAN, "
    "AMM_ACTIONS_MODERATE, AMM_ACTIONS_HIGH, AMM_ACTIONS_SEVERE, AMM_ACTIONS_CRITICAL, "
    "AMM_LEAK_WINDOW, AMM_LEAK_CONFIDENCE, AMM_LEAK_MIN_SLOPE, AMM_LEAK_SERIES, AMM_EVIDENCE_DIRECTORY, AMM_EVIDENCE_CENSUS, AMM_GC_PROFILE, "
    "AMM_ANOMALY_DEVIATIONS, AMM_ANOMALY_FLOOR, AMM_ANOMALY_CEILING"
)
ALL_KEYS = (
    "limit, signal, budget, target, tiers.moderate, tiers.high, tiers.severe, tiers.critical, "
    "hysteresis, interval, plan, actions.moderate, actions.high, actions.severe, actions.critical, "
    "leak.window, leak.confidence, leak.min_slope, leak.series, evidence.directory, evidence.census, gc.profile, anomaly.deviations, anomaly.floor, "
    "anomaly.ceiling"
)
FACTORS = "a number above zero, as 4 or 1.1"
LONGER_THAN_ZERO = ", more than zero and at most 100 years"
YAML_TAG = "could not determine a constructor for the tag 'tag:yaml.org,2002:python/object:os.system'"

FILES = [
    ("limt: 4GB", "limt: unknown key; did you mean 'limit'?"),
    ("limit: 4 GBananas", f"limit: got '4 GBananas'; expected 'auto' or {SIZES}; unknown unit 'GBananas'"),
    ("limit: -1GB", f"limit: got '-1GB'; expected 'auto' or {SIZES}; it cannot be negative"),
    ("limit: 0", f"limit: got 0; expected 'auto' or {SIZES}; it must be more than zero"),
    ("limit: 1.5", f"limit: got 1.5; expected 'auto' or {SIZES}"),
    ("limit: .nan", f"limit: got nan; expected 'auto' or {SIZES}"),
    ("limit: 9000000TB", f"limit: got '9000000TB'; expected 'auto' or {SIZES}; it is larger than 2**63 - 1 bytes"),
    ("limit: true", f"limit: got True; expected 'auto' or {SIZES}"),
    ("limit: [1GB]", f"limit: got ['1GB']; expected 'auto' or {SIZES}"),
    ("limit: 2024-13-45", "not valid YAML: month must be in 1..12"),
    ("limit:", f"limit: got None; expected 'auto' or {SIZES}"),
    ("evidence: {directory: ''}", "evidence.directory: got ''; expected 'auto', 'none' or a directory"),
    ("evidence: {directory: 3}", "evidence.directory: got 3; expected 'auto', 'none' or a directory"),
    ("budget: lots", f"budget: got 'lots'; expected 'none' or {SIZES}"),
    ("budget: 0B", f"budget: got '0B'; expected 'none' or {SIZES}; it must be more than zero"),
    ("target: -5", f"target: got -5; expected 'none' or {SIZES}; a size cannot be negative"),
    ("signal: trees", "signal: got 'trees'; expected one of auto, process, tree, cgroup, host; did you mean 'tree'?"),
    ("signal: 5", "signal: got 5; expected one of auto, process, tree, cgroup, host"),
    ("tiers: 5", "tiers: expected a mapping with moderate, high, severe, critical"),
    ("tiers: {hihg: 70%}", "tiers.hihg: unknown key; did you mean 'tiers.high'?"),
    (
        "tiers: {normal: 5%}",
        "tiers.normal: unknown key; accepted: tiers.moderate, tiers.high, tiers.severe, tiers.critical",
    ),
    ("tiers: {high: 85}", f"tiers.high: got 85; expected {THRESHOLDS}; write '85%' if a percentage is meant"),
    ("tiers: {high: 120%}", f"tiers.high: got '120%'; expected {THRESHOLDS}"),
    ("tiers: {high: 0%}", f"tiers.high: got '0%'; expected {THRESHOLDS}; a threshold of 0 would always be in force"),
    ("tiers: {high: 0MB}", f"tiers.high: got '0MB'; expected {THRESHOLDS}; it must be more than zero"),
    ("tiers: {high: .nan}", f"tiers.high: got nan; expected {THRESHOLDS}"),
    ("tiers: {high: .inf}", f"tiers.high: got inf; expected {THRESHOLDS}"),
    ("tiers: {high: nan}", f"tiers.high: got 'nan'; expected {THRESHOLDS}"),
    ("tiers: {high: 12 XB}", f"tiers.high: got '12 XB'; expected {THRESHOLDS}; unknown unit 'XB', did you mean 'B'?"),
    ("tiers: {high: 2x limit}", f"tiers.high: got '2x limit'; expected {THRESHOLDS}"),
    ("tiers: {high: 0x target}", "tiers.high: got '0x target'; expected a multiple such as '1.5x target'"),
    ("tiers: {high: 2x target}", "tiers.high: got '2x target', but no target is set; add target, as 'target: 512MB'"),
    ("tiers: {high: [1]}", f"tiers.high: got [1]; expected {THRESHOLDS}"),
    (
        "tiers: {high: 85%, severe: 80%}",
        f"tiers.severe: got 80%, which is not above tiers.high = 85% (amm.yaml); {ORDER}",
    ),
    ("tiers: {moderate: 75%}", f"tiers.moderate: got 75%, which is not below tiers.high = 70% (default); {ORDER}"),
    ("tiers: {high: 80%}", f"tiers.high: got 80%, which is not below tiers.severe = 80% (default); {ORDER}"),
    (
        "limit: 1GB\ntiers: {high: 2GB}",
        f"tiers.high: got 2 GiB, which is not below tiers.severe = 80% (default) under a limit of 1 GiB; {ORDER}",
    ),
    (
        "hysteresis: 6%",
        "hysteresis: got 6%, wider than the gap of 5% between tiers.severe and tiers.critical; use at most 5% or move the tiers apart",
    ),
    ("hysteresis: 120%", "hysteresis: got '120%'; expected a ratio such as '85%' or 0.85 between 0% and 100%"),
    ("hysteresis: -1%", "hysteresis: got '-1%'; expected a ratio such as '85%' or 0.85; it cannot be negative"),
    (
        "hysteresis: 5.01%",
        "hysteresis: got 5.01%, wider than the gap of 5% between tiers.severe and tiers.critical; use at most 5% or move the tiers apart",
    ),
    (
        "tiers: {moderate: 2%}",
        "tiers.moderate: got 2%, not above the hysteresis of 3%: normal could never be entered again; raise it or lower the hysteresis",
    ),
    ("interval: 0s", f"interval: got '0s'; expected {DURATIONS}{LONGER_THAN_ZERO}"),
    ("interval: 5 parsecs", f"interval: got '5 parsecs'; expected {DURATIONS}; unknown unit 'parsecs'"),
    ("interval: 1ms", f"interval: got '1ms'; expected {DURATIONS}, at least 10ms"),
    ("interval: .inf", f"interval: got inf; expected {DURATIONS}{LONGER_THAN_ZERO}"),
    ("interval: 200000d", f"interval: got '200000d'; expected {DURATIONS}{LONGER_THAN_ZERO}"),
    ("plan: 5", "plan: got 5; expected a mapping such as {batch_size: {normal: 1000, high: 250}}"),
    ("plan: {1x: {normal: 1}}", "plan: got '1x'; expected a setting name of letters, digits and underscores"),
    ("plan: {x: 5}", "plan: got 5; expected a value for each tier, as x: {normal: 10, high: 5}"),
    ("plan: {x: {normal: 1, hihg: 2}}", "plan: got 'hihg'; expected a tier name in x; did you mean 'high'?"),
    (
        "plan: {x: {high: 2}}",
        "plan: got {'high': 2}; expected a value for 'normal' in x; the other tiers take the value of the tier below",
    ),
    ("plan: {x: {normal: [1]}}", "plan: got [1]; expected a number, a text or true/false"),
    ("plan: {x: {normal: .nan}}", "plan: got nan; expected a number, a text or true/false"),
    ("actions: {high: [colect]}", "actions.high: got 'colect'; expected an action; did you mean 'collect'?"),
    (
        "actions: {high: 5}",
        "actions.high: got 5; expected a list of actions such as [collect, trim]; known: collect, trim, shrink_caches, emergency",
    ),
    (
        "actions: {high: [5]}",
        "actions.high: got [5]; expected a list of actions such as [collect, trim]; known: collect, trim, shrink_caches, emergency",
    ),
    (
        "actions: {normal: []}",
        "actions.normal: unknown key; accepted: actions.moderate, actions.high, actions.severe, actions.critical",
    ),
    ("actions: [collect]", "actions: expected a mapping with moderate, high, severe, critical"),
    ("leak: {window: 0s}", f"leak.window: got '0s'; expected 'auto' or {DURATIONS}{LONGER_THAN_ZERO}"),
    ("leak: {window: soon}", f"leak.window: got 'soon'; expected 'auto' or {DURATIONS}"),
    (
        "leak: {confidence: 40%}",
        "leak.confidence: got '40%'; expected a confidence above 50% and below 100%, as '99%' or 0.99",
    ),
    (
        "leak: {confidence: 1}",
        "leak.confidence: got 1; expected a confidence above 50% and below 100%, as '99%' or 0.99",
    ),
    ("leak: {confidence: x}", "leak.confidence: got 'x'; expected a ratio such as '85%' or 0.85"),
    (
        "leak: {min_slope: 1MB}",
        "leak.min_slope: got '1MB'; expected a rate such as '1MB/h' (a size, '/', and s, m, h or d)",
    ),
    ("leak: {min_slop: 1MB/h}", "leak.min_slop: unknown key; did you mean 'leak.min_slope'?"),
    (
        "gc: {profile: adaptve}",
        "gc.profile: got 'adaptve'; expected one of adaptive, default; did you mean 'adaptive'?",
    ),
    ("anomaly: {deviations: 0}", f"anomaly.deviations: got 0; expected {FACTORS}"),
    ("anomaly: {floor: x}", f"anomaly.floor: got 'x'; expected {FACTORS}"),
    (
        "anomaly: {ceiling: 2}",
        "anomaly.ceiling: got 2; expected a ratio such as '85%' or 0.85 between 0% and 100%; write '2%' if a percentage is meant",
    ),
    ("anomaly: {floor: .nan}", f"anomaly.floor: got nan; expected {FACTORS}"),
    ("- a\n- b", "got list; expected keys, as 'limit: 4GB'"),
    ("limit: 1GB\nlimit: 2GB", "not valid YAML: 'limit' is given twice (line 2, column 1)"),
    ("a: &x 1\nb: *x", "not valid YAML: aliases are not accepted (line 2, column 4)"),
    ("limit: [", "not valid YAML: expected the node content, but found '<stream end>' (line 1, column 9)"),
    ("limit: !!python/object:os.system x", f"not valid YAML: {YAML_TAG} (line 1, column 8)"),
    (
        "\x00",
        'not valid YAML: unacceptable character #x0000: special characters are not allowed; in "<unicode string>", position 0',
    ),
    (
        "limit: 1GB\n---\nlimit: 2GB",
        "not valid YAML: expected a single document in the stream, but found another document (line 2, column 1)",
    ),
    ("just text", "got str; expected keys, as 'limit: 4GB'"),
    ("a: {b: 1", "not valid YAML: expected ',' or '}', but got '<stream end>' (line 1, column 9)"),
    ("? [1]\n: 2", "not valid YAML: found unhashable key (line 1, column 3)"),
]

VARIABLES = [
    ({"AMM_LIMT": "1"}, "environment variable AMM_LIMT: unknown variable; did you mean 'AMM_LIMIT'?"),
    ({"AMM_LIMIT": ""}, f"environment variable AMM_LIMIT: limit: got ''; expected 'auto' or {SIZES}"),
    ({"AMM_LIMIT": "x"}, f"environment variable AMM_LIMIT: limit: got 'x'; expected 'auto' or {SIZES}"),
    (
        {"AMM_TIERS_HIGH": "85"},
        f"environment variable AMM_TIERS_HIGH: tiers.high: got '85'; expected {THRESHOLDS}; write '85%' if a percentage is meant",
    ),
    (
        {"OTEL_PYTHON_AMM_BUDGET": "x"},
        f"environment variable OTEL_PYTHON_AMM_BUDGET: budget: got 'x'; expected 'none' or {SIZES}",
    ),
    (
        {"OTEL_PYTHON_AMM_X": "x"},
        f"environment variable OTEL_PYTHON_AMM_X: unknown variable; accepted: {ALL_VARIABLES}",
    ),
    (
        {"AMM_PLAN": "{"},
        "environment variable AMM_PLAN: plan: not valid YAML: expected the node content, but found '<stream end>' (line 1, column 2)",
    ),
    (
        {"AMM_PLAN": "5"},
        "environment variable AMM_PLAN: plan: got 5; expected a mapping such as {batch_size: {normal: 1000, high: 250}}",
    ),
    ({"AMM_CONFIG": "no.yaml"}, "no.yaml: no such file; name an existing one, or leave it out for the defaults"),
    ({"AMM_TIERS": "x"}, "environment variable AMM_TIERS: unknown variable; did you mean 'AMM_TIERS_HIGH'?"),
    (
        {"AMM_ACTIONS_HIGH": "colect"},
        "environment variable AMM_ACTIONS_HIGH: actions.high: got 'colect'; expected an action; did you mean 'collect'?",
    ),
    (
        {"AMM_HYSTERESIS": "9%"},
        "environment variable AMM_HYSTERESIS: hysteresis: got 9%, wider than the gap of 5% between tiers.severe and tiers.critical; use at most 5% or move the tiers apart",
    ),
    ({"AMM_ANOMALY_FLOOR": "x"}, f"environment variable AMM_ANOMALY_FLOOR: anomaly.floor: got 'x'; expected {FACTORS}"),
]

FLAGS = [
    ({"limit": "x"}, f"flag --limit: limit: got 'x'; expected 'auto' or {SIZES}"),
    ({"limt": "1"}, "flag --set limt: limt: unknown key; did you mean 'limit'?"),
    ({"tiers": "x"}, "flag --set tiers: tiers: expected a mapping with moderate, high, severe, critical"),
    ({"tiers.hihg": "x"}, "flag --set tiers.hihg: tiers.hihg: unknown key; did you mean 'tiers.high'?"),
    (
        {"plan": "{"},
        "flag --set plan: plan: not valid YAML: expected the node content, but found '<stream end>' (line 1, column 2)",
    ),
    ({"plan": "5"}, "flag --set plan: plan: got 5; expected a mapping such as {batch_size: {normal: 1000, high: 250}}"),
    ({"plan": "{a: 5}"}, "flag --set plan: plan: got 5; expected a value for each tier, as a: {normal: 10, high: 5}"),
    (
        {"hysteresis": "6%"},
        "flag --set hysteresis: hysteresis: got 6%, wider than the gap of 5% between tiers.severe and tiers.critical; use at most 5% or move the tiers apart",
    ),
    ({"": "x"}, f"flag --set : unknown key; accepted: {ALL_KEYS}"),
]


def message(directory: Path, *, file: str | None = None, environ: dict[str, str] | None = None, **more: object) -> str:
    """The text of the error; a file is written first, and named relatively as a user would."""
    if file is not None:
        (directory / "amm.yaml").write_text(file)
    with pytest.raises(PolicyError) as caught:
        load_policy("amm.yaml" if file is not None else None, environ=environ or {}, **more)  # type: ignore[arg-type]
    return str(caught.value)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("text", "problem"), FILES)
def test_a_wrong_file(here: Path, text: str, problem: str) -> None:
    assert message(here, file=text) == f"amm.yaml: {problem}"


@pytest.mark.parametrize(("environ", "text"), VARIABLES)
def test_a_wrong_environment(here: Path, environ: dict[str, str], text: str) -> None:
    assert message(here, environ=environ) == text


@pytest.mark.parametrize(("flags", "text"), FLAGS)
def test_a_wrong_flag(here: Path, flags: dict[str, str], text: str) -> None:
    assert message(here, flags=flags) == text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[tool.amm]\nlimt = 1\n", "pyproject.toml [tool.amm]: limt: unknown key; did you mean 'limit'?"),
        ("[tool]\namm = 5\n", "pyproject.toml [tool.amm]: got int; expected keys, as 'limit: 4GB'"),
        (
            "[tool.amm\n",
            "pyproject.toml: not valid TOML: Expected ']' at the end of a table declaration (at line 1, column 10)",
        ),
        ("x = " + "[" * 5000, "pyproject.toml: not valid TOML: nested too deeply"),
    ],
    ids=["unknown", "number", "syntax", "deep"],
)
def test_a_wrong_toml_file(here: Path, text: str, problem: str) -> None:
    (here / "pyproject.toml").write_text(text)
    with pytest.raises(PolicyError) as caught:
        load_policy("pyproject.toml", environ={})
    assert str(caught.value) == problem


def test_two_policies_in_one_directory(here: Path) -> None:
    (here / "amm.yaml").write_text("limit: 1GB\n")
    (here / "pyproject.toml").write_text("[tool.amm]\nlimit = '2GB'\n")
    found = (
        f"{here / 'pyproject.toml'}: tool.amm: {here / 'amm.yaml'} is there too; keep one, or name one by AMM_CONFIG"
    )
    assert message(here) == found


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("none.yaml", "none.yaml: no such file; name an existing one, or leave it out for the defaults"),
        (".", ".: cannot be read: Is a directory"),
        ("", ".: cannot be read: Is a directory"),
        ("binary.yaml", "binary.yaml: not UTF-8 text: invalid start byte at byte 7"),
        ("large.yaml", "large.yaml: larger than 1048576 bytes; is it a policy?"),
        ("deep.yaml", "deep.yaml: not valid YAML: nested too deeply"),
    ],
)
def test_a_file_that_cannot_be_read(here: Path, name: str, text: str) -> None:
    (here / "binary.yaml").write_bytes(b"limit: \xff")
    (here / "large.yaml").write_bytes(b"#" * 1048577)
    (here / "deep.yaml").write_text("[" * 1000)
    with pytest.raises(PolicyError) as caught:
        load_policy(name, environ={})
    assert str(caught.value) == text


def test_a_file_of_the_largest_size_is_read(here: Path) -> None:
    (here / "large.yaml").write_bytes(b"#" * 1048576)
    assert load_policy("large.yaml", environ={}).limit_bytes is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "limit: " + "1" * 5000),
        ("b.toml", "tool.amm.limit = " + "1" * 5000),
        ("c.yaml", "limit: 0x" + "f" * 5000),
        ("d.yaml", "hysteresis: 1" + "0" * 400),
        ("e.yaml", "interval: 1" + "0" * 400),
    ],
    ids=lambda value: value if len(value) < 10 else "",
)
def test_a_number_of_any_length_is_told_in_a_short_message(here: Path, name: str, text: str) -> None:
    """Python writes no integer beyond 4,300 digits, makes none from text, and no float beyond 309."""
    Path(name).write_text(text)
    with pytest.raises(PolicyError) as caught:
        load_policy(name, environ={})
    assert str(caught.value).startswith(f"{name}: ")
    assert len(str(caught.value)) < 350


@pytest.fixture
def secret(here: Path) -> None:
    (here / "amm.yaml").touch(mode=0)


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Root may read everything: be nobody for the time of a test."""
    nobody, own = 65534, os.geteuid()
    os.seteuid(nobody if own == 0 else own)
    yield
    os.seteuid(own)


def test_a_file_of_another_user(secret: None, unprivileged: None) -> None:
    with pytest.raises(PolicyError) as caught:
        load_policy("amm.yaml", environ={})
    assert str(caught.value) == "amm.yaml: cannot be read: Permission denied"
