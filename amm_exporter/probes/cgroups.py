"""Which memory cgroup a process is in: its directories from its own up to the highest one that can be seen from here.

Handles version 1, version 2, both at once (hybrid), cgroup namespaces and bind-mounted parts of the hierarchy, as
containers have them (cgroups(7), cgroup_namespaces(7), proc_pid_mountinfo(5)). What the files say is read by `limit`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from amm_exporter.errors import ProbeError
from amm_exporter.probes.procfs import PROC, read_once

SYSFS = Path("/sys/fs/cgroup")
USAGE_FILES = {1: "memory.usage_in_bytes", 2: "memory.current"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryCgroup:
    """`directories` runs from the process's own cgroup upwards; each has the memory controller's files."""

    version: int
    directories: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mounted cgroup hierarchy that may hold memory: which part of it (`root`) is visible where (`point`)."""

    version: int
    root: str
    point: Path


def find_memory_cgroup(membership: bytes, *, proc: Path = PROC, sysfs: Path = SYSFS) -> MemoryCgroup | None:
    """The memory cgroup of the process whose /proc/<pid>/cgroup is given; None without a controller or on v2's root."""
    paths = memory_paths(membership.decode(errors="replace"))
    try:
        mounts = memory_mounts(read_once(proc / "self" / "mountinfo").decode(errors="replace"), sysfs)
    except ProbeError:
        return None
    for version in (1, 2):  # in a hybrid setup the controller is on version 1; version 2 is then without its files
        candidates = [mount for mount in mounts if mount.version == version]
        if version in paths and candidates:
            directories = tuple(visible_directories(best_mount(candidates, paths[version]), paths[version]))
            if directories:
                return MemoryCgroup(version=version, directories=directories)
    return None


def find_pressure(membership: bytes, *, proc: Path = PROC, sysfs: Path = SYSFS) -> Path | None:
    """The stalls of the version 2 cgroup of the process whose /proc/<pid>/cgroup is given; they need no controller."""
    path = memory_paths(membership.decode(errors="replace")).get(2)
    try:
        mounts = memory_mounts(read_once(proc / "self" / "mountinfo").decode(errors="replace"), sysfs)
    except ProbeError:
        return None
    candidates = [mount for mount in mounts if mount.version == 2]
    if path is None or not candidates:
        return None
    directories = visible_directories(best_mount(candidates, path), path, holding="memory.pressure")
    return next((directory / "memory.pressure" for directory in directories), None)


def memory_paths(text: str) -> dict[int, str]:
    """The path in each version's hierarchy, from /proc/<pid>/cgroup lines such as `4:memory:/a/b` and `0::/a/b`."""
    paths = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        path = path.removesuffix(" (deleted)")
        if not path.startswith("/"):
            continue
        if number == "0" and not controllers:
            paths[2] = path
        elif "memory" in controllers.split(","):
            paths[1] = path
    return paths


def memory_mounts(text: str, sysfs: Path) -> list[Mount]:
    """Mounts of version 2 and of version 1's memory controller, with points under /sys/fs/cgroup moved to `sysfs`."""
    found = []
    for line in text.splitlines():
        left, separator, right = line.partition(" - ")
        fields, kind = left.split(" "), right.split(" ")
        if not separator or len(fields) < 6 or len(kind) < 3:
            continue
        version = 2 if kind[0] == "cgroup2" else 1 if kind[0] == "cgroup" and "memory" in kind[2].split(",") else 0
        if version:
            point = Path(unescaped(fields[4]))
            if point.is_relative_to(SYSFS):
                point = sysfs / point.relative_to(SYSFS)
            found.append(Mount(version=version, root=unescaped(fields[3]), point=point))
    return found


def unescaped(field: str) -> str:
    """Spaces and such stand in mountinfo as an octal escape: `\\040`."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def best_mount(mounts: list[Mount], path: str) -> Mount:
    """The mount that shows the most of the path from the nearest root, else any."""
    holding = [mount for mount in mounts if PurePosixPath(path).is_relative_to(mount.root)]
    return max(holding, key=lambda mount: len(mount.root)) if holding else mounts[0]


def visible_directories(mount: Mount, path: str, *, holding: str | None = None) -> Iterator[Path]:
    """From the cgroup's own directory up to the mount point, those that have memory files and charge their children.

    What they must have is a file of memory in use, or the one named.

    Where the path lies outside what is mounted (seen from another namespace), what remains is the mount point itself.
    """
    below = PurePosixPath(path)
    below = below.relative_to(mount.root) if below.is_relative_to(mount.root) else below.relative_to("/")
    if ".." in below.parts:
        below = PurePosixPath()
    for depth in range(len(below.parts), -1, -1):
        directory = mount.point.joinpath(*below.parts[:depth])
        if not (directory / (holding or USAGE_FILES[mount.version])).exists():
            continue
        if depth < len(below.parts) and mount.version == 1 and not charges_children(directory):
            return
        yield directory


def charges_children(directory: Path) -> bool:
    """Version 1 before Linux 5.11 could keep a cgroup's limit from its children: memory.use_hierarchy of 0."""
    try:
        return (directory / "memory.use_hierarchy").read_bytes().strip() != b"0"
    except OSError:
        return True
