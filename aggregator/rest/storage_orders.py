"""Make, take and remove storage domains, and what is done to their disks there."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from aggregator.federation import view as views
from aggregator.federation.view import NodeView, StorageDomainRow, View
from aggregator.rest import (
    disk_orders,
    disk_profiles,
    disks,
    new_storage_domain,
    newcomers,
    parents,
    replies,
    storage,
    storage_domains,
)
from aggregator.rest.body import Body
from aggregator.rest.call import (
    PARAMETER,
    Act,
    Call,
    Collection,
    Deed,
    NoSuchObject,
    Reply,
    Write,
)
from aggregator.rest.disks import Entry
from aggregator.rest.element import Element
from aggregator.rest.new_storage_domain import NewStorageDomain
from aggregator.rest.resource import Entity
from aggregator.rest.storage import Domain
from node.errors import Busy, Conflict, Failed, Invalid
from node.model import register_verbs
from node.model import storage_verbs as verbs
from node.model.ids import NodeId, StorageDomainId
from node.model.job import JobState
from node.model.storage import DomainState
from node.model.storage_requests import (
    ActOnStorageDomain,
    ChangeStorageDomain,
    ImportStorageDomain,
    LookForStorageDomains,
    RemoveStorageDomain,
)
from node.model.verbs import ActionGroup, Object

# Making a storage domain takes some seconds: clients look for it right after.
_MAKE_S: Final = 30.0
_REMOVE_S: Final = 10.0


class StillAttached(Conflict):
    code = "storage_domain_attached"
    remedy = "Put it into maintenance and detach it from its data center first."


class NotTheOnlyOne(Invalid):
    code = "not_the_only_storage_domain"
    remedy = "Name the one to import by its id, or give a new one a name."


class NameTaken(Conflict):
    code = "storage_domain_name_taken"
    remedy = "Choose another name."


class NotThereYet(Failed):
    """Not a conflict: clients would ask again, and make another one."""

    code = "storage_domain_not_there_yet"
    remedy = "List the storage domains in a while; do not ask again."


class UnderWay(Busy):
    code = "storage_domain_under_way"
    remedy = "Try again in a while."


def _add(call: Call, path: tuple[str, ...]) -> Reply:
    new = new_storage_domain.read(call.context, call.body)
    request, node_id = new.request, new.node.node_id
    if isinstance(request, ImportStorageDomain):
        verb, wanted_id = verbs.STORAGE_DOMAIN_IMPORT, _sought(call, new)
        request = replace(request, storage_domain_id=wanted_id)
    else:
        _check_name(call, request.name)
        verb, wanted_id = verbs.STORAGE_DOMAIN_CREATE, request.storage_domain_id
    order = replies.storage_order(call, verb, wanted_id, request, node_id)
    order = replies.wait(call, order, _MAKE_S)
    view = call.services.mirror.view
    if order.state is JobState.DONE:
        view = replies.see(call, lambda view: wanted_id in view.storage_domains)
    row = view.storage_domains.get(wanted_id)
    if row is None:
        raise NotThereYet(
            f"storage domain {wanted_id} is not ready: {order.step or order.state}",
            storage_domain_id=wanted_id,
        )
    location = f"{call.context.base}/storagedomains/{row.storage_domain_id}"
    return Reply(_entity(row), 201, {"Location": location})


def _check_name(call: Call, name: str, renamed: StorageDomainRow | None = None) -> None:
    for row in call.context.view.storage_domains.values():
        if row is not renamed and views.fold(row.name) == views.fold(name):
            verb = "add" if renamed is None else "edit"
            raise NameTaken(
                f"Cannot {verb} Storage. The Storage Domain name {name} is already in"
                " use.",
                name=name,
            )


def _sought(call: Call, new: NewStorageDomain) -> StorageDomainId:
    """Return which storage domain is to be taken: the only one, if none is named."""
    if new.request.storage_domain_id is not None:
        return new.request.storage_domain_id
    look = LookForStorageDomains(new.request.connection)
    node = call.services.node(new.node.node_id)
    found = node.storage_domain_look(look).storage_domains
    if len(found) != 1:
        raise NotTheOnlyOne(
            f"{len(found)} storage domains lie there, as {new.node.name} sees it"
        )
    return found[0].storage_domain_id


def _entity(row: StorageDomainRow) -> Entity:
    path = f"storagedomains/{row.storage_domain_id}"
    return Entity(storage_domains.RESOURCE, storage.domain_of(row), path)


def _update(call: Call, path: tuple[str, ...]) -> Reply:
    """Change what is said of a storage domain; a comment is kept nowhere."""
    row = _row(call, path[0])
    before = storage.domain_of(row).document.storage_domain
    body = call.body
    if body.string("comment"):
        raise replies.NotDoneYet("a storage domain has no comment")
    given: dict[str, Any] = {
        "name": body.string("name"),
        "description": body.string("description"),
        "wipe_after_delete": body.boolean("wipe_after_delete"),
    }
    wanted = {
        key: value
        for key, value in given.items()
        if value not in (None, getattr(before, key))
    }
    if not wanted:
        return Reply(_entity(row))
    if "name" in wanted:
        _check_name(call, wanted["name"], row)
    storage_domain_id = row.storage_domain_id
    orders, request = call.services.orders.storage, ChangeStorageDomain(**wanted)
    order = orders.change_domain(storage_domain_id, request, call.origin)
    replies.wait(call, order)

    def is_changed(view: View) -> bool:
        now = storage.domain_of(view.storage_domains[storage_domain_id])
        named = now.document.storage_domain
        return all(getattr(named, key) == value for key, value in wanted.items())

    view = replies.see(call, is_changed)
    return Reply(_entity(view.storage_domains[storage_domain_id]))


def _remove(call: Call, path: tuple[str, ...]) -> Reply:
    row = _row(call, path[0])
    asked = call.parameters
    node = parents.node_called(call.context, asked.text("host"))
    if row.pool_id is not None:
        if not asked.flag("destroy"):
            raise StillAttached(
                f"Cannot remove Storage. Storage domain {row.name} is attached to a"
                " data center.",
                name=row.name,
            )
        _tear_out(call, row)
    is_formatted = asked.flag("format")
    for node_id in _knowing(call, row, node):
        request = RemoveStorageDomain(is_formatted)
        order = replies.storage_order(
            call,
            verbs.STORAGE_DOMAIN_REMOVE,
            row.storage_domain_id,
            request,
            node_id,
        )
        order = replies.wait(call, order, _REMOVE_S)
        if order.state is not JobState.DONE:
            return Reply(replies.action(call, order))
        is_formatted = False  # the others only forget it
    replies.see(call, lambda view: row.storage_domain_id not in view.storage_domains)
    return Reply(replies.action(call, order))


def _knowing(
    call: Call, row: StorageDomainRow, wanted: NodeView | None
) -> tuple[NodeId, ...]:
    """Return the nodes that keep a storage domain of no pool, the wanted one first.

    Any other has nothing to remove, also if it was told of the detaching only now:
    asked first, it would answer that all is done, and nothing would be destroyed.
    """
    newest = call.services.mirror.view.storage_domains.get(row.storage_domain_id, row)
    keepers = [
        sight.node_id
        for sight in newest.sights.values()
        if sight.state is DomainState.UNATTACHED and not sight.is_silent
    ]
    first = wanted.node_id if wanted is not None else newest.speaker
    keepers.sort(key=lambda node_id: (node_id != first, node_id))
    return tuple(keepers) or (newest.speaker,)


def _tear_out(call: Call, row: StorageDomainRow) -> None:
    """Detach what is to be forgotten, although it may be out of reach."""
    request = ActOnStorageDomain(is_forced=True)
    storage_domain_id = row.storage_domain_id
    verb = verbs.STORAGE_DOMAIN_DETACH
    order = replies.storage_order(call, verb, storage_domain_id, request)
    if replies.wait(call, order, _REMOVE_S).state is not JobState.DONE:
        raise UnderWay(f"storage domain {row.name} is still being detached")


def _is_attached(call: Call, domain: Domain) -> Reply:
    children = (
        Element("is_attached", domain.row.pool_id is not None),
        Element("status", "complete"),
    )
    return Reply(Element("action", children=children))


def _write_ovf(call: Call, domain: Domain) -> Reply:
    verb = register_verbs.STORAGE_DOMAIN_WRITE_OVF
    key = domain.row.storage_domain_id
    return replies.follow(
        call, replies.storage_order(call, verb, key, ActOnStorageDomain())
    )


def _refuse(name: str) -> Callable[[Call, Domain], Reply]:
    def run(call: Call, domain: Domain) -> Reply:
        raise replies.NotDoneYet(f"{name} of a storage domain is not supported")

    return run


def _refuse_connection(call: Call, domain: Domain, ids: tuple[str, ...]) -> Reply:
    raise replies.NotDoneYet("the connection of a storage domain cannot be changed")


# its disks and VMs

# What a disk may be called otherwise when it is registered.
_NAMES: Final = ("name", "alias", "description")


def _add_disk(call: Call, domain: Domain, ids: tuple[str, ...]) -> Reply:
    """Make a disk there; one that waits to be registered is known already.

    It may be registered under another name.
    """
    disk_id = call.body.object_id()
    if call.parameters.flag("unregistered") and disk_id is not None:
        known = _disk(call, domain, disk_id)
        named = tuple(each for each in call.body.children if each[0] in _NAMES)
        entry: Entry = known.row
        disk_orders.update(call, entry, replace(call.body, children=named))
        return Reply(disk_orders.newest(call, entry))
    here = Body("disk", None, (("id", domain.row.storage_domain_id),))
    others = (each for each in call.body.children if each[0] != "storage_domains")
    body = replace(call.body, children=(("storage_domain", here), *others))
    request, _ = disk_orders.create(call, body)
    return Reply(disk_orders.entity(call, request), 202)


def _remove_disk(call: Call, domain: Domain, ids: tuple[str, ...]) -> Reply:
    return disk_orders.remove(call, _disk(call, domain, ids[0]).row)


def _disk(call: Call, domain: Domain, disk_id: str) -> Entity:
    entry = disks.find(call.services, call.context, disk_id)
    there = domain.row.storage_domain_id
    if entry is None or there not in entry.document.storage_domain_ids:
        raise NoSuchObject(f"there is no disk {disk_id}", disk_id=disk_id)
    return Entity(disks.RESOURCE, entry, f"disks/{disk_id}")


def _row(call: Call, object_id: str) -> StorageDomainRow:
    row = call.context.view.storage_domains.get(StorageDomainId(object_id))
    if row is None:
        text = f"there is no storage domain {object_id}"
        raise NoSuchObject(text, storage_domain_id=object_id)
    return row


_MANIPULATE: Final = ActionGroup.MANIPULATE_STORAGE_DOMAIN
_EDIT: Final = ActionGroup.EDIT_STORAGE_DOMAIN

_TAKES: Final = (("register", newcomers.register), ("import", newcomers.bring))

COLLECTION: Final = Collection(
    "storagedomains",
    storage_domains.RESOURCE,
    Object.STORAGE_DOMAIN,
    storage_domains.find,
    storage_domains.rows,
    acts=(
        Act("isattached", _MANIPULATE, _is_attached),
        Act("updateovfstore", _EDIT, _write_ovf),
        Act("refreshluns", _EDIT, _refuse("refreshluns")),
        Act("reduceluns", _EDIT, _refuse("reduceluns")),
    ),
    deeds=(
        *disk_profiles.DEEDS,
        Deed("POST", ("disks",), ActionGroup.CREATE_DISK, _add_disk),
        Deed("DELETE", ("disks", PARAMETER), ActionGroup.DELETE_DISK, _remove_disk),
        *(
            Deed("POST", (kind, PARAMETER, act), ActionGroup.CREATE_VM, do)
            for kind in ("vms", "templates")
            for act, do in _TAKES
        ),
        *(
            Deed("DELETE", (kind, PARAMETER), ActionGroup.EXPORT_VM, newcomers.remove)
            for kind in ("vms", "templates")
        ),
        Deed("POST", ("storageconnections",), _EDIT, _refuse_connection),
        Deed("DELETE", ("storageconnections", PARAMETER), _EDIT, _refuse_connection),
    ),
    add=Write(ActionGroup.CREATE_STORAGE_DOMAIN, _add),
    update=Write(ActionGroup.EDIT_STORAGE_DOMAIN, _update),
    remove=Write(ActionGroup.DELETE_STORAGE_DOMAIN, _remove),
)
