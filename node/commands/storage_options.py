"""Ask for storage at a terminal: the options that both command lines have.

Each of `..._options` adds to a command what the function of its name reads. Sizes are
bytes.
"""

import contextlib
import uuid
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, Final

import click

from node.commands import terminal
from node.model.ids import DiskId, NodeId, SnapshotId, StorageDomainId
from node.model.storage import (
    SPM_PRIORITY_MAX,
    Allocation,
    Connection,
    ContentType,
    DiskFormat,
    DiskQos,
    DomainClass,
    DomainType,
    SpmPriority,
)
from node.model.storage_requests import (
    ChangeDisk,
    ChangeStorageDomain,
    CopyDisk,
    CreateDisk,
    CreateStorageDomain,
)

_FORMATS: Final = click.Choice([each.value for each in DiskFormat])
_ALLOCATIONS: Final = click.Choice([each.value for each in Allocation])


class PriorityChoice(click.ParamType):
    """How much a node is to be preferred as manager: a word, or -1 to 10."""

    name = "priority"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        words = {each.name.lower(): each.value for each in SpmPriority}
        text = str(value).lower()
        with contextlib.suppress(ValueError):
            number = words[text] if text in words else int(text)
            if SpmPriority.NEVER <= number <= SPM_PRIORITY_MAX:
                return number
        given = f"{value!r} is none of {', '.join(words)}, or"
        self.fail(
            f"{given} {SpmPriority.NEVER.value} to {SPM_PRIORITY_MAX}", param, ctx
        )


class Limit(click.ParamType):
    """A limit of a disk such as total_iops=500 or read_bytes_s=10M; 0: none."""

    name = "what=number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        name, _, text = str(value).partition("=")
        names = [each.name for each in fields(DiskQos)]
        if name not in names:
            self.fail(f"{name!r} is none of {', '.join(names)}", param, ctx)
        return name, terminal.Size().convert(text, param, ctx)


limits_option: Final = click.option(
    "--limit",
    "limits",
    type=Limit(),
    multiple=True,
    help="Such as total_iops=500 or read_bytes_s=10M; more than once.",
)


def connection_options(command: terminal.Command) -> terminal.Command:
    """Add the options that say where a storage domain lies; see `connection`."""
    return terminal.with_options(
        command,
        click.option("--nfs", metavar="SERVER:/EXPORT", help="On an NFS server."),
        click.option("--local", metavar="FOLDER", help="In a folder of this node."),
        click.option(
            "--posix",
            metavar="SOURCE",
            help="On another file system: its device, or a folder where it is mounted.",
        ),
        click.option(
            "--file-system",
            default="",
            help="With --posix SOURCE that is to be mounted: its type, such as ceph.",
        ),
        click.option(
            "--nfs-version",
            type=click.Choice(["3", "4", "4.0", "4.1", "4.2"]),
            default=None,
            help="With --nfs: else the best that both sides know.",
        ),
        click.option(
            "--mount-options", default="", help="More of them, with commas between."
        ),
    )


def connection(
    *,
    nfs: str | None,
    local: str | None,
    posix: str | None,
    file_system: str,
    nfs_version: str | None,
    mount_options: str,
) -> Connection:
    """Return where a storage domain lies; UsageError if that is not one place."""
    if [nfs, local, posix].count(None) != 2:
        raise click.UsageError("give one of --nfs, --local and --posix")
    if file_system and posix is None:
        raise click.UsageError("--file-system belongs to --posix")
    if nfs_version and nfs is None:
        raise click.UsageError("--nfs-version belongs to --nfs")
    if local is not None:
        if mount_options:
            raise click.UsageError("nothing is mounted with --local")
        return Connection(DomainType.LOCALFS, local)
    if posix is not None:
        return Connection(
            DomainType.POSIXFS, posix, file_system=file_system, options=mount_options
        )
    assert nfs is not None, "one of the three is given"
    address, colon, path = nfs.partition(":/")
    if not address or not colon:
        raise click.UsageError(f"{nfs!r} is not of the form SERVER:/EXPORT")
    return Connection(
        DomainType.NFS,
        f"/{path}",
        address,
        nfs_version=nfs_version or "",
        options=mount_options,
    )


