"""The table of policy keys: how each is read, what it defaults to, what it means.

`amm policy --explain`, the environment variables and the documentation are made from this table.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from amm_exporter.errors import UnitError, did_you_mean, nearest
from amm_exporter.model import RAISED_TIERS, SCOPES, Tier
from amm_exporter.policy.values import PlanValue, Threshold
from amm_exporter.units import (
    DURATION_FORMS,
    MULTIPLE_FORMS,
    RATE_FORMS,
    RATIO_FORMS,
    SIZE_FORMS,
    format_duration,
    parse_duration,
    parse_multiple,
    parse_rate,
    parse_ratio,
    parse_size,
)

ACTIONS = ("collect", "trim", "shrink_caches", "emergency")
GC_PROFILES = ("adaptive", "default")
CENSUS = ("high", "always", "never")
LEAK_SERIES = ("auto", "all")
SIGNALS = ("auto", *SCOPES)
THRESHOLD_FORMS = f"{RATIO_FORMS} up to 100%, {SIZE_FORMS}, or {MULTIPLE_FORMS}"
SHORTEST_INTERVAL_SECONDS = 0.01
"""A hundred looks a second, 0.15 % of a core; much below it the sampler would compete with the program."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One policy key. `parse` turns what was written into a value or raises UnitError with what is accepted."""

    name: str
    default: object
    parse: Callable[[object], object]
    accepts: str
    help: str


def environment_variable(key: str) -> str:
    """`tiers.high` -> `AMM_TIERS_HIGH`."""
    return "AMM_" + key.upper().replace(".", "_")


def parse_limit(value: object) -> int | None:
    if value == "auto":
        return None
    return _positive(value, "'auto' or " + SIZE_FORMS)


def parse_optional_size(value: object) -> int | None:
    if value is None or value == "none":
        return None
    return _positive(value, "'none' or " + SIZE_FORMS)


def parse_threshold(value: object) -> Threshold:
    """A tier threshold. A bare number is a ratio; a size needs its unit here, so that 85 is an error, not 85 bytes."""
    if isinstance(value, str) and "target" in value.lower():
        return Threshold(multiple=parse_multiple(value))
    if isinstance(value, str) and re.search(r"\d[^%]*[A-Za-z]\s*$", value):
        return Threshold(size_bytes=_positive(value, THRESHOLD_FORMS))
    try:
        ratio = parse_ratio(value)
    except UnitError as error:
        raise UnitError(value, THRESHOLD_FORMS, error.hint) from error
    if ratio == 0:
        raise UnitError(value, THRESHOLD_FORMS, "a threshold of 0 would always be in force")
    return Threshold(ratio=ratio)


def parse_hysteresis(value: object) -> float:
    return parse_ratio(value)


def parse_interval(value: object) -> float:
    seconds = parse_duration(value)
    if seconds >= SHORTEST_INTERVAL_SECONDS:
        return seconds
    raise UnitError(value, f"{DURATION_FORMS}, at least {format_duration(SHORTEST_INTERVAL_SECONDS)}")


def parse_window(value: object) -> float | None:
    if value == "auto":
        return None
    try:
        return parse_duration(value)
    except UnitError as error:
        raise UnitError(value, "'auto' or " + error.expected, error.hint) from error


def parse_confidence(value: object) -> float:
    ratio = parse_ratio(value)
    if 0.5 < ratio < 1:
        return ratio
    raise UnitError(value, "a confidence above 50% and below 100%, as '99%' or 0.99")


def parse_directory(value: object) -> str:
    """`auto`, `none` or a path; `~` is the home directory."""
    if isinstance(value, str) and value.strip() and "\0" not in value:
        return os.path.expanduser(value.strip())
    raise UnitError(value, "'auto', 'none' or a directory")


def parse_plan(value: object) -> Mapping[str, Mapping[Tier, PlanValue]]:
    """`{setting: {normal: 10, high: 5}}`; a tier that is not named takes the value of the tier below it."""
    if not isinstance(value, Mapping):
        raise UnitError(value, "a mapping such as {batch_size: {normal: 1000, high: 250}}")
    return {_setting_name(name): _ladder(name, steps) for name, steps in value.items()}


def parse_actions(value: object) -> tuple[str, ...]:
    """`[collect, trim]` or `"collect, trim"`."""
    names = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise UnitError(value, "a list of actions such as [collect, trim]; known: " + ", ".join(ACTIONS))
    for name in names:
        if name not in ACTIONS:
            raise UnitError(name, "an action", did_you_mean(name, ACTIONS))
    return tuple(names)


def _one_of(choices: tuple[str, ...]) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if isinstance(value, str) and value in choices:
            return value
        near = nearest(value, choices) if isinstance(value, str) else None
        raise UnitError(value, "one of " + ", ".join(choices), f"did you mean {near!r}?" if near else None)

    return parse


def _factor(value: object) -> float:
    """A plain positive number, of numbers or of text."""
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if 0 < number < math.inf:
        return number
    raise UnitError(value, "a number above zero, as 4 or 1.1")


def _positive(value: object, forms: str) -> int:
    try:
        size = parse_size(value)
    except UnitError as error:
        raise UnitError(value, forms, error.hint) from error
    if size == 0:
        raise UnitError(value, forms, "it must be more than zero")
    return size


def _setting_name(name: object) -> str:
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise UnitError(name, "a setting name of letters, digits and underscores")


