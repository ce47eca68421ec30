"""The commands on snapshots of VMs."""

import uuid
from typing import Any

import click

from node.cli.context import Context, generation_option, job_command, pass_context
from node.commands import snapshot_options
from node.model.ids import NodeId, VmId
from node.model.job import Job
from node.model.storage_requests import ActOnSnapshot
from node.model.templates import CloneVm
from node.policy import made_of


@click.group()
def snapshot() -> None:
    """Keep states of VMs, go back to them, let them go."""


@snapshot.command("list")
@click.argument("vm")
@pass_context
def snapshot_list(context: Context, vm: str) -> None:
    """List the snapshots of a VM: where it is now is marked with a star."""
    known = context.find(vm).vm
    reply = context.client.vm_snapshot_list(known.spec.vm_id)
    context.show(reply, lambda: snapshot_options.table(known, reply.snapshots))


@snapshot.command("create")
@click.argument("vm")
@snapshot_options.create_options
@job_command
def snapshot_create(context: Context, /, *, vm: str, **parts: Any) -> Job:
    """Keep all disks of a VM as they are now, whether or not it runs."""
    vm_id = context.find(vm).vm.spec.vm_id
    request = snapshot_options.creation(**parts)
    return context.client.vm_snapshot_create(vm_id, request)


@snapshot.command("delete")
@click.argument("vm")
@click.argument("name", metavar="SNAPSHOT")
@snapshot_options.deletion_options
@job_command
def snapshot_delete(context: Context, /, *, vm: str, name: str, **parts: Any) -> Job:
    """Let a SNAPSHOT go: it is merged, and the VM keeps its data."""
    known = context.find(vm).vm
    request = snapshot_options.deletion(known, name, **parts)
    return context.client.vm_snapshot_delete(known.spec.vm_id, request)


@snapshot.command("preview")
@click.argument("vm")
@click.argument("name", metavar="SNAPSHOT")
@snapshot_options.preview_options
@job_command
def snapshot_preview(context: Context, /, *, vm: str, name: str, **parts: Any) -> Job:
    """Let a VM that is down go back to a SNAPSHOT to look at it."""
    known = context.find(vm).vm
    request = snapshot_options.preview(known, name, **parts)
    return context.client.vm_snapshot_preview(known.spec.vm_id, request)


@snapshot.command("clone")
@click.argument("vm")
@click.argument("name", metavar="SNAPSHOT")
@click.argument("new_name")
@snapshot_options.clone_options
@job_command
def snapshot_clone(
    context: Context,
    /,
    *,
    vm: str,
    name: str,
    new_name: str,
    chosen: uuid.UUID,
    data_node_id: NodeId | None,
) -> Job:
    """Make a VM NEW_NAME that is what VM was at a SNAPSHOT; all data are copied."""
    known = context.find(vm).vm
    kept = snapshot_options.get(known, name)
    words = (known, kept, VmId(str(chosen)), new_name, context.mac)
    spec, copied = made_of.of_snapshot(*words)
    request = CloneVm(spec, snapshot=copied, data_node_id=data_node_id)
    return context.client.vm_clone(request)


@snapshot.command("commit")
@click.argument("vm")
@generation_option
@job_command
def snapshot_commit(context: Context, /, *, vm: str, generation: int | None) -> Job:
    """Stay with what a VM previews; all that came after the snapshot is lost."""
    vm_id = context.find(vm).vm.spec.vm_id
    return context.client.vm_snapshot_commit(vm_id, ActOnSnapshot(generation))


@snapshot.command("undo")
@click.argument("vm")
@generation_option
@job_command
def snapshot_undo(context: Context, /, *, vm: str, generation: int | None) -> Job:
    """End a preview: the VM is as before; what it wrote meanwhile is lost."""
    vm_id = context.find(vm).vm.spec.vm_id
    return context.client.vm_snapshot_undo(vm_id, ActOnSnapshot(generation))
