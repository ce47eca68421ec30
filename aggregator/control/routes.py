"""Say which node is asked for a verb of storage, and by what name people know it.

Pure. What changes a pool's structure, its storage domains or its disks goes to the
pool's manager, whoever that is; all else to the node that is named.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

from aggregator.federation import view as views
from aggregator.federation.view import (
    DiskRow,
    NodeState,
    NodeView,
    PoolRow,
    StorageDomainRow,
    TemplateRow,
    View,
    VmView,
)
from node.errors import Conflict, Invalid, NotFound, Unavailable
from node.model import messages
from node.model.ids import DiskId, NodeId, PoolId, StorageDomainId, TemplateId, VmId
from node.model.storage import DomainState
from node.model.vm import VmState


class NodeNotFound(NotFound):
    code = "node_not_found"
    remedy = "Check the id; the node may have been removed from the fleet."


class NodeSilent(Unavailable):
    code = "node_silent"
    remedy = "Bring the node or its network back, then try again."


class VmNotFound(NotFound):
    code = "vm_not_found"
    remedy = "Check the id; the VM may have been deleted."


class PoolNotFound(NotFound):
    code = "pool_not_found"
    remedy = "See `skerry pool list` for what there is."


class StorageDomainNotFound(NotFound):
    code = "storage_domain_not_found"
    remedy = "See `skerry storage list` for what there is."


class DiskNotFound(NotFound):
    code = "disk_not_found"
    remedy = "See `skerry disk list` for what there is."


class TemplateNotFound(NotFound):
    code = "template_not_found"
    remedy = "See `skerry template list` for what there is."


class NoManager(Unavailable):
    """Nobody can change the pool now."""

    code = "no_manager"
    remedy = "Wait: a manager is elected as soon as a node is able to be it."


class ManagersDisputed(Unavailable):
    """Two nodes say with one mark that they manage the pool."""

    code = "managers_disputed"
    remedy = "Find out which of them holds the lease, and restart the other's agent."


class NobodyToAsk(Unavailable):
    code = "no_storage_node"
    remedy = "Name a node that reaches the storage, or bring one back."


class NodeMissing(Invalid):
    code = "node_missing"
    remedy = "Name the node that is to do it."


class VmPoolUnknown(Conflict):
    """Only that the VM runs was told so far: its definition names the pool."""

    code = "vm_pool_unknown"
    remedy = "Wait until the manager of its pool is heard, which tells its definition."


class DiskInUse(Conflict):
    """A VM that has the disk is not down: a guest may write to it."""

    code = "disk_in_use"
    remedy = "Shut the VM down first; if its node is silent, bring that back."


@dataclass(frozen=True, slots=True)
class Route:
    node_id: NodeId
    name: str  # of what it is about
    pool_id: PoolId | None = None  # only its manager may do it


# Verbs of one node's own: it is named by who asks.
_OF_A_NODE: Final = frozenset(
    {"pool_connect", "pool_disconnect", "spm_become", "spm_leave", "spm_priority"}
)


# What no guest may run with; other options of a disk change beside one.
_OF_IDLE_DISKS: Final = frozenset(
    {"disk_delete", "disk_resize", "disk_copy", "disk_move", "disk_sparsify"}
)


def route(
    view: View, verb: str, object_id: str, request: Any, node_id: NodeId | None
) -> Route:
    """Return whom to ask; `node_id` None: whoever is the right one.

    Raises what is not there, NoManager, NodeSilent, NodeMissing, NobodyToAsk,
    VmPoolUnknown and DiskInUse.
    """
    if verb in ("storage_domain_create", "storage_domain_import"):
        node = any_node(view) if node_id is None else up(view, node_id)
        name = getattr(request, "name", "") or _domain_name(view, object_id)
        if verb == "storage_domain_import" and request.pool_id is not None:
            pool_name = pool(view, request.pool_id).name
            return _managed(view, request.pool_id, name or pool_name)
        return Route(node.node_id, name or object_id)
    if verb == "pool_create":
        master = domain(view, request.master)
        found = up(view, node_id or master.speaker)
        return Route(found.node_id, request.name)
    if verb in _OF_A_NODE:
        if node_id is None:
            raise NodeMissing(f"{verb} needs a node")
        name = pool(view, PoolId(object_id)).name
        return Route(up(view, node_id).node_id, name)
    if verb == "pool_move_master":
        return _master_move(view, PoolId(object_id), request)
    if verb == "vm_clone":
        return _managed(view, request.spec.pool_id, request.spec.name)
    if verb.startswith("template_"):
        return _template_route(view, verb, TemplateId(object_id), request)
    if verb.startswith("vm_"):
        return _vm_route(view, VmId(object_id))
    if verb.startswith("disk_"):
        return _disk_route(view, verb, DiskId(object_id), request)
    return _domain_route(view, verb, StorageDomainId(object_id), request, node_id)


def pool(view: View, pool_id: PoolId) -> PoolRow:
    """Return a pool; PoolNotFound."""
    row = view.pools.get(pool_id)
    if row is None:
        raise PoolNotFound(f"there is no pool {pool_id}", pool_id=pool_id)
    return row


def domain(view: View, storage_domain_id: StorageDomainId) -> StorageDomainRow:
    """Return a storage domain; StorageDomainNotFound."""
    row = view.storage_domains.get(storage_domain_id)
    if row is None:
        raise StorageDomainNotFound(
            f"there is no storage domain {storage_domain_id}",
            storage_domain_id=storage_domain_id,
        )
    return row


def disk(view: View, disk_id: DiskId) -> DiskRow:
    """Return a disk; DiskNotFound."""
    row = view.disks.get(disk_id)
    if row is None:
        raise DiskNotFound(f"there is no disk {disk_id}", disk_id=disk_id)
    return row


def template(view: View, template_id: TemplateId) -> TemplateRow:
    """Return a template; TemplateNotFound."""
    row = view.templates.get(template_id)
    if row is None:
        raise TemplateNotFound(f"there is no template {template_id}", id=template_id)
    return row


def defined_vm(view: View, vm_id: VmId) -> VmView:
    """Return a VM whose definition was told; VmNotFound, VmPoolUnknown."""
    vm = view.vms.get(vm_id)
    if vm is None:
        raise VmNotFound(f"there is no VM {vm_id}", vm_id=vm_id)
    if vm.pool_id is None:
        raise VmPoolUnknown(f"nobody tells on which pool VM {vm.name} lies")
    return vm


def check_idle(view: View, row: DiskRow) -> None:
    """Refuse a disk whose VM is not known to be down. DiskInUse.

    A guest that is paused by an error may have lost its lease, and storage does not
    tell of it then: whoever hears all nodes is asked as well.
    """
    for vm_id in view.disk_users.get(row.disk_id, ()):
        vm = view.vms.get(vm_id)
        if vm is not None and vm.state is not VmState.DOWN:
            raise DiskInUse(
                f"VM {vm.name}, which has disk {row.name}, is {vm.state}",
                name=row.name,
                vm=vm.name,
            )


def up(view: View, node_id: NodeId) -> NodeView:
    """Return a node that can be asked; NodeNotFound, NodeSilent."""
    node = view.nodes.get(node_id)
    if node is None:
        raise NodeNotFound(f"there is no node {node_id}", node_id=node_id)
    if node.state is NodeState.UNREACHABLE:
        raise NodeSilent(f"node {node.name} is unreachable", node=node.name)
    return node


def any_node(view: View) -> NodeView:
    """Return a node to make a storage domain on: the first by name that is up."""
    nodes = [each for each in view.nodes.values() if each.state is NodeState.UP]
    if not nodes:
        raise NobodyToAsk("no node is up")
    return min(nodes, key=lambda each: (each.name, each.node_id))


def manager(view: View, pool_id: PoolId) -> NodeId:
    """Return the node that manages a pool; NoManager says why there is none."""
    row = pool(view, pool_id)
    found = views.manager_of(view, pool_id)
    if found is not None:
        return found
    if row.is_disputed:
        raise ManagersDisputed(f"two nodes say that they manage pool {row.name}")
    if row.manager is not None:
        node = view.nodes.get(row.manager)
        name = node.name if node is not None else row.manager
        why = f"its manager {name} is silent; another node is to take over"
    elif row.reason is not None:
        why = messages.text(row.reason.code, row.reason.fields)
    else:
        why = f"it is {row.state}; a node is being elected"
    raise NoManager(f"pool {row.name} has no manager: {why}", name=row.name)


def _managed(view: View, pool_id: PoolId, name: str) -> Route:
    return Route(manager(view, pool_id), name, pool_id)


def _domain_route(
    view: View,
    verb: str,
    storage_domain_id: StorageDomainId,
    request: Any,
    node_id: NodeId | None,
) -> Route:
    row = domain(view, storage_domain_id)
    if verb == "storage_domain_attach":
        return _managed(view, request.pool_id, row.name)
    if row.pool_id is not None and row.pool_id in view.pools:
        return _managed(view, row.pool_id, row.name)
    return Route(up(view, node_id or row.speaker).node_id, row.name)


def _vm_route(view: View, vm_id: VmId) -> Route:
    """Return who changes the snapshots of a VM: they are part of its definition."""
    vm = defined_vm(view, vm_id)
    assert vm.pool_id is not None, "its definition names it"
    return _managed(view, vm.pool_id, vm.name)


def _template_route(
    view: View, verb: str, template_id: TemplateId, request: Any
) -> Route:
    if verb == "template_create":
        of_vm = _vm_route(view, request.vm_id)
        name = request.name
        if request.base_id is not None:
            name = template(view, request.base_id).name
        return replace(of_vm, name=name)
    row = template(view, template_id)
    if row.pool_id is None:
        raise PoolNotFound(f"template {row.name} belongs to no pool")
    return _managed(view, row.pool_id, row.name)


def _disk_route(view: View, verb: str, disk_id: DiskId, request: Any) -> Route:
    if verb == "disk_create":
        place = domain(view, request.storage_domain_id)
        if place.pool_id is None:
            raise PoolNotFound(f"storage domain {place.name} belongs to no pool")
        return _managed(view, place.pool_id, request.name)
    row = disk(view, disk_id)
    if row.pool_id is None:
        raise PoolNotFound(f"disk {row.name} belongs to no pool")
    is_kept_still = getattr(request, "snapshot_id", None) is not None
    if verb in _OF_IDLE_DISKS and not is_kept_still:
        check_idle(view, row)
    return _managed(view, row.pool_id, row.name)


def _master_move(view: View, pool_id: PoolId, request: Any) -> Route:
    """Ask the manager; with the master dead, a node that sees the new one well."""
    row = pool(view, pool_id)
    if not request.is_reconstruction or views.manager_of(view, pool_id) is not None:
        return _managed(view, pool_id, row.name)
    target = domain(view, request.storage_domain_id)
    for node_id, sight in sorted(target.sights.items()):
        is_well = sight.state is DomainState.ACTIVE and not sight.is_silent
        if is_well and node_id in row.sights:
            return Route(node_id, row.name)
    raise NobodyToAsk(f"no node of pool {row.name} can use {target.name}")


def _domain_name(view: View, object_id: str) -> str:
    row = view.storage_domains.get(StorageDomainId(object_id))
    return "" if row is None else row.name
