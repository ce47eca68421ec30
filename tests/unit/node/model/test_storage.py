"""Storage's documents and requests: they travel, strictly and completely."""

import dataclasses
import typing
from enum import Enum
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from node import wire
from node.errors import Invalid
from node.model import storage, storage_requests, templates, vm
from node.model.feed import Kind
from node.model.reason import Reason
from node.model.storage import (
    Connection,
    DiskDocument,
    DomainType,
    PoolDomain,
    PoolMark,
)
from node.model.vm import Disk, Vm, VmSpec

_SCALARS: dict[Any, some.SearchStrategy[Any]] = {
    str: some.text("ab /é", max_size=4),
    int: some.integers(-(2**63), 2**63 - 1),
    float: some.floats(allow_nan=False, allow_infinity=False),
    bool: some.booleans(),
}


def _classes(module: Any) -> list[Any]:
    return [
        each
        for each in vars(module).values()
        if dataclasses.is_dataclass(each) and each.__module__ == module.__name__
    ]


ALL = [
    pytest.param(each, id=each.__name__)
    for module in (storage, storage_requests, templates, vm)
    for each in _classes(module)
]


@pytest.mark.parametrize("cls", ALL)
@settings(max_examples=5, suppress_health_check=[HealthCheck.too_slow])
@given(data=some.data())
def test_what_is_written_is_read_again(cls: Any, data: some.DataObject) -> None:
    value = data.draw(_values(cls))
    read = wire.decode(cls, wire.encode(value))
    assert read == value


@pytest.mark.parametrize("cls", _classes(storage_requests))
def test_requests_refuse_fields_that_are_unknown(cls: Any) -> None:
    with pytest.raises(Invalid):
        wire.from_json(cls, {"colour": "red"})


def test_a_newer_mark_is_the_higher_tuple() -> None:
    marks = [PoolMark(2, 1), PoolMark(1, 9), PoolMark(1, 2)]
    assert sorted(marks, key=dataclasses.astuple, reverse=True) == marks


def test_the_feed_has_a_kind_for_each_document_of_storage() -> None:
    assert {"disk", "storage_domain", "pool", "template"} <= set(Kind)


def test_a_domain_of_an_unknown_type_is_refused_by_name() -> None:
    with pytest.raises(Invalid, match="kind must be one of localfs, posixfs, nfs"):
        wire.from_json(Connection, {"kind": "smb", "path": "/x"})
    assert wire.from_json(Connection, {"kind": "nfs", "path": "/x"}) == Connection(
        DomainType.NFS, "/x"
    )


SPEC = {
    "vm_id": "v",
    "name": "web",
    "memory_bytes": 1,
    "disks": [{"disk_id": "d", "name": "root", "size_bytes": 1}],
}
OLD: list[tuple[type, dict[str, Any], frozenset[str]]] = [
    (
        Disk,
        {"disk_id": "d", "name": "root", "size_bytes": 1},
        frozenset({"storage_domain_id", "volume_id", "disk_format", "is_shared"}),
    ),
    (VmSpec, SPEC, frozenset({"pool_id", "lease_domain_id"})),
    (Vm, {"spec": SPEC, "generation": 1, "created_at": "now"}, frozenset({"home"})),
    (
        PoolDomain,
        {"storage_domain_id": "s", "domain_class": "data", "state": "active"},
        frozenset({"name", "connection"}),
    ),
    (
        DiskDocument,
        {
            **{"disk_id": "d", "name": "root", "size_bytes": 1, "allocated_bytes": 1},
            **{"disk_format": "raw", "allocation": "thin", "storage_domain_ids": []},
            **{"state": "ok", "since": "now"},
        },
        frozenset({"pool_id"}),
    ),
]


@pytest.mark.parametrize(
    ("cls", "stored", "newer"),
    [pytest.param(*each, id=each[0].__name__) for each in OLD],
)
def test_documents_without_the_newer_fields_stay_readable(
    cls: type, stored: dict[str, Any], newer: frozenset[str]
) -> None:
    read: Any = wire.from_json(cls, stored)
    assert newer <= {each.name for each in dataclasses.fields(read)}
    assert not any(getattr(read, name) for name in newer)


def _values(cls: Any) -> some.SearchStrategy[Any]:
    """Return a strategy that fills every field of a dataclass."""
    hints = typing.get_type_hints(cls)
    return some.builds(cls, **{name: _of(hint) for name, hint in hints.items()})


def _of(hint: Any) -> some.SearchStrategy[Any]:
    hint = getattr(hint, "__supertype__", hint)
    arguments = typing.get_args(hint)
    if hint in _SCALARS:
        return _SCALARS[hint]
    if hint is Reason:  # it may be its own cause
        return some.just(Reason("vm_crashed", "now", {"name": "web"}))
    if type(None) in arguments:
        return some.none() | _of(next(each for each in arguments if each is not None))
    if typing.get_origin(hint) is tuple and arguments[-1] is not ...:
        return some.tuples(*map(_of, arguments))
    if typing.get_origin(hint) is tuple:
        return some.lists(_of(arguments[0]), max_size=2).map(tuple)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return some.sampled_from(hint)
    return _values(hint)
