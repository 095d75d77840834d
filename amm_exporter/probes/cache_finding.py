"""Functions decorated by `functools.lru_cache` and `functools.cache`, found in the loaded modules of a package."""

from __future__ import annotations

import functools
import importlib.util
import sys
import types
from collections.abc import Iterator
from typing import Any

from amm_exporter.errors import AMMError, nearest

_LRU_CACHE: type = type(functools.lru_cache(maxsize=1)(lambda: None))
_MODULE_NAMESPACE: Any = vars(types.ModuleType)["__dict__"]
_CLASS_NAMESPACE: Any = vars(type)["__dict__"]
MOST_WRAPPERS = 10


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
    seen: set[int] = set()
    for module_name in list(sys.modules):
        if module_name == package or module_name.startswith(package + "."):
            yield from _decorated_in(module_name, module_name, _module_namespace(module_name), seen)


def _decorated_in(module_name: str, path: str, namespace: Any, seen: set[int]) -> Iterator[tuple[str, Any]]:
    for name, value in list(namespace.items()):
        inner = _unwrapped(value)
        if id(inner) in seen:
            continue
        if is_lru_cache(inner):
            if inner.__module__ == module_name or not _is_in(inner, inner.__module__):
                seen.add(id(inner))
                yield f"{path}.{name}", inner
        elif issubclass(type(inner), type):
            inside = _CLASS_NAMESPACE.__get__(inner)
            if inside.get("__module__") == module_name:
                seen.add(id(inner))
                yield from _decorated_in(module_name, f"{path}.{name}", inside, seen)


def _unwrapped(value: Any) -> Any:
    """What lies beneath a method's decorator, and beneath functions that name what they wrap (functools.wraps)."""
    if type(value) in (staticmethod, classmethod):
        value = value.__func__
    elif type(value) is property:
        value = value.fget
    for _ in range(MOST_WRAPPERS):
        if type(value) is not types.FunctionType or "__wrapped__" not in vars(value):
            break
        value = vars(value)["__wrapped__"]
    return value


def _is_in(function: Any, home: object) -> bool:
    """What was imported from elsewhere is found there. A cache made here for a function of elsewhere is not."""
    return any(_unwrapped(value) is function for value in list(_module_namespace(home).values()))


def _module_namespace(name: object) -> Any:
    """By the module's own slot: what a lazy module makes of `__dict__` would import what it stands for."""
    module = sys.modules.get(name) if isinstance(name, str) else None
    return _MODULE_NAMESPACE.__get__(module) if issubclass(type(module), types.ModuleType) else {}
