"""Functions that leak a known number of bytes with each call, and functions that look as if they did.

Each entry builds one call. A leak's figure is the least that stays behind with each call, 100 bytes or more.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import ctypes
import datetime
import functools
import io
import json
import logging
import mmap
import random
import re
import sqlite3
import threading
import weakref
import zlib
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy

Build = Callable[[], Callable[[], object]]


def appended(size: int, *, each: int = 1) -> Build:
    """Every `each`-th call appends that many bytes to a list."""

    def build() -> Callable[[], object]:
        kept: list[bytes] = []
        numbers = count()
        return lambda: kept.append(bytes(size)) if next(numbers) % each == 0 else None

    return build


def leaked_malloc(size: int) -> Build:
    def build() -> Callable[[], object]:
        libc = ctypes.CDLL(None)
        libc.malloc.restype = ctypes.c_void_p
        return lambda: libc.malloc(size)

    return build


def unbounded_dict() -> Callable[[], object]:
    pages: dict[str, str] = {}
    numbers = count()
    return lambda: pages.setdefault(f"page {next(numbers)}", "x" * 80)


def unbounded_lru() -> Callable[[], object]:
    numbers = count(10**6)
    cached = functools.lru_cache(maxsize=None)(str)
    return lambda: cached(next(numbers))


def listeners() -> Callable[[], object]:
    registered: list[Callable[[], object]] = []
    return lambda: registered.append(lambda: registered)


def finalizers() -> Callable[[], object]:
    class Owner:
        pass

    owner = Owner()
    return lambda: weakref.finalize(owner, len, "x" * 100)


def timers_never_due() -> Callable[[], object]:
    loop = asyncio.new_event_loop()
    return lambda: loop.call_later(1e6, len, "")


def tracebacks() -> Callable[[], object]:
    kept: list[Exception] = []

    def call() -> None:
        try:
            raise ValueError("x" * 40)
        except ValueError as error:
            kept.append(error)

    return call


def lost_reference() -> Callable[[], object]:
    def call() -> None:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(bytearray(100)))

    return call


def classes() -> Callable[[], object]:
    registry: list[type] = []
    return lambda: registry.append(type("Row", (), {}))


def views_of_arrays() -> Callable[[], object]:
    kept: list[Any] = []
    return lambda: kept.append(numpy.zeros(1000)[:1])


def amid_churn() -> Callable[[], object]:
    kept: list[bytes] = []

    def call() -> None:
        churn = [bytes(300) for _ in range(500)]
        kept.append(bytes(len(churn) // 5))

    return call


def mappings() -> Callable[[], object]:
    kept: list[mmap.mmap] = []

    def call() -> None:
        mapping = mmap.mmap(-1, 4096)
        mapping[0] = 1
        kept.append(mapping)

    return call


def numbered_loggers() -> Callable[[], object]:
    numbers = count()
    return lambda: logging.getLogger(f"benchmark.session{next(numbers)}")


LEAKS: dict[str, tuple[int, Build]] = {
    "bytes in a list, 100 B": (100, appended(67)),
    "bytes in a list, 1 KB": (1024, appended(1024)),
    "bytes in a list, 1 KB every tenth call": (100, appended(1000, each=10)),
    "dict without bound": (129, unbounded_dict),
    "lru_cache(maxsize=None)": (100, unbounded_lru),
    "listeners never removed": (100, listeners),
    "weakref.finalize of an owner that stays": (100, finalizers),
    "timers of an event loop": (100, timers_never_due),
    "exceptions with their tracebacks": (200, tracebacks),
    "a reference too many": (157, lost_reference),
    "classes": (1000, classes),
    "a view that keeps its array": (8000, views_of_arrays),
    "100 B amid 150 KB of churn": (100, amid_churn),
    "a logger for each session": (200, numbered_loggers),
    "malloc, 100 B": (100, leaked_malloc(100)),
    "malloc, 5 KB": (5000, leaked_malloc(5000)),
    "memory maps": (4096, mappings),
}


def lru(entries: int, size: int) -> Build:
    def build() -> Callable[[], object]:
        numbers = count()
        page = functools.lru_cache(maxsize=entries)(lambda number: bytes(size + number % 2))
        return lambda: page(next(numbers))

    return build


def random_keys() -> Callable[[], object]:
    """A table of at most 300 entries that fills ever more slowly."""
    table: dict[int, bytes] = {}
    chance = random.Random(1)
    return lambda: table.setdefault(chance.randrange(300), bytes(500))


def cycles() -> Callable[[], object]:
    def call() -> None:
        node: list[Any] = [bytes(1000)]
        node.append(node)

    return call


def bounded_deque() -> Callable[[], object]:
    recent: collections.deque[bytes] = collections.deque(maxlen=300)
    chance = random.Random(2)
    return lambda: recent.append(bytes(chance.randrange(200, 4000)))


def saw_tooth() -> Callable[[], object]:
    """A buffer that is written out every 64 calls."""
    buffer: list[bytes] = []

    def call() -> None:
        buffer.append(bytes(2000))
        if len(buffer) >= 64:
            buffer.clear()

    return call


def patterns() -> Callable[[], object]:
    numbers = count()
    return lambda: re.compile(f"a{next(numbers) % 700}b+")


def arrays() -> Callable[[], object]:
    chance = random.Random(3)
    return lambda: float(numpy.sqrt(numpy.arange(chance.randrange(1, 60_000))).sum())


def logged() -> Callable[[], object]:
    stream = io.StringIO()
    logger = logging.Logger("benchmark")
    logger.addHandler(logging.StreamHandler(stream))

    def call() -> None:
        logger.warning("a line of %d", 5)
        stream.seek(0)
        stream.truncate()

    return call


def database() -> Callable[[], object]:
    connection = sqlite3.connect(":memory:")
    connection.execute("create table pages (name text)")

    def call() -> None:
        connection.execute("insert into pages values (?)", ("x" * 500,))
        connection.execute("delete from pages")

    return call


def raising() -> Callable[[], object]:
    def call() -> None:
        with contextlib.suppress(ValueError):
            int("no number")

    return call


def a_thread() -> Callable[[], object]:
    def call() -> None:
        thread = threading.Thread(target=sum, args=([1, 2],))
        thread.start()
        thread.join()

    return call


def late_import() -> Callable[[], object]:
    """A module that a branch first needs after 30 calls."""
    numbers = count()

    def call() -> object:
        if next(numbers) < 30:
            return None
        import imaplib

        return imaplib

    return call


def survivors() -> Callable[[], object]:
    """Blocks of all sizes, of which any hundred live."""
    chance = random.Random(4)
    slots: list[bytes] = [b""] * 100

    def call() -> None:
        slots[chance.randrange(100)] = bytes(chance.randrange(10, 20_000))

    return call


def coroutines() -> Callable[[], object]:
    async def nothing() -> None:
        await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    return lambda: loop.run_until_complete(nothing())


CLEAN: dict[str, Build] = {
    "a sum": lambda: lambda: sum(range(100)),
    "tuples of many lengths": lambda: lambda: [tuple(range(length)) for length in range(18)],
    "many small objects": lambda: lambda: [object() for _ in range(2000)],
    "lru_cache(128) of 4 KB": lru(128, 4000),
    "lru_cache(512) of 4 KB": lru(512, 4000),
    "lru_cache(1024) of 1 KB": lru(1024, 1000),
    "300 keys at random": random_keys,
    "cyclic garbage": cycles,
    "deque(maxlen=300)": bounded_deque,
    "a buffer written out every 64 calls": saw_tooth,
    "700 regular expressions": patterns,
    "JSON there and back": lambda: lambda: json.loads(json.dumps({"rows": list(range(200))})),
    "numpy arrays of all sizes": arrays,
    "logging": logged,
    "sqlite": database,
    "exceptions raised and caught": raising,
    "a thread": a_thread,
    "an import after 30 calls": late_import,
    "100 survivors of all sizes": survivors,
    "coroutines": coroutines,
    "compression": lambda: lambda: zlib.decompress(zlib.compress(b"text " * 2000)),
    "dates": lambda: lambda: datetime.datetime.strptime("2024-02-29", "%Y-%m-%d"),
}


def all_cases() -> Iterator[tuple[str, int, Build]]:
    """Name, bytes that leak with each call, and what builds the call."""
    for name, (size, build) in LEAKS.items():
        yield name, size, build
    for name, build in CLEAN.items():
        yield name, 0, build
