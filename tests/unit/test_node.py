"""When a process wakes up to keep the house of its family: not while it is alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from amm_exporter.export import node as node_module
from amm_exporter.export.node import Node


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Node]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(node_module, "PUBLISH_SECONDS", 0.05)
    alone = Node("127.0.0.1", 0, list)
    alone.start()
    yield alone
    alone.close()


def happens(what: Callable[[], object]) -> bool:
    end = time.monotonic() + 10
    while not what() and time.monotonic() < end:
        time.sleep(0.005)
    return bool(what())


def counted(monkeypatch: pytest.MonkeyPatch, node: Node) -> list[float]:
    looks: list[float] = []
    keep_house = node._keep_house

    def look() -> None:
        looks.append(time.monotonic())
        keep_house()

    monkeypatch.setattr(node, "_keep_house", look)
    return looks


def test_a_process_that_is_alone_looks_once_and_again_after_a_fork(monkeypatch: pytest.MonkeyPatch, node: Node) -> None:
    looks = counted(monkeypatch, node)
    assert happens(lambda: not node._keeps_house)
    seen = len(looks)
    time.sleep(0.2)
    assert len(looks) == seen
    node.before_fork()
    node.after_fork_in_parent()
    assert happens(lambda: len(looks) == seen + 1)
    assert happens(lambda: not node._keeps_house)


def test_a_process_with_a_sibling_goes_on_looking(monkeypatch: pytest.MonkeyPatch, node: Node) -> None:
    assert happens(lambda: not node._keeps_house)
    looks = counted(monkeypatch, node)
    assert node._member is not None
    monkeypatch.setattr(node._member, "has_company", lambda: True)
    node.before_fork()
    node.after_fork_in_parent()
    assert happens(lambda: len(looks) > 3)
    assert happens(lambda: node._member is not None and node._member.published_at > looks[0])
