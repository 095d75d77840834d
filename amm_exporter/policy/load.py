"""From defaults, a file, the environment and flags to one checked policy, remembering where each value came from.

Later wins: defaults < file < environment < flag. The file is `amm.yaml`, or `[tool.amm]` in pyproject.toml, of the
nearest directory upwards that has one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from amm_exporter.errors import PolicyError, UnitError, did_you_mean
from amm_exporter.model import RAISED_TIERS
from amm_exporter.policy.keys import KEYS, environment_variable
from amm_exporter.policy.values import AnomalyPolicy, LeakPolicy, Policy

CONFIG_VARIABLE = "AMM_CONFIG"
_PYTEST_OPTIONS = (
    "PEAKS TEST_BUDGET BUDGET_FOR ON_BREACH HARD ISOLATE EMERGENCY EMERGENCY_WARN EMERGENCY_STALL"
    " JSON HTML COMPARE FAIL_GROWTH LEAKS TOP EXPORT"
)
PYTEST_VARIABLES = frozenset("AMM_" + option for option in _PYTEST_OPTIONS.split(" "))
"""Variables that belong to pytest_amm's options, not to the policy: known here so that they are not called unknown."""
EXPORT_VARIABLES = frozenset({"AMM_WEB_CONFIG"})
"""Those of the exporter, as above."""
_OTEL_PREFIX = "OTEL_PYTHON_"
"""`opentelemetry-instrument --amm_budget 1GB` arrives as OTEL_PYTHON_AMM_BUDGET."""
_DEFAULTS = "default"

_Layer = tuple[str, str, object]
"""Source in words, dotted key, value as written."""


def load_policy(
    given: Policy | Mapping[str, object] | str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
    directory: Path | None = None,
) -> Policy:
    """The policy in force.

    Args:
        given: a ready policy (returned as it is), a mapping in place of the file, or the path of a file; by default the
            file named by AMM_CONFIG, else the nearest `amm.yaml` or `[tool.amm]`.
        environ: the environment (default: os.environ).
        flags: dotted keys with values, from the command line.
        directory: where the search for a file starts (default: the current directory).

    Raises:
        PolicyError: names the source, the key, what was got and what is accepted.
    """
    if isinstance(given, Policy):
        return given
    environ = os.environ if environ is None else environ
    layers: list[_Layer] = [(_DEFAULTS, key.name, key.default) for key in KEYS.values()]
    layers += _file_layer(given, environ, directory)
    layers += _environment_layer(environ)
    layers += _flag_layer(flags or {})
    return _build(layers)


