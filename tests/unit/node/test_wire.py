"""The wire: there and back, and errors that name the path."""

import dataclasses
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from node import wire
from node.errors import Invalid
from node.model.feed import Delta, Document
from node.model.host import NodeFacts
from node.model.ids import VmId
from node.model.job import Job
from node.model.reason import Reason
from node.model.vm import Vm, VmRun, VmSpec
from node.wire import Malformed, MissingField, UnknownField


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True)
class Leaf:
    name: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class Tree:
    vm_id: VmId
    from_rev: int = field(metadata={"wire": "from"})
    colour: Colour = Colour.RED
    share: float = 0.5
    is_tall: bool = False
    note: str | None = None
    leaves: tuple[Leaf, ...] = ()
    pair: tuple[str, int] = ("a", 1)
    labels: Mapping[str, str | int] = field(default_factory=dict)
    anything: Any = None


_MINIMUM = {"vm_id": "v", "from": 1}

# Everything that travels: it must survive the journey, whatever it holds.
_MODELS = (Vm, VmSpec, VmRun, NodeFacts, Job, Reason, Tree)


_TEXT = some.text(
    some.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8
)
_SCALARS: dict[object, some.SearchStrategy[Any]] = {
    str: _TEXT,
    int: some.integers(-(2**63), 2**63 - 1),
    float: some.floats(allow_nan=False, allow_infinity=False),
    bool: some.booleans(),
}
_JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | _TEXT,
    lambda inner: some.lists(inner) | some.dictionaries(_TEXT, inner),
    max_leaves=8,
)


def _values(annotation: Any) -> some.SearchStrategy[Any]:
    """Return values of a type that may travel."""
    annotation = getattr(annotation, "__supertype__", annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    if annotation is Any:
        return _JSON
    if origin in (Union, UnionType):
        return some.one_of([_values(each) for each in arguments])
    if origin is tuple and arguments[-1] is Ellipsis:
        return some.lists(_values(arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return some.tuples(*map(_values, arguments))
    if origin is Mapping:
        return some.dictionaries(_TEXT, _values(arguments[1]), max_size=3)
    if dataclasses.is_dataclass(annotation):
        return some.deferred(lambda: _instances(annotation))
    return some.none() if annotation is type(None) else some.sampled_from(annotation)


def _instances(model: Any) -> some.SearchStrategy[Any]:
    return _made(model)


@functools.cache  # hypothesis looks at each that is made
def _made(model: Any) -> some.SearchStrategy[Any]:
    hints = get_type_hints(model)
    return some.builds(model, **{name: _values(hint) for name, hint in hints.items()})


@pytest.mark.parametrize("model", _MODELS, ids=lambda model: model.__name__)
@settings(max_examples=25)
@given(data=some.data())
def test_decode_returns_what_encode_wrote(
    model: type[object], data: some.DataObject
) -> None:
    value = data.draw(_instances(model))
    assert wire.decode(model, wire.encode(value)) == value


@settings(max_examples=25)
@given(body=some.dictionaries(_TEXT, _JSON))
def test_documents_keep_any_body(body: dict[str, Any]) -> None:
    delta = Delta("e", 0, 1, "b", (Document("new_kind", "i", 1, body),))
    assert wire.decode(Delta, wire.encode(delta)) == delta


def test_to_json_leaves_out_what_says_nothing() -> None:
    assert wire.to_json(Tree(VmId("v"), 1)) == {
        **_MINIMUM,
        "colour": "red",
        "share": 0.5,
        "is_tall": False,
        "pair": ["a", 1],
    }


def test_to_json_keeps_an_empty_value_that_is_not_the_default() -> None:
    @dataclass(frozen=True, slots=True)
    class Named:
        name: str = "somebody"

    assert wire.to_json(Named("")) == {"name": ""}


def test_encode_is_compact_utf_8() -> None:
    assert wire.encode({"a": ["é", 1]}) == '{"a":["é",1]}'.encode()


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"vm_id": 5}, "vm_id must be a string"),
        ({"from": True}, "from must be an integer"),
        ({"from": 1.0}, "from must be an integer"),
        ({"from": 2**63}, "from must be an integer of 64 bits"),
        ({"share": "1"}, "share must be a number"),
        ({"share": True}, "share must be a number"),
        ({"is_tall": 1}, "is_tall must be true or false"),
        ({"colour": "green"}, "colour must be one of red, blue"),
        ({"colour": ["red"]}, "colour must be one of red, blue"),
        ({"note": 5}, "note must be a string"),
        ({"leaves": {}}, "leaves must be a list"),
        ({"leaves": [{"name": "a"}, {"name": 5}]}, r"leaves\[1\]\.name must be"),
        ({"leaves": [5]}, r"leaves\[0\] must be an object"),
        ({"pair": ["a"]}, "pair must be a list of 2"),
        ({"pair": ["a", "b"]}, r"pair\[1\] must be an integer"),
        ({"labels": []}, "labels must be an object"),
        ({"labels": {"x": []}}, r"labels\.x must be one of the types"),
        ({"note": "a\0b"}, "note must be text without"),
        ({"note": "\ud800"}, "note must be text without"),
    ],
    ids=lambda value: None if isinstance(value, str) else json.dumps(value)[:30],
)
def test_from_json_names_the_path_of_what_is_malformed(
    change: dict[str, Any], path: str
) -> None:
    with pytest.raises(Malformed, match=path):
        wire.from_json(Tree, {**_MINIMUM, **change})


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"vm_id": "v"}, "^from is missing"),
        ({**_MINIMUM, "leaves": [{}]}, r"^leaves\[0\]\.name is missing"),
    ],
    ids=["top", "nested"],
)
def test_from_json_names_a_missing_field(body: dict[str, Any], path: str) -> None:
    with pytest.raises(MissingField, match=path):
        wire.from_json(Tree, body)


