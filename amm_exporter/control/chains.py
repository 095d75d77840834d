"""What keeps objects alive: reference chains from a module to an object of a type.

In a small heap objgraph finds them upwards, from the newest object of the type. Each step of that asks every tracked
object for its referents with the GIL held, which in a large heap stops the program for as long as a full collection. So
there the search goes downwards, from the modules, to the container that holds most of the type: in steps of
microseconds, for a time that does not grow with the heap. `python -m benchmarks.census` shows the pauses.
"""

from __future__ import annotations

import gc
import sys
import time
from collections import deque
from collections.abc import Collection
from itertools import chain, islice
from typing import Any

from amm_exporter.probes.objects import TypeNames, type_name

SMALL_HEAP_BLOCKS = 400_000
"""Up to so many blocks a step upwards takes at most 0.05 s; a web framework at its start has 200,000."""
CONTAINERS: tuple[Any, ...] = (list, tuple, set, frozenset, deque)
MAX_DEPTH = 12
LONGEST_TEXT = 120

SEARCH_SECONDS = 1.0
MOST_LINKS = 300_000
"""Objects that a search downwards may hold in mind, at 200 bytes each."""
MOST_PARTS = 1000
"""What is looked at of one container: what leaks is of one kind, so the first thousand tell the rest."""


def chain_to(wanted: str, *, small_heap_blocks: int = SMALL_HEAP_BLOCKS) -> list[str]:
    """The types from a module down to an object of this type, as `module app`, `dict`, `list`, `Order`.

    Empty where there is no such object, or none that a module leads to (within the time, in a large heap).
    """
    names = TypeNames()
    if wanted in names.plain.values():  # the collector does not track it
        return []
    kinds = {address for address, name in (names.collected | names.managed).items() if name == wanted}
    found = _upwards(kinds) if sys.getallocatedblocks() <= small_heap_blocks else _downwards(kinds)
    return [_described(link) for link in found] if len(found) > 1 else []


def _upwards(kinds: Collection[int]) -> list[object]:
    found = [link for link in gc.get_objects() if id(type(link)) in kinds]
    if not found:
        return []
    import objgraph

    modules = {id(module) for module in _modules()}
    links: list[object] = objgraph.find_backref_chain(found[-1], lambda link: id(link) in modules, max_depth=MAX_DEPTH)
    return links


def _downwards(kinds: Collection[int]) -> list[object]:
    """Breadth first. `links` is the queue too: each object with the place of what led to it."""
    links: list[tuple[object, int]] = [(module, -1) for module in _modules()]
    seen = {id(link) for link, _ in links}
    looks: list[tuple[int, float, object]] = []
    until = time.monotonic() + SEARCH_SECONDS
    for place, (holder, _) in enumerate(links):
        if time.monotonic() > until:
            break
        count, last = 0, None
        parts, all_count = _parts(holder)
        for part in parts:
            if id(type(part)) in kinds:
                count, last = count + 1, part
            if id(part) not in seen and len(links) < MOST_LINKS and gc.is_tracked(part):
                seen.add(id(part))
                links.append((part, place))
        looks.append((count, all_count / len(parts) if parts else 1.0, last))
    path = _heaviest(links, looks)
    first = next((depth for depth, link in enumerate(path) if id(type(link)) in kinds), len(path))
    return path[: first + 1]


def _modules() -> list[object]:
    return list(sys.modules.values())


def _heaviest(links: list[tuple[object, int]], looks: list[tuple[int, float, object]]) -> list[object]:
    """The way down on which most of the type lies. A look: how many were seen, times what, and one of them."""
    weights, heirs = [0.0] * len(looks), [-1] * len(looks)
    roots = []
    for place in range(len(looks) - 1, -1, -1):
        count, scale, _ = looks[place]
        weights[place] = (weights[place] + count) * scale
        parent = links[place][1]
        if parent < 0:
            roots.append(place)
        else:
            weights[parent] += weights[place]
            if heirs[parent] < 0 or weights[place] > weights[heirs[parent]]:
                heirs[parent] = place
    if not any(weights):
        return []
    place = max(roots, key=lambda root: weights[root])
    path = [links[place][0]]
    while heirs[place] >= 0 and weights[heirs[place]] > looks[place][0] and len(path) < MAX_DEPTH:
        place = heirs[place]
        path.append(links[place][0])
    return [*path, looks[place][2]] if looks[place][0] else path


def _parts(holder: Any) -> tuple[list[object], int]:
    """What it refers to, and how much that is in all. Of a container only the first: all would stop the program.

    By the methods of the built-in kinds, and by its type, which isinstance would ask the object for: what a subclass or
    a proxy of the program's makes of them is not to be run here.
    """
    held = type(holder)
    try:
        if issubclass(held, dict):
            halves = (islice(dict.values(holder), MOST_PARTS), islice(dict.keys(holder), MOST_PARTS))
            return list(chain(*halves)), 2 * dict.__len__(holder)
        for kind in CONTAINERS:
            if issubclass(held, kind):
                return list(islice(kind.__iter__(holder), MOST_PARTS)), kind.__len__(holder)
    except RuntimeError:  # another thread has just changed it
        return [], 0
    parts = gc.get_referents(holder)
    return parts, len(parts)


def _described(link: object) -> str:
    kind = type_name(type(link)).rpartition(".")[2]
    name = getattr(link, "__name__", "") if kind in ("module", "function", "type") else ""
    return f"{kind} {name}".strip()[:LONGEST_TEXT]
