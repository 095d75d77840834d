"""What the runs of pytest inside tests have in common."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from amm_exporter.probes.cgroups import find_memory_cgroup, find_pressure


@pytest.fixture
def only_this_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inner runs load pytest_amm and xdist, nothing else that is installed, and no variable of AMM is set."""
    for name in list(os.environ):
        if name.startswith("AMM_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_amm.plugin,xdist.plugin")


@pytest.fixture
def own_cgroup() -> Iterator[Path]:
    """A memory cgroup of its own beside the one that this process is in."""
    found = find_memory_cgroup(Path("/proc/self/cgroup").read_bytes())
    if found is None:
        pytest.skip("no memory cgroup here")
    with new_cgroup(found.directories[-1] / f"amm-test-{os.getpid()}", holding="memory.[mp]*") as directory:
        yield directory


@pytest.fixture
def stall_cgroup(own_cgroup: Path) -> Iterator[Path]:
    """The cgroup that tells the stalls of what runs in `own_cgroup`: itself, or beside version 1 one of version 2."""
    if (own_cgroup / "memory.pressure").exists():
        yield own_cgroup
        return
    own = find_pressure(Path("/proc/self/cgroup").read_bytes())
    if own is None:
        pytest.skip("this kernel tells no stalls (PSI) of a cgroup")
    with new_cgroup(own.parent / f"amm-stalls-{os.getpid()}", holding="memory.pressure") as directory:
        yield directory


@contextmanager
def new_cgroup(directory: Path, *, holding: str) -> Iterator[Path]:
    try:
        directory.mkdir()
        if not (directory / "cgroup.procs").exists() or not any(directory.glob(holding)):
            raise OSError("without a memory controller")
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    yield directory
    deadline = time.monotonic() + 10
    while (directory / "cgroup.procs").read_text() and time.monotonic() < deadline:
        time.sleep(0.05)  # the watchdog ends a moment after the run
    directory.rmdir()
