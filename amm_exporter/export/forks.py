"""What a fork does to an exporter: one hook for all readers, and an OpenTelemetry SDK that a child can use.

A forked child has one thread, and copies of its parent's locks, counters and descriptors. A lock that another thread
held at that moment is held for ever in the child; a counter that stood at 50 would be counted twice.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any, Protocol

from amm_exporter.control import forks

log = logging.getLogger("amm.export")

_LOCK, _RLOCK = type(threading.Lock()), type(threading.RLock())


class ForkAware(Protocol):
    """Something with threads, locks or descriptors."""

    def before_fork(self) -> None: ...

    def after_fork_in_parent(self) -> None: ...

    def after_fork_in_child(self) -> None: ...


# os.register_at_fork cannot be undone: one registration serves all, and the set forgets what nobody else holds.
_AWARE: weakref.WeakSet[ForkAware] = weakref.WeakSet()
_registered = threading.Lock()


def follow_forks(aware: ForkAware) -> None:
    """Tell `aware` of every fork from now on, for as long as it lives."""
    _AWARE.add(aware)
    if hasattr(os, "register_at_fork") and _registered.acquire(blocking=False):
        forks.follow_forks()  # first: a scrape in the child takes the governor's locks
        os.register_at_fork(
            before=lambda: _tell("before_fork"),
            after_in_parent=lambda: _tell("after_fork_in_parent"),
            after_in_child=lambda: _tell("after_fork_in_child"),
        )


def ignore_forks(aware: ForkAware) -> None:
    _AWARE.discard(aware)


def _tell(moment: str) -> None:
    for aware in tuple(_AWARE):
        try:
            getattr(aware, moment)()
        except Exception:  # the program's fork must succeed whatever becomes of its metrics
            log.exception("metrics may be wrong after this fork")


def hand_over_at_exit(node: Any) -> None:
    """Have a child of multiprocessing, or of Celery's billiard, close its node: it ends without atexit.

    Called in the child before those libraries' own start-up code, which drops the parent's finalizers.
    """
    for name in ("multiprocessing.util", "billiard.util"):
        util: Any = sys.modules.get(name)
        if util is not None:
            util.register_after_fork(node, lambda node, util=util: util.Finalize(None, node.close, exitpriority=0))
    signals: Any = sys.modules.get("celery.signals")
    if signals is not None:  # a pool's worker runs no finalizers either
        signals.worker_process_shutdown.connect(lambda **_: node.close(), weak=False)


def begin_anew(consumer: object, reader: object) -> None:
    """In a forked child: count from zero for this reader, under locks that nobody holds.

    The SDK offers neither; its measurement consumer keeps one storage for each reader, made as here (1.39 to 1.45).
    Where that is not so in some version, the child's counters start at its parent's, and that is logged.
    """
    remake_locks(consumer)
    owner: Any = consumer
    wanted: Any = reader
    try:
        storages = owner._reader_storages
        fresh = type(storages[wanted])(
            owner._sdk_config, wanted._instrument_class_temporality, wanted._instrument_class_aggregation
        )
        owner._reader_storages = {**storages, wanted: fresh}
    except (AttributeError, KeyError, TypeError) as error:
        log.warning("counters of a forked child go on from its parent's with this OpenTelemetry SDK: %r", error)


def observables(consumer: object) -> list[tuple[str, str]]:
    """Name and unit of the instruments whose values come from callbacks: a child inherits what the program counted."""
    return [(instrument.name, instrument.unit) for instrument in getattr(consumer, "_async_instruments", ())]


def remake_locks(root: object) -> None:
    """Replace every lock inside the SDK's metrics objects under `root` (a measurement consumer): for forked children.

    Found by type, not by name, so that a lock which a later SDK adds is found too.
    """
    pending, seen = [root], set[int]()
    while pending:
        found = pending.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        for name, value in list(_attributes(found)):
            if isinstance(value, (_LOCK, _RLOCK)):
                setattr(found, name, threading.Lock() if isinstance(value, _LOCK) else threading.RLock())
            else:
                pending.extend(_sdk_objects(value))


def _attributes(found: object) -> Iterator[tuple[str, object]]:
    yield from vars(found).items() if hasattr(found, "__dict__") else ()


def _sdk_objects(value: object) -> list[object]:
    if isinstance(value, dict):
        items = list(value.values())
    elif isinstance(value, (list, tuple)):
        items = list(value)
    else:
        items = [value]
    nested = [item for item in items if isinstance(item, (list, tuple))]
    items += [inner for item in nested for inner in item]
    return [item for item in items if type(item).__module__.startswith("opentelemetry.sdk.metrics")]
