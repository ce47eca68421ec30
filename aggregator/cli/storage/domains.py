"""The commands on storage domains."""

import functools
import uuid
from collections.abc import Callable
from typing import Any

import click

from aggregator.api import storage_verbs as verbs
from aggregator.api.model import OrderLine
from aggregator.api.storage_model import (
    ActOnStorage,
    AttachStorage,
    ChangeStorage,
    ImportStorage,
    LookForStorage,
    NewStorageDomain,
    RemoveStorage,
    RepairDisks,
)
from aggregator.cli.context import Context, pass_context
from aggregator.cli.storage import render
from node.commands import storage_options, storage_text
from node.model.ids import StorageDomainId
from node.model.verb import Verb

node_option = click.option("--node", "node_name", help="Which node is to do it.")
data_center_option = click.option(
    "--data-center", "data_center_id", help="Its id; else that of the node."
)


def order_command(command: Callable[..., OrderLine]) -> Callable[..., None]:
    """Follow the order that a command returns to its end, unless --no-wait."""

    @click.option("--no-wait", is_flag=True, help="Order it, and leave it to it.")
    @pass_context
    @functools.wraps(command)
    def run(context: Context, /, *, no_wait: bool, **given: Any) -> None:
        order = command(context, **given)
        if no_wait:
            context.show(order, lambda: f"Ordered as {order.order_id}.")
        else:
            context.follow(order)

    return run


@click.group()
def storage() -> None:
    """Look after storage domains: where disks lie."""


@storage.command("list")
@pass_context
def storage_list(context: Context) -> None:
    """List storage domains."""
    reply = context.client.storage_domain_list()
    context.show(reply, lambda: render.storage_domains(reply))


@storage.command("show")
@click.argument("name")
@pass_context
def storage_show(context: Context, name: str) -> None:
    """Describe a storage domain, and how each node sees it."""
    storage_domain_id = context.find_storage_domain(name).storage_domain_id
    reply = context.client.storage_domain_show(storage_domain_id)
    context.show(reply, lambda: render.storage_domain(reply))


@storage.command("create")
@storage_options.new_storage_domain_options
@data_center_option
@node_option
@order_command
def storage_create(
    context: Context,
    /,
    *,
    data_center_id: str | None,
    node_name: str | None,
    **parts: Any,
) -> OrderLine:
    """Make a storage domain and attach it; the first data domain makes the pool."""
    new = storage_options.new_storage_domain(**parts)
    request = NewStorageDomain(
        new.name,
        new.connection,
        new.storage_domain_id,
        new.domain_class,
        new.description,
        new.sector_bytes,
        new.wipe_after_delete,
        data_center_id,
        context.find_node(node_name) if node_name else None,
    )
    return context.client.storage_domain_act(verbs.STORAGE_DOMAIN_CREATE, request)


@storage.command("look")
@storage_options.connection_options
@node_option
@pass_context
def storage_look(context: Context, /, *, node_name: str | None, **place: Any) -> None:
    """Look which storage domains lie at a place; nothing is changed there."""
    node_id = context.find_node(node_name) if node_name else None
    request = LookForStorage(storage_options.connection(**place), node_id)
    reply = context.client.storage_domain_look(request)
    context.show(reply, lambda: storage_text.found(reply))


@storage.command("import")
@storage_options.connection_options
@click.option("--id", "chosen", type=click.UUID, help="Which, if there are several.")
@click.option("--force", is_flag=True, help="Although it names another pool.")
@data_center_option
@node_option
@order_command
def storage_import(
    context: Context,
    /,
    *,
    chosen: uuid.UUID | None,
    force: bool,
    data_center_id: str | None,
    node_name: str | None,
    **place: Any,
) -> OrderLine:
    """Take a storage domain that exists, with its disks and VMs."""
    request = ImportStorage(
        storage_options.connection(**place),
        StorageDomainId(str(chosen)) if chosen else None,
        force,
        data_center_id,
        context.find_node(node_name) if node_name else None,
    )
    return context.client.storage_domain_act(verbs.STORAGE_DOMAIN_IMPORT, request)


@storage.command("attach")
@click.argument("name")
@data_center_option
@order_command
def storage_attach(
    context: Context, /, *, name: str, data_center_id: str | None
) -> OrderLine:
    """Attach a storage domain to a data center, and activate it."""
    request = AttachStorage(data_center_id)
    return _act(context, verbs.STORAGE_DOMAIN_ATTACH, name, request)


@storage.command("change")
@storage_options.storage_change_options
@order_command
def storage_change(context: Context, /, *, name: str, **parts: Any) -> OrderLine:
    """Call it something else; in maintenance, say where it lies now."""
    wanted = storage_options.storage_change(**parts)
    request = ChangeStorage(
        wanted.name, wanted.description, wanted.wipe_after_delete, wanted.connection
    )
    return _act(context, verbs.STORAGE_DOMAIN_CHANGE, name, request)


@storage.command("activate")
@click.argument("name")
@order_command
def storage_activate(context: Context, /, *, name: str) -> OrderLine:
    """Let the nodes of its pool use a storage domain."""
    return _act(context, verbs.STORAGE_DOMAIN_ACTIVATE, name, ActOnStorage())


@storage.command("maintain")
@click.argument("name")
@order_command
def storage_maintain(context: Context, /, *, name: str) -> OrderLine:
    """Put a storage domain into maintenance: no node uses it any more."""
    return _act(context, verbs.STORAGE_DOMAIN_MAINTAIN, name, ActOnStorage())


@storage.command("detach")
@click.argument("name")
@click.option("--force", is_flag=True, help="Although it cannot be written.")
@click.confirmation_option(prompt="Take it out of its pool? Its disks stay on it.")
@order_command
def storage_detach(context: Context, /, *, name: str, force: bool) -> OrderLine:
    """Take a storage domain in maintenance out of its pool."""
    return _act(context, verbs.STORAGE_DOMAIN_DETACH, name, ActOnStorage(force))


@storage.command("remove")
@storage_options.removal_options
@node_option
@order_command
def storage_remove(
    context: Context,
    /,
    *,
    name: str,
    is_formatted: bool,
    yes: bool,
    node_name: str | None,
) -> OrderLine:
    """Forget a storage domain of no pool; what is on it stays, unless --format."""
    storage_options.confirm_removal(name, is_formatted=is_formatted, yes=yes)
    node_id = context.find_node(node_name) if node_name else None
    request = RemoveStorage(is_formatted, node_id)
    return _act(context, verbs.STORAGE_DOMAIN_REMOVE, name, request)


@storage.command("check")
@click.argument("name")
@pass_context
def storage_check(context: Context, name: str) -> None:
    """Read all disks of a storage domain, and say what is wrong with them."""
    line = context.find_storage_domain(name)
    reply = context.client.storage_domain_check(line.storage_domain_id)
    context.show(reply, lambda: render.check(line, reply))


@storage.command("repair")
@click.argument("name")
@click.option("--disk", help="Only of this disk.")
@click.confirmation_option(prompt="Do all that `skerry storage check` offers?")
@order_command
def storage_repair(context: Context, /, *, name: str, disk: str | None) -> OrderLine:
    """Mend what a check found and offered to repair; the rest stays as it is."""
    request = RepairDisks(context.find_disk(disk) if disk else None)
    return _act(context, verbs.STORAGE_DOMAIN_REPAIR, name, request)


def _act(context: Context, verb: Verb, name: str, request: object) -> OrderLine:
    storage_domain_id = context.find_storage_domain(name).storage_domain_id
    return context.client.storage_domain_act(verb, request, storage_domain_id)
