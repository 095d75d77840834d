"""What a stopped process was doing and what it had: its stacks, its largest mappings, its largest children.

Standard library only: the watchdog takes it of a process that cannot, and leaves it on the board.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from itertools import dropwhile
from typing import NamedTuple

_MAPPING = re.compile(rb"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)\n(?:[A-Z].*\n)*?Rss: +(\d+) kB", re.MULTILINE)
_FRAME = re.compile(r'^  File "(.+)", line (\d+|\?\?\?) in (.+)$')
_OURS = "/pytest_amm/"
_RUNNERS = ("/_pytest/", "/pluggy/", "/execnet/", _OURS, "/threading.py")
"""Frames below which a stack tells nothing of the test."""
_THREAD_COUNT, _FRAME_COUNT = 3, 6
_LEAST_SITE_BYTES = 2 << 20
"""An allocation site below this is not worth a line: imports leave more than a megabyte in one."""


class Evidence(NamedTuple):
    """One thing that was seen. `label` is stack, mapped, child or held; `size_bytes` is 0 where it has no size."""

    label: str
    size_bytes: int
    text: str


def to_text(found: Iterable[Evidence]) -> str:
    """A line for each, as it stands on the board."""
    return "\n".join(f"{each.label}\t{each.size_bytes}\t{each.text}" for each in found)


def from_text(text: str) -> list[Evidence]:
    """The evidence of `to_text`; a line that was cut off is left out."""
    found = []
    for line in text.splitlines():
        label, _, rest = line.partition("\t")
        size, tab, words = rest.partition("\t")
        if tab and size.isdigit():
            found.append(Evidence(label, int(size), words))
    return found


class Witness:
    """Of a process that does not answer: its mappings, and the stacks that faulthandler writes by and by."""

    def __init__(self, pid: int, evidence_fd: int) -> None:
        self._path = f"/proc/{pid}/fd/{evidence_fd}"
        self._dump: bytes | None = None
        self._mapped = mappings(pid)

    def news(self) -> list[Evidence] | None:
        """All that is known so far; None where that is no more than before."""
        try:
            with open(self._path, "rb") as file:
                dump = file.read(1 << 16)
        except OSError:
            dump = b""
        if self._dump is not None and len(dump) <= len(self._dump):
            return None
        self._dump = dump
        return [*stacks(dump.decode("utf-8", "replace")), *self._mapped]


def mappings(pid: int, count: int = 3) -> list[Evidence]:
    """The largest by resident size, all mappings of one file and all anonymous ones together. 13 ms per resident GB."""
    try:
        with open(f"/proc/{pid}/smaps", "rb") as file:
            return largest_mappings(file.read(), count)
    except OSError:
        return []


def sites(count: int = 3) -> list[Evidence]:
    """The lines whose memory is still held, where somebody has started tracemalloc (`python -X tracemalloc`)."""
    import tracemalloc

    if not tracemalloc.is_tracing():
        return []
    ours = (os.path.dirname(__file__) + os.sep, tracemalloc.__file__, "<frozen ")
    grouped = tracemalloc.take_snapshot().statistics("lineno")  # first: to look at each trace takes three times as long
    largest = [each for each in grouped if not each.traceback[0].filename.startswith(ours)][:count]
    return [
        Evidence("held", each.size, f"{each.traceback[0].filename}:{each.traceback[0].lineno} (tracemalloc)")
        for each in largest
        if each.size >= _LEAST_SITE_BYTES
    ]


def largest_mappings(raw: bytes, count: int) -> list[Evidence]:
    """Of the text of /proc/<pid>/smaps (proc_pid_smaps(5))."""
    resident: dict[str, list[int]] = {}
    for path, kib in _MAPPING.findall(raw):
        name = os.path.basename(path.decode("utf-8", "replace")) or "anonymous memory"
        resident.setdefault(name, []).append(int(kib) * 1024)
    largest = sorted(resident.items(), key=lambda item: -sum(item[1]))[:count]
    return [Evidence("mapped", sum(sizes), _mapping_words(name, len(sizes))) for name, sizes in largest if sum(sizes)]


def stacks(dump: str) -> list[Evidence]:
    """The threads of one or more dumps of faulthandler, of each the part that the test wrote, the innermost first.

    A thread seen in several dumps counts with its first: the later ones show it ending.
    """
    found: dict[str, str] = {}
    for block in dump.split("\n\n"):
        head, _, rest = block.strip().partition("\n")
        match = re.search(r"0x[0-9a-f]+", head)
        words = " < ".join(_frames(rest))
        if match and words:
            found.setdefault(match[0], words)
    main_first = list(found.values())[::-1]  # faulthandler begins with the newest thread
    return [Evidence("stack", 0, words) for words in main_first[:_THREAD_COUNT]]


def _frames(block: str) -> list[str]:
    """From the innermost on, below the handler of the signal, as far as the test goes."""
    words = []
    for line in dropwhile(lambda line: _OURS in line, block.splitlines()):
        match = _FRAME.match(line)
        if match is None or any(part in match[1] for part in _RUNNERS):
            break
        words.append(f"{match[3]} ({os.path.basename(match[1])}:{match[2]})")
    return [*words[: _FRAME_COUNT - 1], *words[_FRAME_COUNT - 1 :][-1:]]


def _mapping_words(name: str, count: int) -> str:
    return name if count == 1 else f"{name}, {count} mappings"
