"""When a node tells its upkeep that company is to be expected, and what it gives it to keep."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from amm_exporter.export import family_upkeep
from amm_exporter.export.node import Node


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Node]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(family_upkeep, "UPKEEP_SECONDS", 0.02)
    alone = Node("127.0.0.1", 0, list)
    alone.start()
    yield alone
    alone.close()


def happens(what: Callable[[], object]) -> bool:
    end = time.monotonic() + 10
    while not what() and time.monotonic() < end:
        time.sleep(0.005)
    return bool(what())


def looks_of(node: Node, monkeypatch: pytest.MonkeyPatch, *, company: bool) -> list[float]:
    """When its member has been asked for company."""
    looks: list[float] = []
    assert node._member is not None
    monkeypatch.setattr(node._member, "has_company", lambda: looks.append(time.monotonic()) or company)
    return looks


def test_a_fork_lets_company_expect(monkeypatch: pytest.MonkeyPatch, node: Node) -> None:
    assert happens(lambda: not node._upkeep._expecting)
    looks = looks_of(node, monkeypatch, company=False)
    node.before_fork()
    node.after_fork_in_parent()
    assert happens(lambda: looks)
    assert len(looks) == 1


def test_what_is_published_for_the_company_is_the_members(monkeypatch: pytest.MonkeyPatch, node: Node) -> None:
    assert happens(lambda: not node._upkeep._expecting)
    looks = looks_of(node, monkeypatch, company=True)
    node.before_fork()
    node.after_fork_in_parent()
    assert happens(lambda: looks and node._member is not None and node._member.published_at > looks[0])
