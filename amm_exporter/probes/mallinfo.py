"""What glibc's malloc says of itself, as it says it. What it means beside other allocators is in `allocator`."""

from __future__ import annotations

import ctypes
from collections.abc import Callable


class Mallinfo2(ctypes.Structure):
    """struct mallinfo2 of malloc.h (mallinfo(3)): sums over all arenas, in bytes but for the counts."""

    arena: int
    hblkhd: int
    uordblks: int
    fordblks: int
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


def glibc_mallinfo() -> Callable[[], Mallinfo2] | None:
    """mallinfo2(3) of glibc 2.33 or newer; None on other C libraries."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError, TypeError):
        return None
    mallinfo2.restype = Mallinfo2
    return mallinfo2
