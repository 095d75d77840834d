"""A whole series in bounded memory: blocks of samples, finer for the recent past. Knows nothing of leaks.

Level 0 holds the last samples, each further level blocks of twice as many; every level keeps the last `DEPTH` blocks,
so memory is O(log n) and adding a sample costs two merges on average.
"""

from __future__ import annotations

from collections import deque

DEPTH = 64
"""Blocks kept on each level. Any stretch of the past is seen in at least DEPTH / 2 of them."""

Block = tuple[float, float, float]
"""Mean time, mean value, smallest value of 2**level consecutive samples."""


class Pyramid:
    """Blocks of 1, 2, 4, ... samples. Times must not decrease."""

    __slots__ = ("_levels", "_odd", "count")

    def __init__(self) -> None:
        self.count = 0
        self._levels: list[deque[Block]] = [deque(maxlen=DEPTH)]
        self._odd: list[Block | None] = [None]

    def add(self, time: float, value: float) -> None:
        self.count += 1
        block, level, levels, odd = (time, value, value), 0, self._levels, self._odd
        while True:
            levels[level].append(block)
            first = odd[level]
            if first is None:
                odd[level] = block
                return
            odd[level] = None
            block = ((first[0] + block[0]) / 2, (first[1] + block[1]) / 2, min(first[2], block[2]))
            level += 1
            if level == len(levels):
                levels.append(deque(maxlen=DEPTH))
                odd.append(None)

    @property
    def height(self) -> int:
        return len(self._levels)

    def level(self, level: int) -> deque[Block]:
        return self._levels[level]

    def since(self, start: float) -> tuple[int, list[Block]]:
        """The finest level that reaches back to `start`, and its blocks from there on."""
        for level, blocks in enumerate(self._levels):
            if len(blocks) < DEPTH or blocks[0][0] <= start or level == len(self._levels) - 1:
                break
        # a coarser level may end earlier than a finer one by less than one block
        return level, [block for block in blocks if block[0] >= start]