def new_storage_domain_options(command: terminal.Command) -> terminal.Command:
    """Add the options that say what a new storage domain is."""
    return terminal.with_options(
        command,
        click.argument("name"),
        connection_options,
        click.option(
            "--class",
            "domain_class",
            type=click.Choice([each.value for each in DomainClass]),
            default=DomainClass.DATA.value,
            show_default=True,
            help="What it is for.",
        ),
        click.option("--description", default=""),
        click.option(
            "--sector-size",
            "sector_bytes",
            type=click.Choice(["512", "4096"]),
            help="Else as the storage tells.",
        ),
        click.option(
            "--wipe-after-delete",
            is_flag=True,
            help="Overwrite its disks when deleted.",
        ),
        click.option(
            "--id",
            "chosen",
            type=click.UUID,
            default=uuid.uuid4,
            help="Choose its id: asked twice, it is one storage domain.",
        ),
    )


def new_storage_domain(
    *,
    name: str,
    domain_class: str,
    description: str,
    sector_bytes: str | None,
    wipe_after_delete: bool,
    chosen: uuid.UUID,
    **place: Any,
) -> CreateStorageDomain:
    """Return what a new storage domain is to be; UsageError if it is at no place."""
    return CreateStorageDomain(
        StorageDomainId(str(chosen)),
        name,
        connection(**place),
        DomainClass(domain_class),
        description,
        int(sector_bytes) if sector_bytes else None,
        wipe_after_delete,
    )


def storage_change_options(command: terminal.Command) -> terminal.Command:
    """Add the options that say what of a storage domain is to be otherwise."""
    return terminal.with_options(
        command,
        click.argument("name"),
        click.option("--name", "new_name", help="What it is called from now on."),
        click.option("--description"),
        click.option("--wipe-after-delete/--no-wipe-after-delete", default=None),
        connection_options,
    )


def storage_change(
    *,
    new_name: str | None,
    description: str | None,
    wipe_after_delete: bool | None,
    **place: Any,
) -> ChangeStorageDomain:
    """Return what of a storage domain is to be otherwise; UsageError."""
    is_moved = any(place.values())
    return ChangeStorageDomain(
        new_name,
        description,
        wipe_after_delete,
        connection(**place) if is_moved else None,
    )


def removal_options(command: terminal.Command) -> terminal.Command:
    """Add the options that say how a storage domain is forgotten."""
    return terminal.with_options(
        command,
        click.argument("name"),
        click.option(
            "--format", "is_formatted", is_flag=True, help="Destroy what is on it."
        ),
        click.option("--yes", is_flag=True, help="Do not ask."),
    )


def confirm_removal(name: str, *, is_formatted: bool, yes: bool) -> None:
    """Ask whether a storage domain is to go; Abort if not."""
    if not yes:
        forget = f"Forget {name}? What is on it stays."
        destroy = f"Destroy {name} and all disks that are on it?"
        click.confirm(destroy if is_formatted else forget, abort=True)


def new_disk_options(command: terminal.Command) -> terminal.Command:
    """Add the options that say what a new disk is, and where."""
    return terminal.with_options(
        command,
        click.argument("name"),
        click.argument("storage_domain"),
        click.argument("size_bytes", metavar="SIZE", type=terminal.Size()),
        click.option(
            "--format", "disk_format", type=_FORMATS, default=DiskFormat.QCOW2.value
        ),
        click.option("--allocation", type=_ALLOCATIONS, default=Allocation.THIN.value),
        click.option("--description", default=""),
        click.option(
            "--content",
            type=click.Choice([ContentType.DATA.value, ContentType.ISO.value]),
            default=ContentType.DATA.value,
            help="What it will hold.",
        ),
        click.option(
            "--shared", is_flag=True, help="Several VMs may run with it at once."
        ),
        click.option(
            "--wipe-after-delete/--no-wipe-after-delete",
            default=None,
            help="Else as the storage domain says.",
        ),
        limits_option,
        click.option(
            "--id",
            "chosen",
            type=click.UUID,
            default=uuid.uuid4,
            help="Choose its id: asked twice, it is one disk.",
        ),
    )


