"""Breaches as workflow commands, which GitHub Actions shows beside the line of the test. Pure."""

from __future__ import annotations

from pytest_amm.failure import headline
from pytest_amm.records import Record


def annotation(record: Record) -> str | None:
    """`::error file=...,line=...,title=...::message`, or None for a test within its budget."""
    if record.breach is None:
        return None
    path, line = record.location
    title = _property("Memory budget")
    message = _data(f"{record.nodeid}: {headline(record.breach)}")
    return f"::error file={_property(path)},line={line},title={title}::{message}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
