"""Warnings of a forked child, as plain data: their messages and classes may not be known, or picklable, elsewhere."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest


class Carried(NamedTuple):
    """One warning."""

    text: str
    classes: tuple[tuple[str, str], ...]  # module and name, the nearest first
    filename: str
    line: int


@contextmanager
def caught(config: pytest.Config) -> Iterator[list[Carried]]:
    """What is warned of inside, once it has ended. Nothing with `-p no:warnings`: it then goes where Python has it go.

    pytest's own recording wraps the whole protocol, so its end is never reached in a child.
    """
    found: list[Carried] = []
    if not config.pluginmanager.hasplugin("warnings"):
        yield found
        return
    with warnings.catch_warnings(record=True) as log:
        yield found
    found += [Carried(str(each.message), _classes(each.category), each.filename, each.lineno) for each in log]


def _classes(category: type[Warning]) -> tuple[tuple[str, str], ...]:
    return tuple((each.__module__, each.__name__) for each in category.__mro__ if issubclass(each, Warning))


def tell(item: pytest.Item, found: list[Carried]) -> None:
    """As pytest does of what it recorded itself."""
    for each in found:
        told = {"warning_message": _message(each), "nodeid": item.nodeid, "when": "runtest", "location": None}
        item.ihook.pytest_warning_recorded.call_historic(kwargs=told)


def _message(each: Carried) -> warnings.WarningMessage:
    """Of the nearest class that is known by its name here: another xdist could not carry on, and ends the run."""
    name, category = next(filter(None, map(_known, each.classes)))
    told = each.classes[0][1]
    text = each.text if name == told else f"{told}: {each.text}"
    return warnings.WarningMessage(Warning(text), category, each.filename, each.line)


def _known(names: tuple[str, str]) -> tuple[str, type[Warning]] | None:
    module, name = names
    found = getattr(sys.modules.get(module), name, None)
    return (name, found) if isinstance(found, type) and issubclass(found, Warning) else None