def new_disk(
    storage_domain_id: StorageDomainId,
    *,
    name: str,
    size_bytes: int,
    disk_format: str,
    allocation: str,
    description: str,
    content: str,
    shared: bool,
    wipe_after_delete: bool | None,
    limits: tuple[tuple[str, int], ...],
    chosen: uuid.UUID,
) -> CreateDisk:
    """Return what a new disk is to be."""
    return CreateDisk(
        DiskId(str(chosen)),
        name,
        storage_domain_id,
        size_bytes,
        DiskFormat(disk_format),
        Allocation(allocation),
        description,
        ContentType(content),
        shared,
        wipe_after_delete,
        DiskQos(**dict(limits)),
    )


def disk_change_options(command: terminal.Command) -> terminal.Command:
    """Add the options that say what of a disk is to be otherwise."""
    return terminal.with_options(
        command,
        click.argument("name"),
        click.option("--name", "new_name", help="What it is called from now on."),
        click.option("--description"),
        click.option(
            "--shared/--not-shared",
            default=None,
            help="Whether several VMs may run with it.",
        ),
        click.option("--wipe-after-delete/--no-wipe-after-delete", default=None),
        limits_option,
    )


def disk_change(
    known: Callable[[], DiskQos],
    *,
    new_name: str | None,
    description: str | None,
    shared: bool | None,
    wipe_after_delete: bool | None,
    limits: tuple[tuple[str, int], ...],
) -> ChangeDisk:
    """Return what of a disk is to be otherwise; `known` tells its limits of now."""
    qos = replace(known(), **dict(limits)) if limits else None
    return ChangeDisk(new_name, description, shared, wipe_after_delete, qos)


def disk_delete_options(command: terminal.Command) -> terminal.Command:
    """Add the options that say which disk goes, and from where."""
    return terminal.with_options(
        command,
        click.argument("name"),
        click.option(
            "--storage-domain", help="Of a template's disk: only the copy there."
        ),
    )


def disk_copy_options(command: terminal.Command) -> terminal.Command:
    """Add the options that say what a copy of a disk is, and where."""
    return terminal.with_options(
        command,
        click.argument("name"),
        click.argument("storage_domain"),
        click.option("--name", "new_name", help="What the copy is called."),
        click.option(
            "--format", "disk_format", type=_FORMATS, help="Else as the original."
        ),
        click.option("--allocation", type=_ALLOCATIONS, help="Else as the original."),
        click.option(
            "--snapshot", type=click.UUID, help="Copy that state, not the newest."
        ),
        click.option(
            "--id",
            "chosen",
            type=click.UUID,
            default=uuid.uuid4,
            help="Choose the copy's id; a template's own: one more place for it.",
        ),
        terminal.data_node_option,
    )


def disk_copy(
    storage_domain_id: StorageDomainId,
    *,
    new_name: str | None,
    disk_format: str | None,
    allocation: str | None,
    snapshot: uuid.UUID | None,
    chosen: uuid.UUID,
    data_node_id: NodeId | None,
) -> CopyDisk:
    """Return what a copy of a disk is to be."""
    return CopyDisk(
        DiskId(str(chosen)),
        storage_domain_id,
        new_name,
        DiskFormat(disk_format) if disk_format else None,
        Allocation(allocation) if allocation else None,
        SnapshotId(str(snapshot)) if snapshot else None,
        data_node_id,
    )
