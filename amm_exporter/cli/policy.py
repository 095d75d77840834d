"""Print the policy in force, with the place each value came from; --explain adds what each key means and accepts."""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from collections.abc import Mapping

from amm_exporter.cli import options
from amm_exporter.policy import KEYS, Policy, environment_variable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--explain", action="store_true", help="document every key")
    options.add_policy_options(parser)


def run(arguments: argparse.Namespace) -> int:
    policy = options.policy(arguments)
    print(explain(policy) if arguments.explain else show(policy))
    return 0


def show(policy: Policy) -> str:
    """A policy file with the same meaning: YAML, each value followed by its source."""
    lines: list[str] = []
    group = ""
    for key, value in policy.settings.items():
        parent, _, leaf = key.rpartition(".")
        if parent and parent != group:
            lines.append(f"{parent}:")
        group = parent
        table = value if isinstance(value, Mapping) else {}
        text = f"{'  ' if parent else ''}{leaf}:" + ("" if table else f" {_yaml(value)}")
        lines.append(f"{text:<40}  # {policy.sources[key]}")
        lines += [f"  {name}: {_yaml(part)}" for name, part in table.items()]
    return "\n".join(lines)


def explain(policy: Policy) -> str:
    return "\n\n".join(_paragraph(key, policy) for key in KEYS)


def _paragraph(name: str, policy: Policy) -> str:
    key = KEYS[name]
    facts = {
        "accepts": key.accepts,
        "default": _yaml(key.default),
        "environment": environment_variable(name),
        "in force": f"{_yaml(policy.settings[name])} ({policy.sources[name]})",
    }
    body = [_filled(key.help)]
    body += [_filled(f"{label}: {text}", subsequent_indent="  ") for label, text in facts.items()]
    return f"{name}\n" + textwrap.indent("\n".join(body), "    ")


def _filled(text: str, subsequent_indent: str = "") -> str:
    """In lines of 100 characters, or of the terminal beside the indent. No flag is torn at a hyphen."""
    width = min(100, shutil.get_terminal_size((104, 24)).columns - 4)
    return textwrap.fill(text, max(20, width), subsequent_indent=subsequent_indent, break_on_hyphens=False)


def _yaml(value: object) -> str:
    """Flow style on one line. JSON is YAML, and plain words need no quotes."""
    if isinstance(value, str):
        return value if value and value.replace("%", "").replace(".", "").isalnum() else json.dumps(value)
    return json.dumps(value)
