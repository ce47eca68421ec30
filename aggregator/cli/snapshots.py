"""The commands on snapshots of VMs."""

import uuid
from typing import Any

import click

from aggregator.api import snapshot_verbs as verbs
from aggregator.api.model import CloneSnapshot, OrderLine
from aggregator.cli.context import Context, pass_context
from aggregator.cli.storage.domains import order_command
from node.commands import snapshot_options
from node.commands.terminal import generation_option
from node.model.ids import NodeId, VmId
from node.model.storage_requests import ActOnSnapshot
from node.model.verb import Verb
from node.model.vm import Vm


@click.group()
def snapshot() -> None:
    """Keep states of VMs, go back to them, let them go."""


@snapshot.command("list")
@click.argument("vm")
@pass_context
def snapshot_list(context: Context, vm: str) -> None:
    """List the snapshots of a VM: where it is now is marked with a star."""
    known = _vm(context, vm)
    reply = context.client.vm_snapshot_list(known.spec.vm_id)
    context.show(reply, lambda: snapshot_options.table(known, reply.snapshots))


@snapshot.command("create")
@click.argument("vm")
@snapshot_options.create_options
@order_command
def snapshot_create(context: Context, /, *, vm: str, **parts: Any) -> OrderLine:
    """Keep all disks of a VM as they are now, whether or not it runs."""
    request = snapshot_options.creation(**parts)
    verb, vm_id = verbs.VM_SNAPSHOT_CREATE, context.find_vm(vm)
    return context.client.vm_snapshot_act(verb, request, vm_id)


@snapshot.command("delete")
@click.argument("vm")
@click.argument("name", metavar="SNAPSHOT")
@snapshot_options.deletion_options
@order_command
def snapshot_delete(
    context: Context, /, *, vm: str, name: str, **parts: Any
) -> OrderLine:
    """Let a SNAPSHOT go: it is merged, and the VM keeps its data."""
    known = _vm(context, vm)
    request = snapshot_options.deletion(known, name, **parts)
    verb, vm_id = verbs.VM_SNAPSHOT_DELETE, known.spec.vm_id
    return context.client.vm_snapshot_act(verb, request, vm_id)


@snapshot.command("preview")
@click.argument("vm")
@click.argument("name", metavar="SNAPSHOT")
@snapshot_options.preview_options
@order_command
def snapshot_preview(
    context: Context, /, *, vm: str, name: str, **parts: Any
) -> OrderLine:
    """Let a VM that is down go back to a SNAPSHOT to look at it."""
    return _go_back(context, verbs.VM_SNAPSHOT_PREVIEW, vm, name, parts)


@snapshot.command("restore")
@click.argument("vm")
@click.argument("name", metavar="SNAPSHOT")
@snapshot_options.preview_options
@click.confirmation_option(prompt="Lose all that came after the snapshot?")
@order_command
def snapshot_restore(
    context: Context, /, *, vm: str, name: str, **parts: Any
) -> OrderLine:
    """Let a VM that is down go back to a SNAPSHOT for good."""
    return _go_back(context, verbs.VM_SNAPSHOT_RESTORE, vm, name, parts)


@snapshot.command("clone")
@click.argument("vm")
@click.argument("name", metavar="SNAPSHOT")
@click.argument("new_name")
@snapshot_options.clone_options
@order_command
def snapshot_clone(
    context: Context,
    /,
    *,
    vm: str,
    name: str,
    new_name: str,
    chosen: uuid.UUID,
    data_node_id: NodeId | None,
) -> OrderLine:
    """Make a VM NEW_NAME that is what VM was at a SNAPSHOT; all data are copied."""
    known = _vm(context, vm)
    snapshot_id = snapshot_options.find(known, name)
    request = CloneSnapshot(snapshot_id, new_name, VmId(str(chosen)), data_node_id)
    verb, vm_id = verbs.VM_SNAPSHOT_CLONE, known.spec.vm_id
    return context.client.vm_snapshot_act(verb, request, vm_id)


@snapshot.command("commit")
@click.argument("vm")
@generation_option
@order_command
def snapshot_commit(
    context: Context, /, *, vm: str, generation: int | None
) -> OrderLine:
    """Stay with what a VM previews; all that came after the snapshot is lost."""
    request, vm_id = ActOnSnapshot(generation), context.find_vm(vm)
    return context.client.vm_snapshot_act(verbs.VM_SNAPSHOT_COMMIT, request, vm_id)


@snapshot.command("undo")
@click.argument("vm")
@generation_option
@order_command
def snapshot_undo(context: Context, /, *, vm: str, generation: int | None) -> OrderLine:
    """End a preview: the VM is as before; what it wrote meanwhile is lost."""
    request, vm_id = ActOnSnapshot(generation), context.find_vm(vm)
    return context.client.vm_snapshot_act(verbs.VM_SNAPSHOT_UNDO, request, vm_id)


def _go_back(
    context: Context, verb: Verb, vm: str, name: str, parts: dict[str, Any]
) -> OrderLine:
    known = _vm(context, vm)
    request = snapshot_options.preview(known, name, **parts)
    return context.client.vm_snapshot_act(verb, request, known.spec.vm_id)


def _vm(context: Context, name: str) -> Vm:
    return context.client.vm_show(context.find_vm(name)).entry.vm
