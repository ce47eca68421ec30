"""Say what comes next in an order that takes several verbs.

Pure: asked again after a crash, with the same View, it says the same. What a later
step is depends on how things are by then, so it is not fixed beforehand.

    join a pool   storage_domain_create ┬─► storage_domain_attach ─► …_activate
                  storage_domain_import ┤   (the pool is there)
                                        └─► pool_create
                                            (the pool's first data domain)
    hand over     spm_leave, at the manager ──► spm_become, at the chosen node
    restore       vm_snapshot_preview ──► vm_snapshot_commit
    with a guest  the manager begins ──► the guest's node turns the guest ──► the
                  manager finishes: a snapshot of a VM that runs on another node,
                  or the VM is suspended
"""

import uuid
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from aggregator.control.actions import StorageAction
from aggregator.federation import conflicts
from aggregator.federation import view as views
from aggregator.federation.view import View
from node.model.ids import JobId, NodeId, PoolId, StorageDomainId, VmId
from node.model.storage import Connection, DomainClass
from node.model.storage_requests import (
    ActOnSnapshot,
    ActOnStorageDomain,
    AttachStorageDomain,
    BecomeSpm,
    CreatePool,
    CreateSnapshot,
    SnapshotPart,
)


class Goal(StrEnum):
    JOIN_POOL = "join_pool"
    HAND_OVER = "hand_over"
    RESTORE = "restore"
    WITH_GUEST = "with_guest"


@dataclass(frozen=True, slots=True)
class Plan:
    goal: Goal
    pool_id: PoolId
    pool_name: str
    node_id: NodeId  # which reaches the storage domain; which is to be manager
    storage_domain_id: StorageDomainId | None = None
    domain_class: DomainClass = DomainClass.DATA
    connection: Connection | None = None
    description: str = ""
    wipe_after_delete: bool = False
    lease_version: int | None = None
    leaver: NodeId | None = None  # who hands over, and then stands back
    vm_id: VmId | None = None
    result: str = ""  # of the step that was done last


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be asked now; the text says what is waited for."""

    text: str


# How a node says that a guest has turned to a snapshot's volumes; see its jobs.
_FROZEN: Final = "frozen"
_TURNED: Final = frozenset({_FROZEN, "turned"})
_WITH_GUEST: Final = frozenset(
    {"vm_snapshot_create", "vm_snapshot_delete", "vm_suspend"}
)

Next = StorageAction | Wait | None  # None: that was all


def after(
    done: StorageAction,
    plan: Plan,
    order_id: JobId,
    view: View,
    founded_on: StorageDomainId | None,
) -> Next:
    """Return what to do after a step; `founded_on`: the pool is being made there."""
    verb = done.verb
    if plan.goal is Goal.HAND_OVER:
        if verb != "spm_leave":
            return None
        request = BecomeSpm(plan.lease_version)
        return _step("spm_become", plan.pool_id, request, plan.node_id, done, order_id)
    if plan.goal is Goal.RESTORE:
        if verb != "vm_snapshot_preview":
            return None
        commit = ActOnSnapshot()
        return _at_manager("vm_snapshot_commit", commit, plan, done, order_id, view)
    if plan.goal is Goal.WITH_GUEST:
        return _with_guest(done, plan, order_id, view)
    if verb == "storage_domain_attach" or (
        verb == "storage_domain_import" and done.request.pool_id is not None
    ):
        return _at_manager(
            "storage_domain_activate", ActOnStorageDomain(), plan, done, order_id, view
        )
    if verb in ("storage_domain_create", "storage_domain_import"):
        return _join(done, plan, order_id, view, founded_on)
    return None


def beginning(view: View, verb: str, vm_id: VmId, request: Any) -> Any:
    """Return the request for the manager; another than asked for: a plan follows.

    Only if the VM runs on another node than its pool's manager.
    """
    if verb not in _WITH_GUEST or request.part is not SnapshotPart.WHOLE:
        return request
    vm = view.vms.get(vm_id)
    if vm is None or vm.is_tied or not conflicts.is_running(vm):
        return request
    assert vm.pool_id is not None, "it is not tied to a node"
    is_here = vm.node_id == views.manager_of(view, vm.pool_id)
    return request if is_here else replace(request, part=SnapshotPart.BEGIN)


def job_id(order_id: JobId, what: str) -> JobId:
    """Return the id of a later job of an order: the same whenever it is asked."""
    return JobId(str(uuid.uuid5(uuid.UUID(order_id), what)))


def _join(
    done: StorageAction,
    plan: Plan,
    order_id: JobId,
    view: View,
    founded_on: StorageDomainId | None,
) -> Next:
    if plan.pool_id in view.pools:
        attach = AttachStorageDomain(
            plan.pool_id,
            plan.connection,
            description=plan.description,
            wipe_after_delete=plan.wipe_after_delete,
        )
        return _at_manager("storage_domain_attach", attach, plan, done, order_id, view)
    if plan.domain_class is not DomainClass.DATA or plan.storage_domain_id is None:
        return None  # it waits, unattached, for the first data domain
    if founded_on is not None and founded_on != plan.storage_domain_id:
        return Wait(
            f"waiting for pool {plan.pool_name}, begun on another storage domain: "
            "no node that is heard is in it yet"
        )
    create = CreatePool(plan.pool_id, plan.pool_name, plan.storage_domain_id)
    return _step("pool_create", plan.pool_id, create, plan.node_id, done, order_id)


def _with_guest(done: StorageAction, plan: Plan, order_id: JobId, view: View) -> Next:
    """Return what follows a part of a verb that needs the guest's node.

    Each part is another job, and has no generation: the one before changed it.
    """
    part, asked = done.request.part, replace(done.request, generation=None)
    vm = view.vms.get(plan.vm_id) if plan.vm_id is not None else None
    if vm is None or part not in (SnapshotPart.BEGIN, SnapshotPart.GUEST):
        return None
    if part is SnapshotPart.BEGIN and conflicts.is_running(vm):
        return StorageAction(
            job_id(order_id, f"{done.verb} {SnapshotPart.GUEST}"),
            vm.node_id,
            done.object_id,
            done.correlation_id,
            done.verb,
            replace(asked, part=SnapshotPart.GUEST),
        )
    # Who has not turned a guest may not say so: the manager looks for itself.
    has_turned = part is SnapshotPart.GUEST and plan.result in _TURNED
    finish = SnapshotPart.FINISH if has_turned else SnapshotPart.WHOLE
    request = replace(asked, part=finish)
    if isinstance(request, CreateSnapshot):
        request = replace(request, is_consistent=plan.result == _FROZEN)
    return _at_manager(done.verb, request, plan, done, order_id, view)


def _at_manager(
    verb: str,
    request: object,
    plan: Plan,
    done: StorageAction,
    order_id: JobId,
    view: View,
) -> Next:
    manager = views.manager_of(view, plan.pool_id)
    object_id = plan.vm_id or plan.storage_domain_id
    if manager is None or object_id is None:
        return Wait(f"waiting for a manager of pool {plan.pool_name}")
    return StorageAction(
        job_id(order_id, verb),
        manager,
        object_id,
        done.correlation_id,
        verb,
        request,
        plan.pool_id,
    )


def _step(
    verb: str,
    object_id: str,
    request: object,
    node_id: NodeId,
    done: StorageAction,
    order_id: JobId,
) -> StorageAction:
    return StorageAction(
        job_id(order_id, verb), node_id, object_id, done.correlation_id, verb, request
    )