def _build(layers: list[_Layer]) -> Policy:
    """Parse every layer, also one that a later layer hides: a wrong value is never silent."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    settings: dict[str, object] = {}
    for source, key, written in layers:
        try:
            values[key] = KEYS[key].parse(written)
        except UnitError as error:
            raise PolicyError(source, key, str(error)) from error
        sources[key], settings[key] = source, written
    policy = Policy(
        limit_bytes=values["limit"],
        signal=values["signal"],
        budget_bytes=values["budget"],
        target_bytes=values["target"],
        thresholds=MappingProxyType({tier: values[f"tiers.{tier.label}"] for tier in RAISED_TIERS}),
        hysteresis_ratio=values["hysteresis"],
        interval_seconds=values["interval"],
        plan=MappingProxyType(values["plan"]),
        actions=MappingProxyType({tier: values[f"actions.{tier.label}"] for tier in RAISED_TIERS}),
        leak=LeakPolicy(
            window_seconds=values["leak.window"],
            confidence=values["leak.confidence"],
            min_slope_bytes_per_second=values["leak.min_slope"],
            series=values["leak.series"],
        ),
        gc_profile=values["gc.profile"],
        anomaly=AnomalyPolicy(
            deviations=values["anomaly.deviations"],
            floor_ratio=values["anomaly.floor"],
            ceiling_ratio=values["anomaly.ceiling"],
        ),
        census=values["evidence.census"],
        evidence_directory=values["evidence.directory"],
        settings=MappingProxyType(settings),
        sources=MappingProxyType(sources),
    )
    _check_together(policy)
    return policy


def _check_together(policy: Policy) -> None:
    """What can be judged without knowing the machine: multiples need a target; with a known scale, the order."""
    thresholds = policy.thresholds
    for tier in RAISED_TIERS:
        if thresholds[tier].multiple is not None and policy.target_bytes is None:
            key = f"tiers.{tier.label}"
            problem = f"got '{thresholds[tier]}', but no target is set; add target, as 'target: 512MB'"
            raise PolicyError(policy.sources[key], key, problem)
    if policy.limit_bytes is not None:
        policy.enter_ratios(policy.limit_bytes)
    elif all(thresholds[tier].ratio is not None for tier in RAISED_TIERS):
        policy.enter_ratios(1 << 40)  # ratios mean the same under every limit


def _file_layer(
    given: Mapping[str, object] | str | os.PathLike[str] | None, environ: Mapping[str, str], directory: Path | None
) -> Iterator[_Layer]:
    if isinstance(given, Mapping):
        return _flatten("policy", given)
    named = environ.get(CONFIG_VARIABLE) or environ.get(_OTEL_PREFIX + CONFIG_VARIABLE) or None
    if given is not None:
        named = os.fspath(given)
    path = Path(named) if named is not None else _find_file(directory or _current_directory())
    if path is None:
        return iter(())
    from amm_exporter.policy import files  # PyYAML costs 2.6 MiB: loaded only where there is a file to read

    return _flatten(files.display_name(path), files.read(path))


def _current_directory() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # it was deleted: no file there
        return None


def _find_file(directory: Path | None) -> Path | None:
    if directory is None:
        return None
    for folder in (directory, *directory.parents):
        yaml_file, project = folder / "amm.yaml", folder / "pyproject.toml"
        in_project = _mentions_amm(project)
        if yaml_file.is_file() and in_project:
            raise PolicyError(
                str(project),
                "tool.amm",
                f"{yaml_file} is there too; keep one, or name one by {CONFIG_VARIABLE}",
            )
        if yaml_file.is_file():
            return yaml_file
        if in_project:
            return project
    return None


def _mentions_amm(project: Path) -> bool:
    """A cheap look: only a pyproject.toml with such a table is worth a TOML parser."""
    try:
        return b"[tool.amm" in project.read_bytes()
    except OSError:
        return False


def _environment_layer(environ: Mapping[str, str]) -> Iterator[_Layer]:
    by_variable = {environment_variable(key): key for key in KEYS}
    for name, text in environ.items():
        variable = name.removeprefix(_OTEL_PREFIX)
        if not variable.startswith("AMM_") or variable in {CONFIG_VARIABLE, *PYTEST_VARIABLES, *EXPORT_VARIABLES}:
            continue
        if name != variable and variable in environ:
            continue  # the plain variable wins over the flag's, and is read at its own turn
        source = f"environment variable {name}"
        if variable not in by_variable:
            raise PolicyError(source, "", f"unknown variable; {did_you_mean(variable, by_variable, 'AMM_')}")
        key = by_variable[variable]
        yield source, key, _from_text(source, key, text)


def _flag_layer(flags: Mapping[str, object]) -> Iterator[_Layer]:
    for key, value in flags.items():
        source = "flag --limit" if key == "limit" else f"flag --set {key}"
        known = _known(source, key)
        yield source, known, _from_text(source, known, value) if isinstance(value, str) else value


def _from_text(source: str, key: str, text: str) -> object:
    """A variable or flag is text; where a mapping is wanted, it is YAML on one line."""
    if not isinstance(KEYS[key].default, dict):
        return text
    from amm_exporter.policy import files  # see _file_layer

    return files.parse_yaml(text, f"{source}: {key}")


def _flatten(source: str, tree: Mapping[str, object], prefix: str = "") -> Iterator[_Layer]:
    """Dotted keys of a nested mapping; a key's own mapping (plan) is not entered."""
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if key not in KEYS and isinstance(value, Mapping) and any(known.startswith(f"{key}.") for known in KEYS):
            yield from _flatten(source, value, f"{key}.")
        else:
            yield source, _known(source, key), value


def _known(source: str, key: str) -> str:
    if key in KEYS:
        return key
    inside = [known for known in KEYS if known.startswith(f"{key}.")]
    if inside:
        names = ", ".join(known.removeprefix(f"{key}.") for known in inside)
        raise PolicyError(source, key, f"expected a mapping with {names}")
    group = "".join(key.rpartition(".")[:2])
    siblings = [known for known in KEYS if group and known.startswith(group)]
    hint = did_you_mean(key, siblings, group) if siblings else did_you_mean(key, KEYS)
    raise PolicyError(source, key, f"unknown key; {hint}")
