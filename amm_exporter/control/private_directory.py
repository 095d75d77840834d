"""Directories in which only this user's processes can find each other."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path


def private_bases(environ: Mapping[str, str], uid: int | None = None) -> list[Path]:
    """Where such a directory may be, best first: XDG_RUNTIME_DIR, TMPDIR, and /tmp for a TMPDIR that is too long."""
    runtime = environ.get("XDG_RUNTIME_DIR")
    user = f"amm-exporter-{os.geteuid() if uid is None else uid}"
    found = [Path(runtime) / "amm-exporter"] if runtime and Path(runtime).is_dir() else []
    temporary = environ.get("TMPDIR")
    return list(dict.fromkeys([*found, Path(temporary or tempfile.gettempdir()) / user, Path("/tmp") / user]))


def make_private(path: Path) -> None:
    """Make it, or make sure of it. Raises PermissionError for one that others own or can enter."""
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise PermissionError(f"{path} is not a directory that only this user can enter")
