"""The commands on templates."""

import uuid
from typing import Any

import click

from node.cli import render
from node.cli.context import Context, job_command, pass_context
from node.commands import template_options, terminal
from node.model.exports import ExportTemplate
from node.model.ids import DiskId, NodeId, StorageDomainId
from node.model.job import Job
from node.model.requests import CreateVm
from node.model.storage_requests import CopyDisk
from node.model.templates import CloneVm, DeleteTemplate, Template


@click.group()
def template() -> None:
    """Look after templates, and make VMs of them."""


@template.command("list")
@pass_context
def template_list(context: Context) -> None:
    """List the templates on this node's pools."""
    reply = context.client.template_list()
    context.show(reply, lambda: template_options.table(reply.templates))


@template.command("show")
@click.argument("name", metavar="TEMPLATE")
@pass_context
def template_show(context: Context, name: str) -> None:
    """Describe a TEMPLATE: its name, NAME/VERSION, or id."""
    reply = context.client.template_show(_find(context, name).template_id)
    context.show(reply, lambda: template_options.text(reply))


@template.command("create")
@click.argument("vm")
@click.argument("name", default="")
@template_options.create_options
@job_command
def template_create(
    context: Context,
    /,
    *,
    vm: str,
    name: str,
    storage: str | None,
    base: str | None,
    **parts: Any,
) -> Job:
    """Make a template NAME of a VM that is down; a version has its base's name."""
    spec = context.find(vm).vm.spec
    request = template_options.creation(
        spec.vm_id,
        name or spec.name,
        storage_domain_id=_place(context, storage),
        base=_find(context, base) if base is not None else None,
        **parts,
    )
    return context.client.template_create(request)


@template.command("change")
@click.argument("template")
@template_options.change_options
@pass_context
def template_change(context: Context, /, *, template: str, **parts: Any) -> None:
    """Change what VMs of a TEMPLATE start with; its disks never change."""
    found = _find(context, template)
    request = template_options.change(**parts)
    reply = context.client.template_change(found.template_id, request)
    context.show(reply, lambda: template_options.text(reply))


@template.command("delete")
@click.argument("name", metavar="TEMPLATE")
@click.confirmation_option(prompt="Delete the template with its disks?")
@job_command
def template_delete(context: Context, /, *, name: str) -> Job:
    """Delete a TEMPLATE that nothing needs."""
    found = _find(context, name)
    return context.client.template_delete(found.template_id, DeleteTemplate())


@template.command("export")
@click.argument("name", metavar="TEMPLATE")
@click.argument("storage", metavar="STORAGE_DOMAIN")
@terminal.replace_option
@job_command
def template_export(
    context: Context, /, *, name: str, storage: str, is_replacing: bool
) -> Job:
    """Copy a TEMPLATE to an export STORAGE_DOMAIN."""
    found = _find(context, name)
    place = context.storage_domain(storage).storage_domain.storage_domain_id
    request = ExportTemplate(place, is_replacing=is_replacing)
    return context.client.template_export(found.template_id, request)


@template.command("copy-disk")
@click.argument("name", metavar="TEMPLATE")
@click.argument("disk")
@click.argument("storage", metavar="STORAGE_DOMAIN")
@terminal.data_node_option
@job_command
def template_copy_disk(
    context: Context,
    /,
    *,
    name: str,
    disk: str,
    storage: str,
    data_node_id: NodeId | None,
) -> Job:
    """Copy a DISK of a TEMPLATE to one more STORAGE_DOMAIN, for thin clones there."""
    disk_id = template_options.find_disk(_find(context, name), disk)
    place = context.storage_domain(storage).storage_domain.storage_domain_id
    request = CopyDisk(disk_id, place, data_node_id=data_node_id)
    return context.client.disk_copy(DiskId(disk_id), request)


@template.command("new-vm")
@click.argument("template")
@click.argument("name")
@template_options.vm_options
@terminal.data_node_option
@pass_context
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
) -> None:
    """Make a VM NAME of a TEMPLATE: it shares the template's data, unless --clone."""
    found = _find(context, template)
    # They follow from the VM's id: asked for again, it is the same VM.
    macs = [context.mac(uuid.uuid5(chosen, nic.nic_id)) for nic in found.spec.nics]
    spec = template_options.made_vm(
        found,
        name,
        macs,
        storage_domain_id=_place(context, storage),
        chosen=chosen,
        is_clone=is_clone,
    )
    if is_clone:
        request = CloneVm(spec, data_node_id=data_node_id)
        context.follow(context.client.vm_clone(request), is_last=False)
        entry = context.client.vm_show(spec.vm_id)
    else:
        entry = context.client.vm_create(CreateVm(spec))
    context.show(entry, lambda: render.vm(entry))


def _find(context: Context, name: str) -> Template:
    return template_options.find(name, context.client.template_list().templates)


def _place(context: Context, name: str | None) -> StorageDomainId | None:
    if name is None:
        return None
    return context.storage_domain(name).storage_domain.storage_domain_id
