"""Tests of aggregator.dashboard.listing."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from aggregator.dashboard import listing, queries
from aggregator.dashboard.queries import Query
from tests.unit.aggregator.dashboard import examples

MANY = examples.view(
    *(examples.vm(f"v{number}", f"vm-{number:03}") for number in range(250))
)


@pytest.mark.parametrize(
    ("number", "first", "last"),
    [
        pytest.param(1, "vm-000", "vm-099", id="first"),
        pytest.param(3, "vm-200", "vm-249", id="last"),
        pytest.param(9, "vm-200", "vm-249", id="behind-the-last"),
        pytest.param(-2, "vm-000", "vm-099", id="before-the-first"),
    ],
)
def test_vm_page_is_cut_by_name(number: int, first: str, last: str) -> None:
    page = listing.vm_page(MANY, Query(), number)
    assert (page.items[0].name, page.items[-1].name) == (first, last)


def test_vm_page_says_what_it_shows() -> None:
    page = listing.vm_page(MANY, Query(), 3)
    assert (page.first, page.last, page.total, page.pages) == (201, 250, 250, 3)


def test_vm_page_is_empty_when_nothing_fits() -> None:
    page = listing.vm_page(MANY, queries.parse("nothing"), 1)
    assert (page.items, page.first, page.last, page.pages) == ((), 0, 0, 1)


@given(some.integers(1, 4), some.sampled_from(["", "vm-1", "name=vm-*", "vm-24*"]))
def test_pages_hold_every_vm_once(number: int, text: str) -> None:
    query = queries.parse(text)
    pages = listing.vm_page(MANY, query, number).pages
    shown = [
        vm.vm_id
        for each in range(1, pages + 1)
        for vm in listing.vm_page(MANY, query, each).items
    ]
    assert len(shown) == len(set(shown)) == listing.vm_page(MANY, query, 1).total


def test_node_page_sorts_names_in_any_case() -> None:
    nodes = tuple(examples.node(name, name) for name in ("elm", "Ash", "oak"))
    page = listing.node_page(examples.view(nodes=nodes), Query(), 1)
    assert [node.name for node in page.items] == ["Ash", "elm", "oak"]


def test_vms_of_node_leaves_out_those_of_others() -> None:
    nodes = (examples.node("n1", "oak"), examples.node("n2", "elm"))
    view = examples.view(
        examples.vm("v1", "mine"), examples.vm("v2", "other", node_id="n2"), nodes=nodes
    )
    page = listing.vms_of_node(view, view.nodes[nodes[0].node_id], 1)
    assert [vm.name for vm in page.items] == ["mine"]
