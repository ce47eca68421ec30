"""The commands on storage domains."""

import uuid
from typing import Any

import click

from node.cli.context import Context, job_command, pass_context
from node.cli.storage import render
from node.commands import storage_options, storage_text
from node.model.ids import DiskId, StorageDomainId
from node.model.job import Job
from node.model.storage_requests import (
    ActOnStorageDomain,
    AttachStorageDomain,
    ImportStorageDomain,
    LookForStorageDomains,
    RemoveStorageDomain,
    RepairStorage,
)


@click.group()
def storage() -> None:
    """Look after storage domains: where disks lie."""


@storage.command("list")
@pass_context
def storage_list(context: Context) -> None:
    """List the storage domains that this node knows."""
    reply = context.client.storage_domain_list()
    pools = {each.pool_id: each.name for each in context.client.pool_list().pools}
    context.show(reply, lambda: render.storage_domains(reply.storage_domains, pools))


@storage.command("show")
@click.argument("name")
@pass_context
def storage_show(context: Context, name: str) -> None:
    """Describe a storage domain, and why it is as it is."""
    storage_domain_id = context.storage_domain(name).storage_domain.storage_domain_id
    reply = context.client.storage_domain_show(storage_domain_id)
    context.show(reply, lambda: render.storage_domain(reply))


@storage.command("create")
@storage_options.new_storage_domain_options
@job_command
def storage_create(context: Context, /, **parts: Any) -> Job:
    """Make an empty storage domain; put it to use by `pool create` or `attach`."""
    request = storage_options.new_storage_domain(**parts)
    return context.client.storage_domain_create(request)


@storage.command("look")
@storage_options.connection_options
@pass_context
def storage_look(context: Context, /, **place: Any) -> None:
    """Look which storage domains lie at a place; nothing is changed there."""
    request = LookForStorageDomains(storage_options.connection(**place))
    reply = context.client.storage_domain_look(request)
    context.show(reply, lambda: storage_text.found(reply))


@storage.command("import")
@storage_options.connection_options
@click.option("--id", "chosen", type=click.UUID, help="Which, if there are several.")
@click.option("--pool", help="Attach it to this pool.")
@click.option("--force", is_flag=True, help="Although it names another pool.")
@job_command
def storage_import(
    context: Context,
    /,
    *,
    chosen: uuid.UUID | None,
    pool: str | None,
    force: bool,
    **place: Any,
) -> Job:
    """Take a storage domain that exists, with its disks and VMs."""
    request = ImportStorageDomain(
        storage_options.connection(**place),
        StorageDomainId(str(chosen)) if chosen else None,
        context.pool(pool).pool_id if pool else None,
        force,
    )
    return context.client.storage_domain_import(request)


@storage.command("attach")
@click.argument("name")
@click.argument("pool")
@job_command
def storage_attach(context: Context, /, *, name: str, pool: str) -> Job:
    """Make a storage domain part of POOL; it is in maintenance at first."""
    named = context.storage_domain(name).storage_domain
    request = AttachStorageDomain(context.pool(pool).pool_id, named.connection)
    return context.client.storage_domain_attach(named.storage_domain_id, request)


@storage.command("change")
@storage_options.storage_change_options
@job_command
def storage_change(context: Context, /, *, name: str, **parts: Any) -> Job:
    """Call it something else; in maintenance, say where it lies now."""
    storage_domain_id = context.storage_domain(name).storage_domain.storage_domain_id
    request = storage_options.storage_change(**parts)
    return context.client.storage_domain_change(storage_domain_id, request)


@storage.command("activate")
@click.argument("name")
@job_command
def storage_activate(context: Context, /, *, name: str) -> Job:
    """Let the nodes of its pool use a storage domain."""
    storage_domain_id = context.storage_domain(name).storage_domain.storage_domain_id
    request = ActOnStorageDomain()
    return context.client.storage_domain_activate(storage_domain_id, request)


@storage.command("maintain")
@click.argument("name")
@job_command
def storage_maintain(context: Context, /, *, name: str) -> Job:
    """Put a storage domain into maintenance: no node uses it any more."""
    storage_domain_id = context.storage_domain(name).storage_domain.storage_domain_id
    request = ActOnStorageDomain()
    return context.client.storage_domain_maintain(storage_domain_id, request)


@storage.command("detach")
@click.argument("name")
@click.option("--force", is_flag=True, help="Although it cannot be written.")
@click.confirmation_option(prompt="Take it out of its pool? Its disks stay on it.")
@job_command
def storage_detach(context: Context, /, *, name: str, force: bool) -> Job:
    """Take a storage domain in maintenance out of its pool."""
    storage_domain_id = context.storage_domain(name).storage_domain.storage_domain_id
    request = ActOnStorageDomain(is_forced=force)
    return context.client.storage_domain_detach(storage_domain_id, request)


@storage.command("remove")
@storage_options.removal_options
@job_command
def storage_remove(
    context: Context, /, *, name: str, is_formatted: bool, yes: bool
) -> Job:
    """Forget a storage domain of no pool; what is on it stays, unless --format."""
    storage_domain_id = context.storage_domain(name).storage_domain.storage_domain_id
    storage_options.confirm_removal(name, is_formatted=is_formatted, yes=yes)
    request = RemoveStorageDomain(is_formatted)
    return context.client.storage_domain_remove(storage_domain_id, request)


@storage.command("check")
@click.argument("name")
@pass_context
def storage_check(context: Context, name: str) -> None:
    """Read all disks of a storage domain, and say what is wrong with them."""
    document = context.storage_domain(name)
    storage_domain_id = document.storage_domain.storage_domain_id
    reply = context.client.storage_domain_check(storage_domain_id)
    context.show(reply, lambda: render.check(document, reply))


@storage.command("repair")
@click.argument("name")
@click.option("--disk", help="Only of this disk.")
@click.option("--yes", is_flag=True, help="Do it, instead of only saying what.")
@pass_context
def storage_repair(context: Context, name: str, disk: str | None, yes: bool) -> None:
    """Say what a repair would do; with --yes, do it.

    Only what is safe is repaired. What needs a person stays as it is.
    """
    document = context.storage_domain(name)
    storage_domain_id = document.storage_domain.storage_domain_id
    disk_id = context.disk(disk).disk_id if disk else None
    reply = render.of_disk(
        context.client.storage_domain_check(storage_domain_id), disk_id
    )
    if not yes:
        context.show(reply, lambda: render.repairs(document, reply))
        return
    if any(each.repair for each in reply.problems):
        _repair(context, storage_domain_id, disk_id)
        reply = render.of_disk(
            context.client.storage_domain_check(storage_domain_id), disk_id
        )
    context.show(reply, lambda: render.check(document, reply))


def _repair(
    context: Context, storage_domain_id: StorageDomainId, disk_id: DiskId | None
) -> None:
    job = context.client.storage_domain_repair(
        storage_domain_id, RepairStorage(disk_id)
    )
    context.follow(job, is_last=False)
