"""Tests of reading what clients send."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.rest import body
from aggregator.rest.body import BadValue, Body
from aggregator.rest.serialise import Form
from node.errors import Invalid

XML = b"""<?xml version="1.0"?><!-- hello -->
<vm id="7"><name>web</name><memory>1024</memory><flag>TRUE</flag><empty/>
<cluster id="9"/><later><unknown x="1"/></later>
<nics><nic><name>a</name></nic><nic><name>b</name></nic></nics></vm>"""
JSON = json.dumps(
    {
        "id": "7",
        "name": "web",
        "memory": 1024,
        "flag": True,
        "empty": "",
        "cluster": {"id": "9"},
        "later": {"unknown": None},
        "nics": {"nic": [{"name": "a"}, {"name": "b"}]},
    }
).encode()
FORMS = pytest.mark.parametrize(
    ("data", "form"), [(XML, Form.XML), (JSON, Form.JSON)], ids=["xml", "json"]
)


@FORMS
def test_read_finds_typed_values_in_both_forms(data: bytes, form: Form) -> None:
    read = body.read(data, form)
    assert read.object_id() == "7"
    assert read.string("name") == "web"
    assert read.integer("memory") == 1024
    assert read.boolean("flag") is True
    assert read.string("empty") == ""
    assert read.child("cluster").object_id() == "9"
    assert [each.string("name") for each in read.all("nics/nic")] == ["a", "b"]


@FORMS
def test_read_says_none_for_what_is_absent(data: bytes, form: Form) -> None:
    read = body.read(data, form)
    assert read.string("cpu/topology/cores") is None
    assert read.integer("absent") is None
    assert read.boolean("absent") is None
    assert list(read.all("absent/item")) == []
    assert not read.child("absent").is_present


@FORMS
def test_wrong_types_name_their_path(data: bytes, form: Form) -> None:
    read = body.read(data, form)
    with pytest.raises(BadValue, match="name must be an integer"):
        read.integer("name")
    with pytest.raises(BadValue, match="memory must be true or false"):
        read.boolean("memory")


@pytest.mark.parametrize("data", [b"", b"  \n"], ids=["empty", "blank"])
@pytest.mark.parametrize("form", Form)
def test_read_takes_an_empty_body(data: bytes, form: Form) -> None:
    assert body.read(data, form) == body.EMPTY


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (b"<vm>", Form.XML),
        (b"not xml", Form.XML),
        (b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a>&e;</a>', Form.XML),
        (b'<!DOCTYPE a [<!ENTITY e "x">]><a>&e;&e;</a>', Form.XML),
        (b"<a>" * 80 + b"</a>" * 80, Form.XML),
        (b"[]", Form.JSON),
        (b"{", Form.JSON),
        (b'{"a":' * 80 + b"1" + b"}" * 80, Form.JSON),
        (b'{"a": [[1]]}', Form.JSON),
    ],
    ids=[
        "open",
        "text",
        "external-entity",
        "entity",
        "deep-xml",
        "array",
        "open-json",
        "deep-json",
        "nested-lists",
    ],
)
def test_read_refuses_what_is_no_body(data: bytes, form: Form) -> None:
    with pytest.raises(Invalid):
        body.read(data, form)


def test_integers_have_64_bits() -> None:
    with pytest.raises(BadValue):
        body.read(b"<a><n>9223372036854775808</n></a>", Form.XML).integer("n")


@given(st.binary(max_size=200), st.sampled_from(Form))
def test_read_answers_anything_with_a_body_or_an_error(data: bytes, form: Form) -> None:
    with contextlib.suppress(Invalid):
        assert isinstance(body.read(data, form), Body)
