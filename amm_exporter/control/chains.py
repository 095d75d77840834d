"""What keeps objects alive: reference chains from a module to an object of a type, found by objgraph."""

from __future__ import annotations

import gc

MAX_TRACKED_OBJECTS = 2_000_000
"""Each step of a chain asks every tracked object for its referents: at 2 million, 0.1 s a step with the GIL held."""
MAX_DEPTH = 12
LONGEST_TEXT = 120


def chain_to(type_name: str) -> list[str]:
    """The types from a module down to the newest object of this type, as `module app`, `dict`, `list`, `Order`.

    Empty where there is no such object, or none that a module leads to. A heap too large to search says so instead.
    """
    import objgraph

    if len(gc.get_objects()) > MAX_TRACKED_OBJECTS:
        return [f"not searched: more than {MAX_TRACKED_OBJECTS} tracked objects"]
    found = objgraph.by_type(type_name.rpartition(".")[2]) or objgraph.by_type(type_name)
    if not found:
        return []
    chain = objgraph.find_backref_chain(found[-1], objgraph.is_proper_module, max_depth=MAX_DEPTH)
    return [_described(link) for link in chain] if len(chain) > 1 else []


def _described(link: object) -> str:
    name = getattr(link, "__name__", "") if type(link).__name__ in ("module", "function", "type") else ""
    return f"{type(link).__name__} {name}".strip()[:LONGEST_TEXT]
