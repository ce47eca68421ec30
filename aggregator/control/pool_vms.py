"""Say which nodes count for a VM whose definition lies on a pool.

Pure. The pool's manager makes, changes and deletes the definition. It may run on any
node of the pool that can use all its storage domains; the storage itself refuses a
second start, whatever we believe. A VM on the pool of one node's own disk is tied to
that node, which does all of it.
"""

from aggregator.control import routes
from aggregator.federation import conflicts
from aggregator.federation.view import (
    NodeState,
    NodeView,
    StorageDomainRow,
    View,
    VmView,
)
from node import wire
from node.model.ids import NodeId
from node.model.storage import DomainState, PoolState
from node.model.vm import Vm, VmRun, VmSpec


def definer(view: View, vm: VmView) -> NodeId | None:
    """Return who changes a VM's definition; None: its own node. NoManager."""
    if vm.pool_id is None or vm.is_tied:
        return None
    return routes.manager(view, vm.pool_id)


def changers(view: View, vm: VmView) -> tuple[NodeId, ...]:
    """Return who changes a VM's disks: first who writes it down, then who runs it."""
    manager = definer(view, vm)
    if manager is None:
        return (vm.node_id,)
    is_elsewhere = conflicts.is_running(vm) and vm.node_id != manager
    return (manager, vm.node_id) if is_elsewhere else (manager,)


def is_to_be_placed(view: View, vm: VmView) -> bool:
    """Say whether a start may choose a node: nobody who is heard runs the VM."""
    if vm.is_tied:
        return False
    node = view.nodes.get(vm.node_id)
    is_silent = node is None or node.state is NodeState.UNREACHABLE
    return is_silent or not conflicts.is_running(vm)


def definition(vm: VmView) -> Vm:
    """Return a VM's definition as it was told."""
    return wire.decode(Vm, vm.vm_document, strict=False)


def lease_version(vm: VmView) -> int | None:
    """Return which version of its lease a VM runs under, as its node told."""
    if not vm.run_document:
        return None
    return wire.decode(VmRun, vm.run_document, strict=False).lease_version


def hosts(view: View, spec: VmSpec) -> tuple[NodeView, ...]:
    """Return the nodes that can use all the storage of a VM, by their ids.

    Who is not in a storage domain's lockspace yet cannot have the VM's lease.
    """
    assert spec.pool_id is not None, "it is a VM of a pool"
    pool = routes.pool(view, spec.pool_id)
    wanted = {each.storage_domain_id for each in spec.disks} - {None}
    rows = [view.storage_domains.get(each) for each in wanted if each is not None]
    return tuple(
        view.nodes[node_id]
        for node_id, sight in sorted(pool.sights.items())
        if sight.state is not PoolState.UNREACHABLE
        and all(_can_use(row, node_id) for row in rows)
    )


def _can_use(row: StorageDomainRow | None, node_id: NodeId) -> bool:
    sight = None if row is None else row.sights.get(node_id)
    return (
        sight is not None
        and sight.state is DomainState.ACTIVE
        and sight.host_id is not None
    )
