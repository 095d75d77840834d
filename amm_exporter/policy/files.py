"""Reading policy files: YAML, and the `[tool.amm]` table of a pyproject.toml."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from amm_exporter.errors import PolicyError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_FILE_BYTES = 1 << 20
"""A policy is a page; a file beyond this is a mistake, and YAML aliases could make it explode."""


def display_name(path: Path) -> str:
    return f"{path} [tool.amm]" if path.suffix == ".toml" else str(path)


def read(path: Path) -> Mapping[str, object]:
    """The mapping in the file. An empty file is an empty policy."""
    text = _text(path)
    tree = _toml_table(text, path) if path.suffix == ".toml" else parse_yaml(text, str(path))
    if tree is None:
        return {}
    if not isinstance(tree, Mapping):
        raise PolicyError(display_name(path), "", f"got {type(tree).__name__}; expected keys, as 'limit: 4GB'")
    return {str(key): value for key, value in tree.items()}


def parse_yaml(text: str, source: str) -> object:
    """YAML without surprises: a key given twice is an error, tags and aliases are not needed and not taken."""
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise PolicyError(source, "", f"not valid YAML: {_one_line(error)}") from error
    except ValueError as error:  # a date that is none, an integer of more than 4,300 digits: PyYAML lets them through
        raise PolicyError(source, "", f"not valid YAML: {error}") from error
    except RecursionError as error:
        raise PolicyError(source, "", "not valid YAML: nested too deeply") from error


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise PolicyError(str(path), "", f"larger than {MAX_FILE_BYTES} bytes; is it a policy?")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise PolicyError(
            str(path), "", "no such file; name an existing one, or leave it out for the defaults"
        ) from error
    except OSError as error:
        raise PolicyError(str(path), "", f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PolicyError(str(path), "", f"not UTF-8 text: {error.reason} at byte {error.start}") from error


def _toml_table(text: str, path: Path) -> object:
    try:
        document = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, or an integer of more than 4,300 digits
        raise PolicyError(str(path), "", f"not valid TOML: {error}") from error
    except RecursionError as error:
        raise PolicyError(str(path), "", "not valid TOML: nested too deeply") from error
    tool = document.get("tool", {})
    return tool.get("amm", {}) if isinstance(tool, dict) else {}


def _one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "; ".join(line.strip() for line in str(error).split("\n"))
    if problem.startswith("but "):
        problem = f"{getattr(error, 'context', '')}, {problem}"
    return f"{problem} (line {mark.line + 1}, column {mark.column + 1})" if mark else str(problem)


class _StrictLoader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call] # types-PyYAML leaves it open
            raise yaml.constructor.ConstructorError(None, None, "aliases are not accepted", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            name = str(key_node.value)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{name!r} is given twice", key_node.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep=deep)
