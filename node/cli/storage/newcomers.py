"""The commands on VMs that came with a storage domain."""

from typing import Any

import click

from node.cli.context import Context, job_command, pass_context
from node.commands import newcomer_options
from node.model.exports import RemoveExported
from node.model.ids import StorageDomainId
from node.model.job import Job
from node.model.storage_requests import ActOnStorageDomain


@click.command()
@click.argument("name")
@pass_context
def unregistered(context: Context, name: str) -> None:
    """List the VMs that came with a storage domain, or lie on an export one."""
    reply = context.client.storage_domain_unregistered(_id(context, name))
    context.show(reply, lambda: newcomer_options.listing(reply))


@click.command()
@newcomer_options.register_options
@job_command
def register(
    context: Context, /, *, name: str, vm: str, to: str | None, **asked: Any
) -> Job:
    """Make a VM of what came with a storage domain, or lies on an export one."""
    where = _id(context, name)
    lying = context.client.storage_domain_unregistered(where)
    found = newcomer_options.find(lying, vm)
    target = _id(context, to) if to is not None else None
    request = newcomer_options.request(found, to=target, **asked)
    return context.client.storage_domain_register_vm(where, request)


@click.command("remove-exported")
@click.argument("name")
@click.argument("vm")
@click.confirmation_option(prompt="Remove it from there, with its disks?")
@job_command
def remove_exported(context: Context, /, *, name: str, vm: str) -> Job:
    """Remove a VM or template that lies on an export storage domain, for good."""
    where = _id(context, name)
    lying = context.client.storage_domain_unregistered(where)
    request = RemoveExported(newcomer_options.exported_id(lying, vm))
    return context.client.storage_domain_remove_exported(where, request)


@click.command("write-ovf")
@click.argument("name")
@job_command
def write_ovf(context: Context, /, *, name: str) -> Job:
    """Write the VMs of a storage domain down for oVirt now; it is done by itself."""
    request = ActOnStorageDomain()
    return context.client.storage_domain_write_ovf(_id(context, name), request)


def _id(context: Context, name: str) -> StorageDomainId:
    return context.storage_domain(name).storage_domain.storage_domain_id
