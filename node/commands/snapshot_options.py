"""Ask for snapshots at a terminal, and show them: what both command lines have.

`create_options` adds to a command what `creation` reads, and so on.
"""

import contextlib
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import click

from node.commands import terminal
from node.errors import Conflict, NotFound
from node.model.ids import DiskId, NodeId, SnapshotId
from node.model.storage_requests import CreateSnapshot, DeleteSnapshot, PreviewSnapshot
from node.model.vm import Snapshot, Vm


class NoSuchSnapshot(NotFound):
    code = "no_such_snapshot"
    remedy = "List the VM's snapshots to see those that it has."


class SeveralSnapshots(Conflict):
    code = "several_snapshots"
    remedy = "Name the snapshot by its id."


_disk_option = click.option(
    "--disk", "disks", multiple=True, help="Only the one of this id; more than once."
)


def _memory_option(text: str) -> Callable[..., Any]:
    return click.option("--memory", "has_memory", is_flag=True, help=text)


def create_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what a new snapshot is made by."""
    for option in (
        terminal.generation_option,
        click.option(
            "--id",
            "chosen",
            type=click.UUID,
            default=uuid.uuid4,
            help="Choose its id: asked twice, it is one snapshot.",
        ),
        _disk_option,
        _memory_option("Keep the memory, too, if the VM runs or is paused."),
        click.option("--description", default="", help="What it is for."),
    ):
        command = option(command)
    return command


def deletion_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add how a snapshot goes."""
    return terminal.data_node_option(terminal.generation_option(command))


def clone_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add how a VM is made of a snapshot."""
    chosen = click.option(
        "--id",
        "chosen",
        type=click.UUID,
        default=uuid.uuid4,
        help="Choose the new VM's id: asked twice, it is one VM.",
    )
    return terminal.data_node_option(chosen(command))


def preview_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add how a VM goes back to a snapshot."""
    for option in (
        terminal.generation_option,
        _disk_option,
        _memory_option("The next start goes on with the memory of then."),
    ):
        command = option(command)
    return command


def creation(
    *,
    description: str,
    disks: tuple[str, ...],
    chosen: uuid.UUID,
    generation: int | None,
    has_memory: bool,
) -> CreateSnapshot:
    """Return what is asked for by the options."""
    return CreateSnapshot(
        SnapshotId(str(chosen)),
        description,
        has_memory,
        disk_ids=tuple(map(DiskId, disks)) or None,
        generation=generation,
    )


def preview(
    vm: Vm,
    name: str,
    *,
    disks: tuple[str, ...],
    generation: int | None,
    has_memory: bool,
) -> PreviewSnapshot:
    """Return what is asked for by the options; as `find`."""
    return PreviewSnapshot(
        find(vm, name),
        has_memory,
        disk_ids=tuple(map(DiskId, disks)) or None,
        generation=generation,
    )


def deletion(
    vm: Vm, name: str, *, generation: int | None, data_node_id: NodeId | None
) -> DeleteSnapshot:
    """Return what is asked for by the options; as `find`."""
    found = find(vm, name)
    return DeleteSnapshot(found, generation, data_node_id=data_node_id)


def table(vm: Vm, snapshots: Iterable[Snapshot]) -> str:
    """Return the list that people read."""
    rows = [
        (
            "*" if each.snapshot_id == vm.snapshot_id else "",
            each.snapshot_id,
            each.description,
            each.created_at,
            each.state.value,
            str(len(each.disks)),
            "yes" if each.is_consistent else "",
            "yes" if each.memory is not None and each.memory.is_saved else "",
        )
        for each in snapshots
    ]
    heads = ("", "ID", "DESCRIPTION", "TAKEN AT", "STATE", "DISKS", "FROZEN", "MEMORY")
    return terminal.table(heads, rows)


def get(vm: Vm, name: str) -> Snapshot:
    """Return a snapshot of a VM; as `find`."""
    snapshot_id = find(vm, name)
    for each in vm.snapshots:
        if each.snapshot_id == snapshot_id:
            return each
    raise NoSuchSnapshot(f"VM {vm.spec.name} has no snapshot {name}")


def find(vm: Vm, name: str) -> SnapshotId:
    """Return an id as it is, and that of a description that only one has."""
    with contextlib.suppress(ValueError):
        return SnapshotId(str(uuid.UUID(name)))
    found = [e.snapshot_id for e in vm.snapshots if e.description == name]
    if not found:
        raise NoSuchSnapshot(f"VM {vm.spec.name} has no snapshot {name}")
    if len(found) > 1:
        raise SeveralSnapshots(f"{name} is the description of {', '.join(found)}")
    return found[0]
