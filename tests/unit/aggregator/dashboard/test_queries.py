"""Tests of aggregator.dashboard.queries."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as some

from aggregator.dashboard import queries
from aggregator.dashboard.queries import Query, Term, Wanted
from aggregator.federation.view import VmView
from node.model.ids import NodeId
from node.model.vm import VmState
from tests.unit.aggregator.dashboard import examples


@pytest.mark.parametrize(
    ("text", "query"),
    [
        pytest.param("", Query(), id="empty"),
        pytest.param("Web oak", Query(terms=(Term("web"), Term("oak"))), id="words"),
        pytest.param(
            "Vms: status = up and name!=web*",
            Query(
                Wanted.VMS,
                (Term("up", "status"), Term("web*", "name", is_negated=True)),
            ),
            id="ovirt",
        ),
        pytest.param("hosts:", Query(Wanted.NODES), id="only-the-kind"),
        pytest.param(
            'name="web 1"', Query(terms=(Term("web 1", "name"),)), id="quoted"
        ),
        pytest.param("fd00::11", Query(terms=(Term("fd00::11"),)), id="ipv6-address"),
        pytest.param("note:x", Query(terms=(Term("note:x"),)), id="unknown-kind"),
    ],
)
def test_parse_reads_words_and_fields(text: str, query: Query) -> None:
    assert queries.parse(text) == query


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("colour=red", id="unknown-field"),
        pytest.param("x" * 501, id="too-long"),
    ],
)
def test_parse_refuses_what_nobody_can_mean(text: str) -> None:
    with pytest.raises(queries.BadQuery):
        queries.parse(text)


VM = examples.vm(
    name="Web-1", addresses=("10.0.0.11",), description="shop front", vm_id="abc-9"
)
NFC, NFD = "caf\u00e9", "cafe\u0301"


def _is_found(vm: VmView, text: str) -> bool:
    return queries.find_vms(examples.view(vm), queries.parse(text)) == [vm]


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        pytest.param("web", True, id="part-of-name-in-any-case"),
        pytest.param("shop web", True, id="all-words"),
        pytest.param("shop mail", False, id="one-word-missing"),
        pytest.param("oak", True, id="node"),
        pytest.param("10.0.0.11", True, id="address"),
        pytest.param("w*1", True, id="wildcard"),
        pytest.param("w*0.11", False, id="wildcard-within-one-text"),
        pytest.param("w*1 shop", True, id="wildcard-and-word"),
        pytest.param("name=web", False, id="field-is-whole"),
        pytest.param("name=web*", True, id="field-with-wildcard"),
        pytest.param("status=up", True, id="status"),
        pytest.param("status!=up", False, id="negated"),
        pytest.param("node=oak address=10.0.*", True, id="two-fields"),
        pytest.param("alert=no", True, id="no-alert"),
        pytest.param("id=abc-9", True, id="id"),
        pytest.param("[web]", False, id="brackets-mean-themselves"),
        pytest.param("name=[w]*", False, id="brackets-in-a-field-too"),
    ],
)
def test_find_vms_finds_what_is_meant(text: str, is_found: bool) -> None:
    assert _is_found(VM, text) is is_found


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        pytest.param("oak", True, id="name"),
        pytest.param("192.0.2", True, id="address"),
        pytest.param("status=up name=oa?", True, id="fields"),
        pytest.param("elm", False, id="other"),
        pytest.param("alert=yes", False, id="no-alert"),
        pytest.param("name!=elm oak", True, id="negated"),
    ],
)
def test_find_nodes_finds_what_is_meant(text: str, is_found: bool) -> None:
    found = queries.find_nodes(examples.view(), queries.parse(text))
    assert [node.name for node in found] == ["oak"] * is_found


def test_status_may_be_said_in_two_words() -> None:
    vm = examples.vm(state=VmState.NOT_RESPONDING)
    assert _is_found(vm, 'status="not responding"')


def test_find_vms_keeps_the_order_of_names() -> None:
    view = examples.view(
        examples.vm("v1", "web-2"), examples.vm("v2", "db"), examples.vm("v3", "Web-1")
    )
    found = queries.find_vms(view, queries.parse("web status=up"))
    assert [vm.name for vm in found] == ["Web-1", "web-2"]


@given(some.text(max_size=80))
def test_any_text_is_answered_or_refused(text: str) -> None:
    try:
        is_found = _is_found(VM, text)
    except queries.BadQuery:
        return
    assert is_found in (True, False)


TEXTS = (VM.name, "oak", VM.vm_id, VM.description, *VM.addresses)


@given(some.lists(some.text("web1shopfrntak .-*?", max_size=4), max_size=3))
def test_words_are_found_one_by_one_in_any_text(words: list[str]) -> None:
    patterns = [re.compile(_expression(word)) for word in words]
    expected = all(
        any(pattern.search(text.casefold()) for text in TEXTS) for pattern in patterns
    )
    assert _is_found(VM, " ".join(f'"{word}"' for word in words)) is expected


def _expression(word: str) -> str:
    return re.escape(word).replace(r"\*", ".*").replace(r"\?", ".")


@pytest.mark.parametrize(
    "field", ["name", "description", "address", "node"], ids=lambda field: field
)
@pytest.mark.parametrize("text", [NFC, NFD], ids=["composed", "decomposed"])
def test_texts_fit_however_letters_are_composed(text: str, field: str) -> None:
    vm = examples.vm(name=NFD, description=NFC, addresses=(NFD,), node_id=NodeId(NFC))
    assert _is_found(vm, f"{field}={text}")
