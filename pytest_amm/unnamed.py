"""A file that no directory lists: it ends with the last process that has it open. Standard library only."""

from __future__ import annotations

import os


def unnamed_file(label: str) -> int:
    """The descriptor of a new one, in memory where Python was built for that. The label is seen in /proc/<pid>/maps.

    A Python built against glibc before 2.27, as conda's are and uv's were until 2026, has no os.memfd_create; nor has
    one for macOS.
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create(label)
    import tempfile

    fd, path = tempfile.mkstemp(prefix=f"{label}-")
    os.unlink(path)
    return fd
