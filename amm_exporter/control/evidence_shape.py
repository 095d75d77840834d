"""Whether a file holds evidence as `evidence` writes it, as far as the page reads it.

It may be of another version, or have been edited.
"""

from __future__ import annotations

from collections.abc import Callable

_Shape = Callable[[object], bool]


def is_evidence(found: object) -> bool:
    return _NEEDED(found) and _PARTS(found)


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _text(value: object) -> bool:
    return isinstance(value, str)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and abs(value) < 1 << 63


def _date(value: object) -> bool:
    """A number of seconds; a calendar ends with the year 9999."""
    return isinstance(value, (int, float)) and 0 <= value < 1 << 37


def _known(value: object) -> bool:
    """A number, or none where it was not finite or is not known."""
    return value is None or _number(value)


def _word(value: object) -> bool:
    return value is None or _text(value)


def _row(*shapes: _Shape) -> _Shape:
    def fits(value: object) -> bool:
        if not isinstance(value, list) or len(value) != len(shapes):
            return False
        return all(shape(part) for shape, part in zip(shapes, value, strict=True))

    return fits


def _list(shape: _Shape) -> _Shape:
    return lambda value: isinstance(value, list) and all(map(shape, value))


def _part(shape: _Shape) -> _Shape:
    """A list; or a mapping that says why there is none."""
    return lambda value: isinstance(value, dict) or _list(shape)(value)


def _each(shape: _Shape) -> _Shape:
    """By names of any kind."""
    return lambda value: isinstance(value, dict) and all(map(shape, value.values()))


def _with(**shapes: _Shape) -> _Shape:
    return lambda value: (
        isinstance(value, dict) and all(name in value and shape(value[name]) for name, shape in shapes.items())
    )


def _where(**shapes: _Shape) -> _Shape:
    """Those of them that are there. What is no mapping has none."""
    return lambda value: (
        not isinstance(value, dict) or all(shape(value[name]) for name, shape in shapes.items() if name in value)
    )


_GROWING = _list(_with(name=_text, slope=_known, lower=_known, gained=_known))
_SIZES = _part(_row(_text, _number))
_NEEDED = _with(
    unix_seconds=_date,
    pid=_number,
    verdicts=_each(_with(leaking=_flag, kind=_text, reasons=_list(_text))),
)
_PARTS = _where(
    growth=_with(seconds=_number, origin=_word, types=_GROWING, sites=_GROWING),
    types=_where(most=_list(_row(_text, _number, _number))),
    sites=_SIZES,
    mappings=_SIZES,
    allocators=_part(_with(allocator=_text, held_bytes=_known, free_bytes=_known)),
    caches=_each(_where(entries=_known, idle=_known, max_entries=_known, max_objects=_known, size_bytes=_known)),
)
