"""Closing only what is one's own: a program that becomes a daemon closes every descriptor, and its next files get the
numbers."""

from __future__ import annotations

import socket

from amm_exporter.probes.procfs import identity


def is_still(fd: int, own: tuple[int, int]) -> bool:
    """Whether a descriptor is of the file whose `identity` is given."""
    try:
        return identity(fd) == own
    except OSError:
        return False


def let_go(sock: socket.socket, ours: bool) -> None:
    """Close a socket; one whose descriptor is not ours any more is only forgotten."""
    if ours:
        sock.close()
    else:
        sock.detach()
