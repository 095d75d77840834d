"""What AMM raises. One base; a subclass only where a caller would catch it.

A message says what was got, what was expected and what to do; the facts are attributes too, and the arguments, so
that an error can be pickled.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST_SHOWN = 120
"""Characters of a value that a message repeats."""


class AMMError(Exception):
    """Base of everything AMM raises on purpose. Its text is meant for people: the CLI prints it without a traceback."""


class UnitError(AMMError, ValueError):
    """A size, ratio, duration or rate that cannot be read.

    Attributes:
        got: the value as it was given.
        expected: the accepted forms, in words.
    """

    def __init__(self, got: object, expected: str, hint: str | None = None) -> None:
        self.got = got
        self.expected = expected
        self.hint = hint
        super().__init__(got, expected, hint)

    def __str__(self) -> str:
        return f"got {shown(self.got)}; expected {self.expected}" + (f"; {self.hint}" if self.hint else "")


class PolicyError(AMMError, ValueError):
    """A policy that cannot be used.

    Attributes:
        source: where the value came from (a file name, an environment variable, a flag).
        key: the dotted key, as `tiers.high`.
    """

    def __init__(self, source: str, key: str, problem: str) -> None:
        self.source = source
        self.key = key
        self.problem = problem
        super().__init__(source, key, problem)

    def __str__(self) -> str:
        return f"{self.source}: {self.key}: {self.problem}" if self.key else f"{self.source}: {self.problem}"


class ProbeError(AMMError, OSError):
    """A source of measurements that cannot be read now (a vanished process, an unreadable file)."""


def shown(value: object) -> str:
    """The value for a message: its repr, cut where it would bury the text around it."""
    try:
        text = repr(value)
    except ValueError:  # Python does not write out an integer of more than 4,300 digits
        return "a number of more than 4300 digits"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word closest in spelling to `word`, or None when nothing is near enough to suggest."""
    by_lower = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str], prefix: str = "") -> str:
    """`did you mean 'x'?` or, with nothing near, the list of accepted words.

    A prefix that all share says nothing of nearness: `tiers.normal` is not near `tiers.critical`.
    """
    names = list(known)
    near = nearest(word.removeprefix(prefix), [name.removeprefix(prefix) for name in names])
    return f"did you mean {prefix + near!r}?" if near else "accepted: " + ", ".join(names)
