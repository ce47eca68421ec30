"""Describe what an aggregator is about to do, for its scripts. Pure.

    {"schema": 1, "point": "before_vm_start", "action": "vm_start", "id": "<order>",
     "object": {"kind": "vm", "id": "…", "name": "web"},
     "node": {"id": "…", "name": "oak", "address": "192.0.2.7"},
     "user": "admin@internal", "correlation_id": "…",
     "verb": "vm_start", "request": {…}, "document": {…}}

`document` is the object as it is known: a VM's definition, a disk; of what is yet to
be made, `request` says all. After it, `error` is there if it was not done.
"""

import json
from dataclasses import dataclass, fields
from typing import Final

from aggregator.control import actions
from aggregator.control.actions import Action, StorageAction
from aggregator.control.order import Entry
from aggregator.federation.view import View
from node import wire
from node.model.feed import Kind
from node.model.ids import CorrelationId, DiskId, NodeId, VmId
from node.model.job import ErrorReport
from node.model.unregistered import RegisterVm
from node.wire import Json

SCHEMA: Final = 1
# Of an action of a VM: told in other words, or what makes it safe to ask twice.
_TOLD: Final = frozenset({"order_id", "node_id", "vm_id", "correlation_id", "vm"})


@dataclass(frozen=True, slots=True)
class Object:
    kind: str  # of node.model.feed.Kind
    id: str
    name: str
    address: str = ""  # of a node


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that is about to be done, kept until its end was told."""

    deed_id: str  # of its order, if it has one
    action: str  # of `points`
    verb: str
    object: Object
    node: Object | None
    user: str
    correlation_id: CorrelationId | None
    asked_at: str  # RFC 3339
    is_order: bool
    request: Json = None
    document: Json = None

    @property
    def vm_id(self) -> VmId | None:
        return VmId(self.object.id) if self.object.kind == Kind.VM else None

    @property
    def node_id(self) -> NodeId | None:
        """Return the node that is to do it, or that it is about."""
        if self.object.kind == Kind.NODE:
            return NodeId(self.object.id)
        return None if self.node is None else NodeId(self.node.id)


@dataclass(frozen=True, slots=True)
class Ending:
    """How it ended; `error` may not be known although it failed."""

    is_done: bool
    error: ErrorReport | None = None
    node: Object | None = None  # which did it, where another one may have


def of_order(entry: Entry, action: str, view: View) -> Deed:
    """Return what an order is about to do, which is one of the actions."""
    order, about = entry.order, _object(entry)
    return Deed(
        order.order_id,
        action,
        order.verb,
        about,
        node(view, entry.action.node_id),
        order.user,
        order.correlation_id,
        order.created_at,
        True,
        _request(entry.action),
        _document(view, about),
    )


def payload(deed: Deed, point: str, ending: Ending | None = None) -> bytes:
    """Return what scripts of a point find in their file."""
    body = {
        "schema": SCHEMA,
        "point": point,
        "action": deed.action,
        "id": deed.deed_id,
        "object": wire.to_json(deed.object),
        "node": wire.to_json(deed.node),
        "user": deed.user,
        "correlation_id": deed.correlation_id,
        "asked_at": deed.asked_at,
        "verb": deed.verb,
        "request": deed.request,
        "document": deed.document,
    }
    if ending is not None:
        body["node"] = wire.to_json(ending.node or deed.node)
        body["error"] = wire.to_json(ending.error)
    return json.dumps(body, indent=1).encode()


def node(view: View, node_id: NodeId) -> Object | None:
    """Return a node; None: it is not there any more."""
    found = view.nodes.get(node_id)
    if found is None:
        return None
    return Object(Kind.NODE, node_id, found.name, found.address)


def _object(entry: Entry) -> Object:
    order, action = entry.order, entry.action
    if isinstance(action, StorageAction) and isinstance(action.request, RegisterVm):
        vm_id = action.request.as_vm_id or action.request.vm_id
        return Object(Kind.VM, vm_id, action.request.name or order.name)
    kind = actions.kind_of(order.verb)
    return Object(kind, actions.object_of(action), order.name)


def _request(action: Action) -> Json:
    if isinstance(action, StorageAction):
        return wire.to_json(action.request)
    told = {each.name for each in fields(action)} - _TOLD
    return {name: wire.to_json(getattr(action, name)) for name in sorted(told)}


def _document(view: View, about: Object) -> Json:
    """Return the object's own document; None if it is yet to be made."""
    text = b""
    if about.kind == Kind.VM and (vm := view.vms.get(VmId(about.id))) is not None:
        text = vm.vm_document
    if about.kind == Kind.DISK and (disk := view.disks.get(DiskId(about.id))):
        text = disk.document
    return json.loads(text) if text else None
