"""The process tree over time, for the page and the JSON report."""

from __future__ import annotations

from pytest_amm.board import POINT_COUNT, Board


class Timeline:
    """The tree over time, in a bounded number of points: when they are full, every two become their maximum."""

    def __init__(self, board: Board, interval_seconds: float = 0.05) -> None:
        self._board = board
        self._interval_seconds = interval_seconds
        self._points: list[tuple[float, int]] = []

    def add(self, unix_seconds: float, tree_bytes: int) -> None:
        points = self._points
        if points and unix_seconds - points[-1][0] < self._interval_seconds:
            if tree_bytes > points[-1][1]:
                points[-1] = (points[-1][0], tree_bytes)
                self._board.write_points(points, len(points) - 1)
            return
        if len(points) == POINT_COUNT:
            pairs = zip(points[::2], points[1::2], strict=True)
            self._points = points = [(first[0], max(first[1], second[1])) for first, second in pairs]
            self._interval_seconds *= 2
            self._board.write_points(points)
        points.append((unix_seconds, tree_bytes))
        self._board.write_points(points, len(points) - 1)
