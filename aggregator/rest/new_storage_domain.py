"""Understand what oVirt's clients send to make a storage domain, or to take one.

Pure but for fresh ids. Required as in oVirt: a host that reaches the storage, a
type, and where the storage is.
"""

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from aggregator.federation.view import NodeView
from aggregator.rest import parents, storage_connections
from aggregator.rest.body import BadValue, Body, Incomplete
from aggregator.rest.new_vm import random_id
from aggregator.rest.resource import Context
from node.model.ids import StorageDomainId
from node.model.storage import DomainClass
from node.model.storage_requests import CreateStorageDomain, ImportStorageDomain

_NAME_CHARACTERS_MAX: Final = 50  # as its metadata hold it
_CLASSES: Final[Mapping[str, DomainClass]] = {
    "data": DomainClass.DATA,
    "iso": DomainClass.ISO,
    "export": DomainClass.EXPORT,
}
_FORMATS: Final[Mapping[DomainClass, str]] = {
    DomainClass.DATA: "v5",
    DomainClass.ISO: "v1",
    DomainClass.EXPORT: "v1",
}


@dataclass(frozen=True, slots=True)
class NewStorageDomain:
    node: NodeView  # which reaches the storage
    request: CreateStorageDomain | ImportStorageDomain


def read(
    context: Context, body: Body, new_id: Callable[[], str] = random_id
) -> NewStorageDomain:
    """Return what is to be made; what has an id, or no name, is there already."""
    node = parents.node(context, body.child("host"))
    if node is None:
        raise Incomplete("StorageDomain [host.id|name] required for add")
    domain_class = _class(body)
    found = storage_connections.wanted(context, body.child("storage"))
    storage_domain_id = StorageDomainId(body.object_id() or "")
    if storage_domain_id or body.boolean("import") or not body.string("name"):
        wanted = ImportStorageDomain(found, storage_domain_id or None)
        return NewStorageDomain(node, wanted)
    _check_format(body, domain_class)
    return NewStorageDomain(
        node,
        CreateStorageDomain(
            StorageDomainId(new_id()),
            _name(body),
            found,
            domain_class,
            body.string("description") or "",
            body.integer("block_size"),
            bool(body.boolean("wipe_after_delete")),
        ),
    )


def _class(body: Body) -> DomainClass:
    kind = body.string("type")
    if kind is None:
        raise Incomplete("StorageDomain [type] required for add")
    if kind not in _CLASSES:
        raise BadValue(f"type must be data, iso or export, not {kind!r}", field="type")
    return _CLASSES[kind]


def _name(body: Body) -> str:
    name = unicodedata.normalize("NFC", (body.string("name") or "").strip())
    if not name:
        raise BadValue("name must not be empty", field="name")
    if len(name) > _NAME_CHARACTERS_MAX:
        text = f"name is longer than {_NAME_CHARACTERS_MAX} characters"
        raise BadValue(text, field="name")
    return name


def _check_format(body: Body, domain_class: DomainClass) -> None:
    wanted = body.string("storage_format")
    if wanted is not None and wanted != _FORMATS[domain_class]:
        raise BadValue(
            f"storage_format must be {_FORMATS[domain_class]}, not {wanted!r}",
            field="storage_format",
        )
