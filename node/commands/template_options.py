"""Ask for templates at a terminal, and show them: what both command lines have.

`create_options` adds to a command what `creation` reads, `change_options` what
`change` does, `vm_options` what `made_vm` does.
"""

import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import click

from node.commands import terminal
from node.errors import Conflict, NotFound
from node.model.ids import (
    DiskId,
    NodeId,
    SnapshotId,
    StorageDomainId,
    TemplateId,
    VmId,
)
from node.model.templates import ChangeTemplate, CreateTemplate, Template
from node.model.vm import VmSpec
from node.policy import made_of


class NoSuchTemplate(NotFound):
    code = "no_such_template"
    remedy = "List the templates to see those that there are."


class SeveralVersions(Conflict):
    code = "several_versions"
    remedy = "Name the version as NAME/2, or the template by its id."


_HEADS: Final = ("ID", "NAME", "VERSION", "CALLED", "DISKS", "MEMORY", "MADE AT")


def create_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what a new template is made by."""
    for option in (
        terminal.data_node_option,
        terminal.generation_option,
        click.option(
            "--id",
            "chosen",
            type=click.UUID,
            default=uuid.uuid4,
            help="Choose its id: asked twice, it is one template.",
        ),
        click.option("--version-name", default="", help="What to call the version."),
        click.option("--version-of", "base", help="Make a new version of this one."),
        click.option("--snapshot", type=click.UUID, help="Copy this state of the VM."),
        click.option("--storage-domain", "storage", help="Put its disks there."),
        click.option("--description", default="", help="What it is for."),
    ):
        command = option(command)
    return command


def creation(
    vm_id: VmId,
    name: str,
    *,
    storage_domain_id: StorageDomainId | None,
    base: Template | None,
    description: str,
    snapshot: uuid.UUID | None,
    version_name: str,
    chosen: uuid.UUID,
    generation: int | None,
    data_node_id: NodeId | None,
) -> CreateTemplate:
    """Return what is asked for by the options."""
    return CreateTemplate(
        TemplateId(str(chosen)),
        name,
        vm_id,
        description,
        storage_domain_id,
        SnapshotId(str(snapshot)) if snapshot is not None else None,
        base.template_id if base is not None else None,
        version_name,
        generation,
        data_node_id=data_node_id,
    )


def change_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what can be changed of a template."""
    for option in (
        click.option("--memory", "memory_bytes", type=terminal.Size()),
        click.option("--version-name", help="Call this version so."),
        click.option("--description", help="Say what it is for."),
        click.option("--name", help="Rename it, with all its versions."),
    ):
        command = option(command)
    return command


def change(**given: Any) -> ChangeTemplate:
    """Return what is asked for by the options."""
    return ChangeTemplate(**given)


def vm_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add how a VM is made of a template."""
    for option in (
        click.option(
            "--id",
            "chosen",
            type=click.UUID,
            default=uuid.uuid4,
            help="Choose its id: asked twice, it is one VM.",
        ),
        click.option("--storage-domain", "storage", help="Put its disks there."),
        click.option(
            "--clone",
            "is_clone",
            is_flag=True,
            help="Copy all data, so that the VM needs the template no more.",
        ),
    ):
        command = option(command)
    return command


def made_vm(
    template: Template,
    name: str,
    macs: Sequence[str],
    *,
    storage_domain_id: StorageDomainId | None,
    chosen: uuid.UUID,
    is_clone: bool,
) -> VmSpec:
    """Return the VM that is asked for by the options."""
    places: dict[DiskId, StorageDomainId] = {}
    if storage_domain_id is not None:
        places = dict.fromkeys(
            (disk.disk_id for disk in template.spec.disks), storage_domain_id
        )
    vm_id = VmId(str(chosen))
    return made_of.spec(template, vm_id, name, macs, is_clone=is_clone, places=places)


def table(templates: Iterable[Template]) -> str:
    """Return the list that people read."""
    rows = [
        (
            each.template_id,
            each.name,
            str(each.version),
            each.version_name,
            str(len(each.spec.disks)),
            terminal.size(each.spec.memory_bytes),
            each.created_at,
        )
        for each in templates
    ]
    return terminal.table(_HEADS, rows)


def text(template: Template) -> str:
    """Return what there is to say of one."""
    lines = [
        f"{template.name}, version {template.version} {template.version_name}".strip(),
        f"id {template.template_id}, made at {template.created_at}",
    ]
    if template.spec.description:
        lines.append(template.spec.description)
    if template.base_id is not None:
        lines.append(f"a version of {template.base_id}")
    lines.append(
        f"{terminal.size(template.spec.memory_bytes)} memory, "
        f"{template.spec.cpu.count} processors"
    )
    lines += (
        f"disk {disk.name} {disk.disk_id}: {terminal.size(disk.size_bytes)}"
        for disk in template.spec.disks
    )
    return "\n".join(lines)


def find(name: str, templates: Iterable[Template]) -> Template:
    """Return a template by its id, its name, or NAME/VERSION.

    Raises NoSuchTemplate, SeveralVersions.
    """
    found = []
    for each in templates:
        if name == each.template_id:
            return each
        if name in (each.name, f"{each.name}/{each.version}"):
            found.append(each)
    if not found:
        raise NoSuchTemplate(f"there is no template {name}")
    if len(found) > 1:
        raise SeveralVersions(f"template {name} has {len(found)} versions")
    return found[0]


def find_disk(template: Template, name: str) -> DiskId:
    """Return a disk of a template by its name or its id; NoSuchTemplate."""
    for disk in template.spec.disks:
        if name in (disk.disk_id, disk.name):
            return disk.disk_id
    raise NoSuchTemplate(f"template {template.name} has no disk {name}")
