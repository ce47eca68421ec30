"""The commands on templates."""

import uuid
from typing import Any

import click

from aggregator.api import export_verbs, storage_verbs
from aggregator.api import template_verbs as verbs
from aggregator.api.model import OrderLine
from aggregator.api.template_model import NewVmOfTemplate, TemplateLine
from aggregator.cli.context import Context, pass_context
from aggregator.cli.storage.domains import order_command
from node.commands import template_options, terminal
from node.model.exports import ExportTemplate
from node.model.ids import NodeId, StorageDomainId, VmId
from node.model.storage_requests import CopyDisk
from node.model.templates import DeleteTemplate, Template


@click.group()
def template() -> None:
    """Look after templates, and make VMs of them."""


@template.command("list")
@pass_context
def template_list(context: Context) -> None:
    """List templates by name and version."""
    reply = context.client.template_list()
    shown = [each.template for each in reply.templates]
    context.show(reply, lambda: template_options.table(shown))


@template.command("show")
@click.argument("name", metavar="TEMPLATE")
@pass_context
def template_show(context: Context, name: str) -> None:
    """Describe a TEMPLATE (its name, NAME/VERSION, or id), and which VMs need it."""
    found = _find(context, name)
    reply = context.client.template_show(found.template_id)
    context.show(reply, lambda: _text(reply))


@template.command("create")
@click.argument("vm")
@click.argument("name", default="")
@template_options.create_options
@order_command
def template_create(
    context: Context,
    /,
    *,
    vm: str,
    name: str,
    storage: str | None,
    base: str | None,
    **parts: Any,
) -> OrderLine:
    """Make a template NAME of a VM that is down; a version has its base's name."""
    request = template_options.creation(
        context.find_vm(vm),
        name or vm,
        storage_domain_id=_place(context, storage),
        base=_find(context, base) if base is not None else None,
        **parts,
    )
    return context.client.template_act(verbs.TEMPLATE_CREATE, request)


@template.command("change")
@click.argument("template")
@template_options.change_options
@order_command
def template_change(context: Context, /, *, template: str, **parts: Any) -> OrderLine:
    """Change what VMs of a TEMPLATE start with; its disks never change."""
    found, request = _find(context, template), template_options.change(**parts)
    verb = verbs.TEMPLATE_CHANGE
    return context.client.template_act(verb, request, found.template_id)


@template.command("delete")
@click.argument("name", metavar="TEMPLATE")
@click.confirmation_option(prompt="Delete the template with its disks?")
@order_command
def template_delete(context: Context, /, *, name: str) -> OrderLine:
    """Delete a TEMPLATE that nothing needs."""
    found, verb = _find(context, name), verbs.TEMPLATE_DELETE
    return context.client.template_act(verb, DeleteTemplate(), found.template_id)


@template.command("export")
@click.argument("name", metavar="TEMPLATE")
@click.argument("storage", metavar="STORAGE_DOMAIN")
@terminal.replace_option
@order_command
def template_export(
    context: Context, /, *, name: str, storage: str, is_replacing: bool
) -> OrderLine:
    """Copy a TEMPLATE to an export STORAGE_DOMAIN."""
    found, verb = _find(context, name), export_verbs.TEMPLATE_EXPORT
    place = context.find_storage_domain(storage).storage_domain_id
    request = ExportTemplate(place, is_replacing=is_replacing)
    return context.client.template_act(verb, request, found.template_id)


@template.command("copy-disk")
@click.argument("name", metavar="TEMPLATE")
@click.argument("disk")
@click.argument("storage", metavar="STORAGE_DOMAIN")
@terminal.data_node_option
@order_command
def template_copy_disk(
    context: Context,
    /,
    *,
    name: str,
    disk: str,
    storage: str,
    data_node_id: NodeId | None,
) -> OrderLine:
    """Copy a DISK of a TEMPLATE to one more STORAGE_DOMAIN, for thin clones there."""
    disk_id = template_options.find_disk(_find(context, name), disk)
    place = context.find_storage_domain(storage).storage_domain_id
    request = CopyDisk(disk_id, place, data_node_id=data_node_id)
    return context.client.disk_act(storage_verbs.DISK_COPY, request, disk_id)


@template.command("new-vm")
@click.argument("template")
@click.argument("name")
@template_options.vm_options
@terminal.data_node_option
@order_command
def template_new_vm(
    context: Context,
    /,
    *,
    template: str,
    name: str,
    storage: str | None,
    is_clone: bool,
    chosen: uuid.UUID,
    data_node_id: NodeId | None,
) -> OrderLine:
    """Make a VM NAME of a TEMPLATE: it shares the template's data, unless --clone."""
    found = _find(context, template)
    place = _place(context, storage)
    request = NewVmOfTemplate(
        name, VmId(str(chosen)), is_clone, place, data_node_id=data_node_id
    )
    verb = verbs.TEMPLATE_NEW_VM
    return context.client.template_act(verb, request, found.template_id)


def _find(context: Context, name: str) -> Template:
    lines = context.client.template_list().templates
    return template_options.find(name, [each.template for each in lines])


def _place(context: Context, name: str | None) -> StorageDomainId | None:
    if name is None:
        return None
    return context.find_storage_domain(name).storage_domain_id


def _text(line: TemplateLine) -> str:
    users = ", ".join(line.vm_names) or "no VM"
    return f"{template_options.text(line.template)}\nneeded by {users}"
