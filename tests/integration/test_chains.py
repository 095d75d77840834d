"""What keeps objects of a type alive: upwards with objgraph, downwards in a large heap."""

from __future__ import annotations

import gc
import sys
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterator

import pytest

from amm_exporter.control.chains import chain_to

SMALL, LARGE = {"small_heap_blocks": 10**9}, {"small_heap_blocks": 0}
HERE = f"module {__name__}"


class Order:
    pass


class Nobody:
    pass


class Hostile(list):  # type: ignore[type-arg]
    """Ends the test if anything of it is called."""

    def __iter__(self) -> Iterator[object]:
        pytest.fail("__iter__ was called")

    def __len__(self) -> int:
        pytest.fail("__len__ was called")

    def __hash__(self) -> int:
        pytest.fail("__hash__ was called")

    def __eq__(self, other: object) -> bool:
        pytest.fail("__eq__ was called")


class Unhelpful(type):
    """Its classes can neither be compared, put into a dict nor asked for their names."""

    def __getattribute__(cls, name: str) -> object:
        pytest.fail(f"{name} was asked for")

    def __eq__(cls, other: object) -> bool:
        pytest.fail("__eq__ was called")


class Lazy:
    """Ends the test if it is asked for its class, as isinstance does."""

    @property
    def __class__(self) -> type:  # type: ignore[override]
        pytest.fail("__class__ was asked for")


KEPT: list[object] = []
ORDER = f"{__name__}.Order"


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    yield
    KEPT.clear()


@pytest.fixture(autouse=True)
def no_need_to_search_all_that_other_tests_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amm_exporter.control.chains._modules", lambda: [sys.modules[__name__]])
    monkeypatch.setattr("amm_exporter.control.chains.SEARCH_SECONDS", 20.0)


@pytest.mark.parametrize("heap", [SMALL, LARGE], ids=["upwards", "downwards"])
@pytest.mark.parametrize(
    ("held", "between"),
    [
        (lambda order: order, []),
        (lambda order: {"orders": [order]}, ["dict", "list"]),
        (lambda order: OrderedDict({"orders": deque([order])}), ["OrderedDict", "deque"]),
        (lambda order: ({order},), ["tuple", "set"]),
    ],
    ids=["directly", "in a dict", "in collections", "in a set"],
)
def test_the_chain_leads_from_a_module_to_the_object(heap: dict[str, int], held: object, between: list[str]) -> None:
    KEPT.append(held(Order()))  # type: ignore[operator]
    assert chain_to(ORDER, **heap) == [HERE, "dict", "list", *between, "Order"]


@pytest.mark.parametrize("heap", [SMALL, LARGE], ids=["upwards", "downwards"])
@pytest.mark.parametrize("name", [f"{__name__}.Nobody", "no.such.Type", "str", "int"])
def test_no_chain_to_what_is_not_there_or_not_tracked(heap: dict[str, int], name: str) -> None:
    assert chain_to(name, **heap) == []


@pytest.mark.parametrize("heap", [SMALL, LARGE], ids=["upwards", "downwards"])
def test_no_chain_to_what_no_module_leads_to(heap: dict[str, int]) -> None:
    order = Order()
    assert chain_to(ORDER, **heap) == []
    del order


def test_a_large_heap_is_searched_for_the_container_that_holds_most() -> None:
    few, many = [Order() for _ in range(5000)], deque(Order() for _ in range(20_000))
    KEPT.append({"few": few, "many": many})
    assert chain_to(ORDER, **LARGE) == [HERE, "dict", "list", "dict", "deque", "Order"]


def test_what_each_instance_has_one_of_is_sought_where_the_instances_are() -> None:
    class Row:
        def __init__(self) -> None:
            self.order = Order()

    KEPT.append({"some": [Order() for _ in range(50)], "rows": [Row() for _ in range(3000)]})
    found = chain_to(ORDER, **LARGE)
    assert (found[:5], found[-1]) == ([HERE, "dict", "list", "dict", "list"], "Order")
    assert "Row" in found


def test_a_chain_of_the_type_itself_is_followed_to_its_first() -> None:
    KEPT.append(Order())
    last = KEPT[-1]
    for _ in range(1000):
        last.next = last = Order()  # type: ignore[attr-defined]
    assert chain_to(ORDER, **LARGE) == [HERE, "dict", "list", "Order"]


def test_nothing_of_the_programs_own_is_called() -> None:
    KEPT.append(Hostile([Order()]))
    assert chain_to(ORDER, **LARGE) == [HERE, "dict", "list", "Hostile", "Order"]
    KEPT.clear()


@pytest.mark.parametrize("heap", [SMALL, LARGE], ids=["upwards", "downwards"])
def test_a_proxy_is_not_asked_what_it_stands_for(heap: dict[str, int]) -> None:
    """As the settings of Django, which would be set up."""
    lazy = Lazy()
    lazy.order = Order()  # type: ignore[attr-defined]
    KEPT.append(lazy)
    found = chain_to(ORDER, **heap)
    assert (found[:4], found[-1]) == ([HERE, "dict", "list", "Lazy"], "Order")
    KEPT.clear()


@pytest.mark.parametrize("heap", [SMALL, LARGE], ids=["upwards", "downwards"])
def test_a_class_is_not_asked_what_it_is(heap: dict[str, int]) -> None:
    kind = Unhelpful("Kind", (), {})
    KEPT.append([object.__new__(kind), Order()])
    assert chain_to(ORDER, **heap) == [HERE, "dict", "list", "list", "Order"]
    KEPT.clear()


def test_a_search_keeps_nothing_alive() -> None:
    order = Order()
    KEPT.append(order)
    for heap in (SMALL, LARGE):
        assert chain_to(ORDER, **heap)
    reference = weakref.ref(order)
    KEPT.clear()
    del order
    gc.collect()
    assert reference() is None
