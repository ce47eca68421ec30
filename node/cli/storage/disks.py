"""The commands on the disks of pools."""

from dataclasses import replace
from typing import Any

import click

from node.cli.context import Context, job_command, pass_context
from node.cli.storage import render
from node.commands import storage_options, terminal
from node.model.ids import NodeId
from node.model.job import Job
from node.model.storage_requests import (
    ActOnDisk,
    MoveDisk,
    ResizeDisk,
    SparsifyDisk,
)


@click.group()
def disk() -> None:
    """Look after the disks of this node's pools."""


@disk.command("list")
@pass_context
def disk_list(context: Context) -> None:
    """List the disks of the pools that this node manages."""
    reply = context.client.disk_list()
    names = {
        each.storage_domain.storage_domain_id: each.storage_domain.name
        for each in context.client.storage_domain_list().storage_domains
    }
    context.show(reply, lambda: render.disks(reply.disks, names))


@disk.command("show")
@click.argument("name")
@pass_context
def disk_show(context: Context, name: str) -> None:
    """Describe a disk, and why it is as it is."""
    reply = context.client.disk_show(context.disk(name).disk_id)
    context.show(reply, lambda: render.disk(reply))


@disk.command("create")
@storage_options.new_disk_options
@click.option("--from", "original", help="Thin clone of this template's disk.")
@job_command
def disk_create(
    context: Context,
    /,
    *,
    storage_domain: str,
    original: str | None,
    **parts: Any,
) -> Job:
    """Make a disk of SIZE, such as 20G, on STORAGE_DOMAIN."""
    place = context.storage_domain(storage_domain).storage_domain
    request = storage_options.new_disk(place.storage_domain_id, **parts)
    if original:
        request = replace(request, from_disk_id=context.disk(original).disk_id)
    return context.client.disk_create(request)


@disk.command("delete")
@storage_options.disk_delete_options
@click.confirmation_option(prompt="Delete the disk with all its snapshots?")
@job_command
def disk_delete(context: Context, /, *, name: str, storage_domain: str | None) -> Job:
    """Delete a disk that no VM runs with, or one copy of a template's."""
    where = None
    if storage_domain is not None:
        where = context.storage_domain(storage_domain).storage_domain.storage_domain_id
    request = ActOnDisk(storage_domain_id=where)
    return context.client.disk_delete(context.disk(name).disk_id, request)


@disk.command("resize")
@click.argument("name")
@click.argument("size_bytes", metavar="SIZE", type=terminal.Size())
@job_command
def disk_resize(context: Context, /, *, name: str, size_bytes: int) -> Job:
    """Let a disk grow to SIZE, such as 20G."""
    request = ResizeDisk(size_bytes)
    return context.client.disk_resize(context.disk(name).disk_id, request)


@disk.command("change")
@storage_options.disk_change_options
@job_command
def disk_change(context: Context, /, *, name: str, **parts: Any) -> Job:
    """Change what a disk is called, and how it may be used."""
    known = context.disk(name)
    request = storage_options.disk_change(lambda: known.qos, **parts)
    return context.client.disk_change(known.disk_id, request)


@disk.command("copy")
@storage_options.disk_copy_options
@job_command
def disk_copy(
    context: Context, /, *, name: str, storage_domain: str, **parts: Any
) -> Job:
    """Copy a disk to STORAGE_DOMAIN."""
    place = context.storage_domain(storage_domain).storage_domain
    request = storage_options.disk_copy(place.storage_domain_id, **parts)
    return context.client.disk_copy(context.disk(name).disk_id, request)


@disk.command("move")
@click.argument("name")
@click.argument("storage_domain")
@terminal.data_node_option
@job_command
def disk_move(
    context: Context,
    /,
    *,
    name: str,
    storage_domain: str,
    data_node_id: NodeId | None,
) -> Job:
    """Move a disk with its snapshots to STORAGE_DOMAIN."""
    place = context.storage_domain(storage_domain).storage_domain
    request = MoveDisk(place.storage_domain_id, data_node_id)
    return context.client.disk_move(context.disk(name).disk_id, request)


@disk.command("sparsify")
@click.argument("name")
@terminal.data_node_option
@job_command
def disk_sparsify(
    context: Context, /, *, name: str, data_node_id: NodeId | None
) -> Job:
    """Give the space back that a thin disk fills with zeros."""
    request = SparsifyDisk(data_node_id)
    return context.client.disk_sparsify(context.disk(name).disk_id, request)
