"""Decide which nodes and VMs of a View need a person, each with its remedy.

Pure. What one silent node makes of its VMs is one alarm: the node's. Those of the
storage are in `storage_alarms`.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from aggregator.federation.view import NodeState, NodeView, View, VmView
from node.model import messages
from node.model.ids import DiskId, NodeId, PoolId, StorageDomainId, VmId
from node.model.messages import Severity
from node.model.reason import Reason
from node.model.vm import VmState, Wanted

_RANK = {
    Severity.ALERT: 0,
    Severity.ERROR: 1,
    Severity.WARNING: 2,
    Severity.NORMAL: 3,
}


@dataclass(frozen=True, slots=True)
class Alarm:
    name: str  # of what it is about
    reason: Reason
    severity: Severity
    node_id: NodeId | None = None
    vm_id: VmId | None = None
    pool_id: PoolId | None = None
    storage_domain_id: StorageDomainId | None = None
    disk_id: DiskId | None = None
    vms_affected: int = 0


def is_vm_alarming(vm: VmView) -> bool:
    """Say whether a VM is not as wanted, for a reason that is no mere step."""
    if vm.state is VmState.NOT_RESPONDING:
        return True
    is_as_wanted = vm.state is VmState.DOWN and vm.wanted is Wanted.DOWN
    return (
        vm.reason is not None
        and not is_as_wanted
        and messages.severity(vm.reason.code) is not Severity.NORMAL
    )


def is_node_alarming(node: NodeView) -> bool:
    """Say whether a node is silent or has a problem of its own."""
    return bool(_node_reasons(node))


def _node_reasons(node: NodeView) -> tuple[Reason, ...]:
    reasons: tuple[Reason, ...] = (node.reason,) if node.reason else ()
    # what a silent node said of itself last is not news
    if node.facts and node.state is NodeState.UP:
        reasons += node.facts.problems
    return tuple(
        each for each in reasons if messages.severity(each.code) is not Severity.NORMAL
    )


def alarms(view: View) -> tuple[Alarm, ...]:
    """Return the alarms of nodes and VMs: see `in_order`."""
    found: list[Alarm] = []
    silent: Counter[NodeId] = Counter()
    for vm in view.vms.values():
        if not is_vm_alarming(vm):
            continue
        if vm.state is VmState.UNKNOWN and vm.node_id in view.nodes:
            silent[vm.node_id] += 1
            continue
        why = vm.reason or Reason("vm_not_responding", vm.since, {"name": vm.name})
        found.append(Alarm(vm.name, why, messages.severity(why.code), vm_id=vm.vm_id))
    for node in view.nodes.values():
        affected = silent[node.node_id]
        reasons = _node_reasons(node)
        if affected and not reasons:
            reasons = (Reason("node_never_heard", node.since, {"node": node.name}),)
        found += [
            Alarm(
                node.name,
                why,
                messages.severity(why.code),
                node_id=node.node_id,
                vms_affected=affected if why is reasons[0] else 0,
            )
            for why in reasons
        ]
    return in_order(found)


def in_order(found: Iterable[Alarm]) -> tuple[Alarm, ...]:
    """Return alarms, the gravest first, the newest first among equals."""
    by_age = sorted(found, key=lambda alarm: alarm.reason.since, reverse=True)
    return tuple(sorted(by_age, key=lambda alarm: _RANK[alarm.severity]))
