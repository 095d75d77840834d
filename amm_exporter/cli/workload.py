"""The demo's job: an index over Python's own standard library that answers look-ups from a cache of syntax dumps.

Real parsing of real files; which file is asked for follows a power law, as requests do. How much the cache may hold is
the plan's `cached_files` for the tier in force, so the job adapts; the leak, when switched on, does not.
"""

from __future__ import annotations

import ast
import random
import sysconfig
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

SMALLEST_BYTES, LARGEST_BYTES = 8_000, 120_000
RECEIPT_BYTES, RECEIPTS_EACH = 400, 80


class Receipt(bytes):
    """A part of what was answered to a look-up."""


RECEIPTS: list[Receipt] = []
"""The leak: with it on, every look-up adds receipts that nobody reads. In a module, where most real ones are."""


class Index:
    """Dumps of the library's modules (or of so many of them), the most recently used ones kept."""

    def __init__(self, capacity: Callable[[], int], *, leak: bool, modules: int | None = None, seed: int = 7) -> None:
        self._capacity = capacity
        self._leak = leak
        self._random = random.Random(seed)
        self._files = _library(self._random)[:modules]
        self._cache: OrderedDict[Path, str] = OrderedDict()
        self.lookups = 0
        self.parsed = 0
        self.definitions = 0

    def work(self, batch_size: int) -> None:
        """Answer a batch of look-ups."""
        for _ in range(batch_size):
            self._look_up(self._files[int(len(self._files) * self._random.random() ** 2)])

    @property
    def cached(self) -> int:
        return len(self._cache)

    @property
    def leaked(self) -> int:
        return len(RECEIPTS) // RECEIPTS_EACH

    @property
    def hit_ratio(self) -> float:
        return 1 - self.parsed / self.lookups if self.lookups else 0.0

    def _look_up(self, path: Path) -> None:
        self.lookups += 1
        if path in self._cache:
            self._cache.move_to_end(path)
        else:
            self._cache[path] = self._dump(path)
        if self._leak:
            self._file_receipts(self._cache[path].encode())
        while len(self._cache) > max(1, self._capacity()):
            self._cache.popitem(last=False)

    def _file_receipts(self, answer: bytes) -> None:
        for start in range(0, RECEIPT_BYTES * RECEIPTS_EACH, RECEIPT_BYTES):
            RECEIPTS.append(Receipt(answer[start : start + RECEIPT_BYTES]))

    def _dump(self, path: Path) -> str:
        self.parsed += 1
        tree = ast.parse(path.read_bytes())
        self.definitions += sum(isinstance(node, (ast.FunctionDef, ast.ClassDef)) for node in tree.body)
        return ast.dump(tree, include_attributes=True)


def _library(shuffler: random.Random) -> list[Path]:
    """Modules of the standard library, in a fixed random order of popularity."""
    root = Path(sysconfig.get_path("stdlib"))
    files = [
        path
        for path in sorted(root.rglob("*.py"))
        if not {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3"}.intersection(path.parts)
        and SMALLEST_BYTES <= path.stat().st_size <= LARGEST_BYTES
    ]
    shuffler.shuffle(files)
    return files