def test_from_json_refuses_an_unknown_field_when_strict() -> None:
    with pytest.raises(UnknownField, match=r"^leaves\[0\]\.colour is unknown"):
        wire.from_json(Tree, {**_MINIMUM, "leaves": [{"name": "a", "colour": 1}]})


def test_from_json_passes_over_an_unknown_field_when_tolerant() -> None:
    body = {**_MINIMUM, "leaves": [{"name": "a", "colour": 1}], "new": {}}
    tree = wire.from_json(Tree, body, strict=False)
    assert tree.leaves == (Leaf("a"),)


def test_from_json_takes_an_integer_for_a_number() -> None:
    tree = wire.from_json(Tree, {**_MINIMUM, "share": 2})
    assert (tree.share, type(tree.share)) == (2.0, float)


def test_from_json_takes_null_for_what_may_be_absent() -> None:
    assert wire.from_json(Tree, {**_MINIMUM, "note": None}).note is None


@given(value=_JSON)
def test_from_json_never_raises_anything_but_invalid(value: Any) -> None:
    try:
        wire.from_json(Tree, value)
    except Invalid:
        return
    assert isinstance(value, dict)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b'{"a":NaN}',
        b"[Infinity]",
        b"[-1e999]",
        b"[" + b"9" * 400 + b".0]",
        b'["\\ud800"]',
        b'{"\\uDC00":1}',
        b"\xff",
        b"[" * 100_000,
    ],
    ids=[
        "empty",
        "cut",
        "nan",
        "infinity",
        "beyond-floats",
        "long-beyond-floats",
        "half-a-surrogate-pair",
        "half-a-pair-in-a-name",
        "not-utf-8",
        "deep",
    ],
)
def test_parse_refuses_what_is_not_json(text: bytes) -> None:
    with pytest.raises(Malformed, match="not JSON"):
        wire.parse(text)


def test_parse_takes_a_whole_surrogate_pair() -> None:
    assert wire.parse(b'["\\ud83d\\ude00",1e3]') == ["\U0001f600", 1000.0]


def test_from_json_names_the_whole_way_to_what_is_deep() -> None:
    reason = {"code": "c", "since": "t", "cause": {"code": "c", "since": 5}}
    with pytest.raises(Malformed, match=r"^cause\.since must be a string") as caught:
        wire.from_json(Reason, reason)
    assert caught.value.fields["field"] == "cause.since"
