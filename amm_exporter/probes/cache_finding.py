"""Functions decorated by `functools.lru_cache` and `functools.cache`, found in the loaded modules of a package."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Iterator
from typing import Any

from amm_exporter.errors import AMMError, nearest

_LRU_CACHE: type = type(functools.lru_cache(maxsize=1)(lambda: None))


def is_lru_cache(obj: Any) -> bool:
    """Asked by type(): isinstance would wake the lazy proxies that lie around in modules."""
    return type(obj) is _LRU_CACHE


def why_none(package: str) -> str:
    """Raises AMMError for a package that cannot be imported."""
    if any(name == package or name.startswith(package + ".") for name in list(sys.modules)):
        return "no loaded module of it has a function decorated by functools.lru_cache or functools.cache"
    if not may_be_imported(package):
        near = nearest(package, list(sys.modules))
        hint = f"did you mean {near!r}?" if near else "expected the name of a module, as it is imported"
        raise AMMError(f"cannot watch all of {package!r}: no such module; {hint}")
    return "it is not imported yet; call watch_all after its import"


def may_be_imported(package: str) -> bool:
    """Imports nothing: of `a.b`, with `a` not loaded, only `a` is looked for."""
    parent, _, _ = package.rpartition(".")
    try:
        return importlib.util.find_spec(package if parent in sys.modules else package.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False


def decorated_functions(package: str) -> Iterator[tuple[str, Any]]:
    """Names and lru_cache objects in the loaded modules of a package, methods of its classes included."""
    for module_name, module in list(sys.modules.items()):
        if module is not None and (module_name == package or module_name.startswith(package + ".")):
            yield from _decorated_in(module_name, vars(module), set())


def _decorated_in(module_name: str, namespace: Any, seen: set[int]) -> Iterator[tuple[str, Any]]:
    for value in list(namespace.values()):
        inner = value.__func__ if type(value) in (staticmethod, classmethod) else value
        if is_lru_cache(inner):
            if inner.__module__ == module_name:  # what was imported from elsewhere is found there
                yield f"{module_name}.{inner.__qualname__}", inner
        elif issubclass(type(inner), type) and inner.__module__ == module_name and id(inner) not in seen:
            seen.add(id(inner))
            yield from _decorated_in(module_name, vars(inner), seen)
