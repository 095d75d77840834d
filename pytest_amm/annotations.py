"""Breaches, leaks and regressions as workflow commands, that GitHub Actions shows at the line of the test. Pure."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from amm_exporter.units import format_size
from pytest_amm.failure import headline
from pytest_amm.records import RERUN, Record

if TYPE_CHECKING:
    from pytest_amm.compare import Change


def annotation(record: Record, *, folder: str = "") -> str | None:
    """`::error file=...,line=...,title=...::message`, or None for a test within its budget that does not leak.

    `folder`: where the rootdir lies in the repository. A test that fails nothing (`--amm-on-breach=warn`, run again)
    gets a warning.
    """
    if record.breach is not None:
        title, words = "Memory budget", headline(record.breach)
    elif record.leak == "leak":
        title, words = "Memory leak", "each call leaves memory behind; its failure says how much and where"
    else:
        return None
    level = "warning" if record.outcome in ("passed", "skipped", RERUN) else "error"
    return _command(level, record.location, title, f"{record.nodeid}: {words}", folder)


def regression(change: Change, *, folder: str = "") -> str:
    """The same for a test that `--amm-fail-growth` fails the run for."""
    words = f"grows by {format_size(change.now_bytes)}, it was {format_size(change.base_bytes)}"
    return _command("error", change.location, "Memory growth", f"{change.nodeid}: {words}", folder)


def _command(level: str, location: tuple[str, int], title: str, text: str, folder: str) -> str:
    path, line = location
    place = f"file={_property(os.path.join(folder, path))},line={line},title={title}"
    return f"::{level} {place}::{_data(text)}"


def folder_in(workspace: str | None, rootdir: str) -> str:
    """The folder of the rootdir in the checked-out repository, where GitHub looks for a file; empty at its top."""
    if not workspace:
        return ""
    folder = os.curdir
    with contextlib.suppress(ValueError):  # on another drive of Windows
        folder = os.path.relpath(rootdir, workspace)
    return "" if folder == os.curdir or folder.startswith(os.pardir) else folder


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
