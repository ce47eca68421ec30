"""The commands on VMs that came with a storage domain."""

from typing import Any

import click

from aggregator.api import export_verbs
from aggregator.api import register_verbs as verbs
from aggregator.api.model import OrderLine
from aggregator.api.register_model import RegisterNewcomer
from aggregator.api.storage_model import ActOnStorage
from aggregator.cli.context import Context, pass_context
from aggregator.cli.storage.domains import order_command
from node.commands import newcomer_options
from node.model.exports import RemoveExported


@click.command()
@click.argument("name")
@pass_context
def unregistered(context: Context, name: str) -> None:
    """List the VMs that came with a storage domain, or lie on an export one."""
    line = context.find_storage_domain(name)
    reply = context.client.storage_domain_unregistered(line.storage_domain_id)
    context.show(reply, lambda: newcomer_options.listing(reply))


@click.command()
@newcomer_options.register_options
@click.option("--keep-macs", is_flag=True, help="Refuse if one is taken.")
@order_command
def register(
    context: Context,
    /,
    *,
    name: str,
    vm: str,
    to: str | None,
    keep_macs: bool,
    **asked: Any,
) -> OrderLine:
    """Make a VM of what came with a storage domain, or lies on an export one."""
    where = context.find_storage_domain(name).storage_domain_id
    lying = context.client.storage_domain_unregistered(where)
    found = newcomer_options.find(lying, vm)
    target = None if to is None else context.find_storage_domain(to).storage_domain_id
    request = newcomer_options.request(found, to=target, **asked)
    return context.client.storage_domain_act(
        verbs.STORAGE_DOMAIN_REGISTER_VM,
        RegisterNewcomer(request, renews_macs=not keep_macs),
        where,
    )


@click.command("remove-exported")
@click.argument("name")
@click.argument("vm")
@click.confirmation_option(prompt="Remove it from there, with its disks?")
@order_command
def remove_exported(context: Context, /, *, name: str, vm: str) -> OrderLine:
    """Remove a VM or template that lies on an export storage domain, for good."""
    where = context.find_storage_domain(name).storage_domain_id
    lying = context.client.storage_domain_unregistered(where)
    request = RemoveExported(newcomer_options.exported_id(lying, vm))
    verb = export_verbs.STORAGE_DOMAIN_REMOVE_EXPORTED
    return context.client.storage_domain_act(verb, request, where)


@click.command("write-ovf")
@click.argument("name")
@order_command
def write_ovf(context: Context, /, *, name: str) -> OrderLine:
    """Write the VMs of a storage domain down for oVirt now; it is done by itself."""
    where = context.find_storage_domain(name).storage_domain_id
    verb = verbs.STORAGE_DOMAIN_WRITE_OVF
    return context.client.storage_domain_act(verb, ActOnStorage(), where)
