"""The commands on the disks of pools."""

from typing import Any

import click

from aggregator.api import storage_verbs as verbs
from aggregator.api.model import OrderLine
from aggregator.api.storage_model import NewDisk
from aggregator.cli.context import Context, pass_context
from aggregator.cli.storage import profiles, render, transfers
from aggregator.cli.storage.domains import order_command
from node.commands import storage_options, terminal
from node.model.ids import NodeId
from node.model.storage_requests import (
    ActOnDisk,
    MoveDisk,
    ResizeDisk,
    SparsifyDisk,
)


@click.group()
def disk() -> None:
    """Look after the disks of pools."""


@disk.command("list")
@click.argument("search", default="")
@pass_context
def disk_list(context: Context, search: str) -> None:
    """List disks; SEARCH is part of a name, a state, or a storage domain."""
    reply = context.client.disk_list(search)
    context.show(reply, lambda: render.disks(reply))


@disk.command("show")
@click.argument("name")
@pass_context
def disk_show(context: Context, name: str) -> None:
    """Describe a disk, and why it is as it is."""
    reply = context.client.disk_show(context.find_disk(name))
    context.show(reply, lambda: render.disk(reply))


@disk.command("create")
@storage_options.new_disk_options
@click.option("--profile", help="Its disk profile; else the storage domain's default.")
@order_command
def disk_create(
    context: Context, /, *, storage_domain: str, profile: str | None, **parts: Any
) -> OrderLine:
    """Make a disk of SIZE, such as 20G, on STORAGE_DOMAIN."""
    place = context.find_storage_domain(storage_domain)
    new = storage_options.new_disk(place.storage_domain_id, **parts)
    request = NewDisk(
        new.name,
        new.storage_domain_id,
        new.size_bytes,
        new.disk_id,
        new.disk_format,
        new.allocation,
        new.description,
        new.content,
        new.is_shared,
        new.wipe_after_delete,
        new.qos,
        profiles.find_profile(context, profile).profile_id if profile else None,
    )
    return context.client.disk_act(verbs.DISK_CREATE, request)


@disk.command("delete")
@storage_options.disk_delete_options
@click.confirmation_option(prompt="Delete the disk with all its snapshots?")
@order_command
def disk_delete(
    context: Context, /, *, name: str, storage_domain: str | None
) -> OrderLine:
    """Delete a disk that no VM runs with, or one copy of a template's."""
    disk_id, where = context.find_disk(name), None
    if storage_domain is not None:
        where = context.find_storage_domain(storage_domain).storage_domain_id
    request = ActOnDisk(storage_domain_id=where)
    return context.client.disk_act(verbs.DISK_DELETE, request, disk_id)


@disk.command("resize")
@click.argument("name")
@click.argument("size_bytes", metavar="SIZE", type=terminal.Size())
@order_command
def disk_resize(context: Context, /, *, name: str, size_bytes: int) -> OrderLine:
    """Let a disk grow to SIZE, such as 20G."""
    disk_id = context.find_disk(name)
    return context.client.disk_act(verbs.DISK_RESIZE, ResizeDisk(size_bytes), disk_id)


@disk.command("change")
@storage_options.disk_change_options
@order_command
def disk_change(context: Context, /, *, name: str, **parts: Any) -> OrderLine:
    """Change what a disk is called, and how it may be used."""
    disk_id = context.find_disk(name)
    request = storage_options.disk_change(
        lambda: context.client.disk_show(disk_id).disk.qos, **parts
    )
    return context.client.disk_act(verbs.DISK_CHANGE, request, disk_id)


@disk.command("copy")
@storage_options.disk_copy_options
@order_command
def disk_copy(
    context: Context, /, *, name: str, storage_domain: str, **parts: Any
) -> OrderLine:
    """Copy a disk to STORAGE_DOMAIN."""
    place = context.find_storage_domain(storage_domain)
    request = storage_options.disk_copy(place.storage_domain_id, **parts)
    disk_id = context.find_disk(name)
    return context.client.disk_act(verbs.DISK_COPY, request, disk_id)


@disk.command("move")
@click.argument("name")
@click.argument("storage_domain")
@terminal.data_node_option
@order_command
def disk_move(
    context: Context,
    /,
    *,
    name: str,
    storage_domain: str,
    data_node_id: NodeId | None,
) -> OrderLine:
    """Move a disk with its snapshots to STORAGE_DOMAIN."""
    place = context.find_storage_domain(storage_domain).storage_domain_id
    request = MoveDisk(place, data_node_id)
    disk_id = context.find_disk(name)
    return context.client.disk_act(verbs.DISK_MOVE, request, disk_id)


@disk.command("sparsify")
@click.argument("name")
@terminal.data_node_option
@order_command
def disk_sparsify(
    context: Context, /, *, name: str, data_node_id: NodeId | None
) -> OrderLine:
    """Give the space back that a thin disk fills with zeros."""
    request = SparsifyDisk(data_node_id)
    disk_id = context.find_disk(name)
    return context.client.disk_act(verbs.DISK_SPARSIFY, request, disk_id)


disk.add_command(transfers.upload)
disk.add_command(transfers.download)
