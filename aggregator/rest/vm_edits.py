"""Change VMs as oVirt's clients ask: so far their custom properties.

A client may send all of a VM with them: what is as it is shown is let be, and what
differs is refused by name, so that nobody believes that it was changed.
"""

from collections.abc import Callable
from typing import Final

from aggregator.rest import (
    body,
    devices,
    replies,
    resource,
    serialise,
    vm_properties,
)
from aggregator.rest.body import Body
from aggregator.rest.call import Call, NoSuchObject, Reply, Write
from aggregator.rest.devices import VmRow
from aggregator.rest.resource import Context, Entity, Resource
from aggregator.rest.serialise import Form
from aggregator.services import Services
from node.model.properties import CustomProperty
from node.model.requests import SetProperties
from node.model.verbs import ActionGroup

# What a representation has beside what can be said of an object.
_BESIDE: Final = frozenset({vm_properties.NAME, "id", "href", "link", "actions"})

# What clients may name instead of giving its id.
_FOLLOWED: Final[resource.Tree] = {"cluster": {}, "template": {}, "host": {}}

Find = Callable[[Services, Context, str], VmRow | None]


def update(kind: Resource[VmRow], find: Find) -> Write:
    """Return what a PUT of a VM does."""

    def put(call: Call, path: tuple[str, ...]) -> Reply:
        row = find(call.services, call.context, path[0])
        if row is None:
            raise NoSuchObject(f"there is no VM {path[0]}", vm_id=path[0])
        entity = Entity(kind, row, f"vms/{path[0]}")
        now = resource.render(call.context, entity, _FOLLOWED)
        _check_rest(call.body, body.read(serialise.document(now, Form.XML), Form.XML))
        given = vm_properties.wanted(call.body)
        if given is not None and given != _held(row):
            _change(call, row, given)
        newest = call.services.mirror.view.vms.get(row.vm.vm_id)
        shown = devices.row_of(newest) if newest is not None else row
        return Reply(Entity(kind, shown, f"vms/{path[0]}"))

    return Write(ActionGroup.CHANGE_CUSTOM_PROPERTIES, put)


def _change(call: Call, row: VmRow, given: tuple[CustomProperty, ...]) -> None:
    vm_id, before = row.vm.vm_id, row.vm.generation
    request = SetProperties(given)
    order = call.services.orders.set_properties(vm_id, request, call.origin)
    replies.wait(call, order, is_needed=True)
    replies.see(
        call,
        lambda view: (now := view.vms.get(vm_id)) is None or now.generation != before,
    )


def _held(row: VmRow) -> tuple[CustomProperty, ...]:
    return row.definition.spec.custom_properties if row.definition is not None else ()


def _check_rest(said: Body, now: Body) -> None:
    """Refuse to change anything else; NotDoneYet."""
    for name, child in said.children:
        if name not in _BESIDE and not _is_so(child, now.child(name)):
            text = f"changing {child.path} of a VM is not supported"
            raise replies.NotDoneYet(text, field=child.path)


def _is_so(said: Body, now: Body) -> bool:
    """Tell whether all that a body says of an element is as it is shown."""
    said_id = said.object_id()
    if said_id is not None:
        return said_id == now.object_id()
    if said.children:
        return all(_is_so(child, now.child(name)) for name, child in said.children)
    return (said.text or "").strip() == (now.text or "").strip()