def _ladder(name: str, steps: object) -> Mapping[Tier, PlanValue]:
    if not isinstance(steps, Mapping):
        raise UnitError(steps, f"a value for each tier, as {name}: {{normal: 10, high: 5}}")
    labels = [tier.label for tier in Tier]
    for label in steps:
        if label not in labels:
            raise UnitError(label, f"a tier name in {name}", did_you_mean(str(label), labels))
    if "normal" not in steps:
        raise UnitError(steps, f"a value for 'normal' in {name}; the other tiers take the value of the tier below")
    ladder: dict[Tier, PlanValue] = {}
    for tier in Tier:
        ladder[tier] = _scalar(steps[tier.label]) if tier.label in steps else ladder[Tier(tier - 1)]
    return ladder


def _scalar(value: object) -> PlanValue:
    if isinstance(value, (str, bool)) or (isinstance(value, (int, float)) and abs(value) <= sys.float_info.max):
        return value
    raise UnitError(value, "a number, a text or true/false")


_DEFAULT_TIERS = {Tier.MODERATE: "60%", Tier.HIGH: "70%", Tier.SEVERE: "80%", Tier.CRITICAL: "85%"}
_DEFAULT_ACTIONS: dict[Tier, list[str]] = {
    Tier.MODERATE: [],
    Tier.HIGH: ["collect", "trim"],
    Tier.SEVERE: ["shrink_caches", "collect", "trim"],
    Tier.CRITICAL: ["emergency"],
}
_DEFAULT_PLAN = {
    "max_workers": {"normal": 10, "high": 8, "severe": 5},
    "batch_size": {"normal": 1000, "moderate": 500, "high": 250, "severe": 100},
}


def _table() -> dict[str, Key]:
    def key(name: str, default: object, parse: Callable[[object], object], accepts: str, help: str) -> Key:
        return Key(name=name, default=default, parse=parse, accepts=accepts, help=help)

    keys = [
        key("limit", "auto", parse_limit, "auto, or " + SIZE_FORMS,
            "Memory the process may use. auto: the tightest of the cgroup limits up the tree, RLIMIT_AS, RLIMIT_DATA"
            " and RAM."),
        key("signal", "auto", _one_of(SIGNALS), "one of " + ", ".join(SIGNALS),
            "What is held against the limit. auto: the cgroup's working set where the cgroup has a limit, else the"
            " process tree's RSS; always beside the host's own usage. The worse of the two gives the tier."),
        key("budget", "none", parse_optional_size, "none, or " + SIZE_FORMS,
            "Memory the process tree is meant to stay within; exported as amm.budget.*, enforced by"
            " pytest --amm-budget."),
        key("target", "none", parse_optional_size, "none, or " + SIZE_FORMS,
            "The size that thresholds such as '1.5x target' are multiples of."),
        *(key(f"tiers.{tier.label}", _DEFAULT_TIERS[tier], parse_threshold, THRESHOLD_FORMS,
              f"Usage at which the tier {tier.name} is entered.") for tier in RAISED_TIERS),
        key("hysteresis", "3%", parse_hysteresis, RATIO_FORMS,
            "A tier is left when usage falls this far below the point where it was entered."),
        key("interval", "1s", parse_interval, DURATION_FORMS,
            "Longest pause between samples; shorter as the headroom shrinks."),
        key("plan", _DEFAULT_PLAN, parse_plan, "a mapping of settings to a value for each tier",
            "Adaptive settings: the application reads the value of the tier in force by governor.setting(name)."),
        *(key(f"actions.{tier.label}", _DEFAULT_ACTIONS[tier], parse_actions, "a list of " + ", ".join(ACTIONS),
              f"What the governor does on entering {tier.name}, in order (checked and published; this version does not"
              " act yet).") for tier in RAISED_TIERS),
        key("leak.window", "auto", parse_window, "auto, or " + DURATION_FORMS,
            "History a leak is judged on. auto: the whole life and parts of it."),
        key("leak.confidence", "99%", parse_confidence, "a ratio above 50% and below 100%",
            "Of a leak verdict, and of the bounds on its slope. Higher: fewer false alarms, later ones."),
        key("leak.min_slope", "1MB/h", parse_rate, RATE_FORMS,
            "A slope below it is called a leak only when it has lasted three hours."),
        key("leak.series", "auto", _one_of(LEAK_SERIES), "one of " + ", ".join(LEAK_SERIES),
            "Which judged series have metrics. auto: rss, tree and cgroup; heap and floor while they leak; all: those"
            " two at all times."),
        key("evidence.directory", "auto", parse_directory, "auto, none, or a directory",
            "Where evidence of a leak is written, ten files at most. auto: a directory of this user's own; none: kept"
            " in memory only."),
        key("evidence.census", "high", _one_of(CENSUS), "one of " + ", ".join(CENSUS),
            "When object types are counted, a sample of 50 ms each minute: from tier HIGH on, always, or never."),
        key("gc.profile", "adaptive", _one_of(GC_PROFILES), "one of " + ", ".join(GC_PROFILES),
            "How the garbage collector is tuned (checked and published; this version does not act yet)."),
        key("anomaly.deviations", 4, _factor, "a number above zero",
            "The adaptive threshold stands this many median absolute deviations above the calm median."),
        key("anomaly.floor", 1.10, _factor, "a number above zero",
            "Lowest adaptive threshold, as a multiple of the calm median."),
        key("anomaly.ceiling", "80%", parse_ratio, RATIO_FORMS, "Highest adaptive threshold, as a usage ratio."),
    ]  # fmt: skip
    return {each.name: each for each in keys}


KEYS: dict[str, Key] = _table()
"""Every key by its dotted name, in the order of documentation."""
