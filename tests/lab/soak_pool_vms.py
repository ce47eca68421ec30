"""Order what the soak of storage does with VMs, and remove what it has left over."""

import time
from typing import Any, Final

from aggregator.api import snapshot_verbs, template_verbs, verbs
from aggregator.api.model import OrderLine
from aggregator.api.template_model import NewVmOfTemplate
from node.model.ids import SnapshotId, TemplateId, VmId
from node.model.job import JobState
from node.model.storage import SnapshotState
from node.model.storage_requests import CreateSnapshot, DeleteSnapshot
from node.model.templates import CreateTemplate, DeleteTemplate
from tests.lab import errors, waiting
from tests.lab.soak_pool_checks import Start
from tests.lab.soak_pool_plan import Task, Work
from tests.lab.soak_pool_stage import Stage

_NAME_LENGTH: Final = 8
_DECIDED_S: Final = 120.0  # definitions are read each half a minute


def ask(stage: Stage, task: Task) -> OrderLine:
    """Order what a task is of a VM or a template."""
    client, vm_id, made_id = stage.client, VmId(stage.vm), task.made_id
    name = made_id[:_NAME_LENGTH]
    match task.work:
        case Work.SNAPSHOT:
            snapshot = CreateSnapshot(SnapshotId(made_id))
            verb = snapshot_verbs.VM_SNAPSHOT_CREATE
            return client.vm_snapshot_act(verb, snapshot, vm_id)
        case Work.MERGE:
            merged = DeleteSnapshot(SnapshotId(made_id))
            verb = snapshot_verbs.VM_SNAPSHOT_DELETE
            return client.vm_snapshot_act(verb, merged, vm_id)
        case Work.SUSPEND:
            return client.vm_act(verbs.VM_SUSPEND, vm_id)
        case Work.TEMPLATE:
            template = CreateTemplate(TemplateId(made_id), name, VmId(stage.still))
            return client.template_act(template_verbs.TEMPLATE_CREATE, template)
        case Work.DELETE_VM:
            return client.vm_act(verbs.VM_DELETE, VmId(made_id))
        case Work.DELETE_TEMPLATE:
            verb, template_id = template_verbs.TEMPLATE_DELETE, TemplateId(made_id)
            return client.template_act(verb, DeleteTemplate(), template_id)
    new = NewVmOfTemplate(name, VmId(made_id), is_clone=task.work is Work.CLONE)
    verb = template_verbs.TEMPLATE_NEW_VM
    return client.template_act(verb, new, TemplateId(task.of_id))


def go_on(stage: Stage, name: str) -> None:
    """Start the VM on a host; its guest writes into the slot that it had; Refused."""
    at_ns = time.monotonic_ns()
    stage.agent(name).do(f"/vms/{stage.vm}/start")
    stage.starts.append(Start(name, at_ns))


def memory(stage: Stage) -> Any:
    """Return what the manager knows is kept of the VM's memory; None: nothing."""
    found = stage.agent(stage.manager()).get(f"/vms/{stage.vm}")
    return found["vm"].get("memory")


def _rests(stage: Stage) -> bool:
    """Tell whether the VM is suspended, when its manager has decided that.

    A place that was made for a memory, and never filled, goes while the VM is down.
    """

    def is_decided() -> bool:
        found = memory(stage)
        return bool(stage.runner()) or found is None or found.get("is_saved", False)

    waiting.until("what became of the memory", is_decided, timeout_s=_DECIDED_S)
    return not stage.runner() and memory(stage) is not None


def amend(stage: Stage) -> bool:
    """Let a suspended VM go on; delete snapshots, VMs of templates, templates.

    A snapshot that was broken off is asked for again first, as its error says. Tell
    whether there was anything to do.
    """
    rests = _rests(stage)
    if rests:
        go_on(stage, stage.manager())
    kept = {stage.vm, stage.still}
    client = stage.client
    snapshots = client.vm_snapshot_list(VmId(stage.vm)).snapshots
    locked = [each for each in snapshots if each.state is SnapshotState.LOCKED]
    left = [Task(Work.SNAPSHOT, made_id=each.snapshot_id) for each in locked]
    left += [Task(Work.MERGE, made_id=each.snapshot_id) for each in snapshots]
    vms = [each.vm_id for each in client.vm_list().vms if each.vm_id not in kept]
    left += [Task(Work.DELETE_VM, made_id=each) for each in vms]
    made = [each.template.template_id for each in client.template_list().templates]
    left += [Task(Work.DELETE_TEMPLATE, made_id=each) for each in made]
    for task in left:
        line = stage.finish(ask(stage, task))
        if line.state is not JobState.DONE:
            told = f"{task.made_id}: {line.error}"
            raise errors.StepFailed(str(task.work), told, remedy="see logs")
    return rests or bool(left)
