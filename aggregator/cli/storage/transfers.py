"""The commands that move disks and CD images in and out."""

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from aggregator.api import storage_verbs, transfer_verbs
from aggregator.api.storage_model import NewDisk
from aggregator.cli import client
from aggregator.cli.context import Context, pass_context
from aggregator.cli.storage import images, render
from aggregator.cli.storage.images import Image, OtherFormat
from aggregator.cli.storage.moves import Job, Line, Mover, Note, Notes
from node.commands import terminal
from node.errors import Conflict, NotFound
from node.model.ids import DiskId, SnapshotId, StorageDomainId, TransferId
from node.model.storage import (
    ContentType,
    DiskFormat,
    DomainClass,
    DomainState,
    DomainType,
    Transfer,
    TransferDirection,
)
from node.model.storage_requests import ActOnTransfer

_FORMATS = click.Choice([each.value for each in DiskFormat])
_FILE = click.Path(path_type=Path, dir_okay=False)
_SHOWN_S = (0.0, 0.5, 1.0, 2.0)  # pauses before looks for a disk


class WhichStorageDomain(Conflict):
    code = "which_storage_domain"
    remedy = "Name it: --domain; `skerry storage list` shows what there is."


class FileIsThere(Conflict):
    code = "file_exists"
    remedy = "Name another file, or give --force."


def upload_command(command: Callable[..., None]) -> Callable[..., None]:
    """Add what every upload may be told."""
    for option in (
        click.option("--domain", help="The storage domain; else the only shared one."),
        click.option("--name", help="What the disk is called; else as the file."),
        click.argument("file", type=_FILE),
    ):
        command = option(command)
    return command


@click.command("upload")
@upload_command
@click.option("--format", "disk_format", type=_FORMATS, help="Else as the file.")
@click.option("--size", "size_bytes", type=terminal.Size(), help="Of a raw disk.")
@pass_context
def upload(
    context: Context,
    /,
    *,
    file: Path,
    name: str | None,
    domain: str | None,
    disk_format: str | None,
    size_bytes: int | None,
) -> None:
    """Make a disk of FILE (raw or qcow2); repeated, it goes on where it stopped."""
    image = images.read(file)
    wanted = DiskFormat(disk_format) if disk_format else image.disk_format
    if image.disk_format is DiskFormat.QCOW2 and wanted is not DiskFormat.QCOW2:
        raise OtherFormat(f"{file} is {image.disk_format}")
    if size_bytes is not None:
        if size_bytes < image.size_bytes or image.disk_format is DiskFormat.QCOW2:
            raise click.UsageError(f"{file} holds a disk of {image.size_bytes} bytes")
        image = replace(image, size_bytes=images.whole(size_bytes))
    _send(context, file, image, name or file.stem, domain, wanted, ContentType.DATA)


@click.command("download")
@click.argument("name")
@click.argument("file", type=_FILE)
@click.option(
    "--format",
    "disk_format",
    type=_FORMATS,
    default=DiskFormat.RAW.value,
    help="qcow2: the file of the disk as it lies on the storage.",
)
@click.option(
    "--snapshot", type=click.UUID, help="As it was then, also while its VM runs."
)
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@pass_context
def download(
    context: Context,
    name: str,
    file: Path,
    disk_format: str,
    snapshot: uuid.UUID | None,
    force: bool,
) -> None:
    """Fetch a disk that no VM runs with into FILE; repeated, it goes on."""
    snapshot_id = SnapshotId(str(snapshot)) if snapshot else None
    if file.exists() and not force:
        raise FileIsThere(f"{file} is there")
    disk_id, direction = context.find_disk(name), TransferDirection.DOWNLOAD
    part, notes = file.with_name(f"{file.name}.part"), Notes(file, direction)
    note = notes.load()
    wanted = (disk_id, snapshot_id)
    if note is None or (note.disk_id, note.snapshot_id) != wanted or not part.exists():
        part.unlink(missing_ok=True)
        note = Note(disk_id, snapshot_id=snapshot_id)
    with _opened(part, os.O_RDWR | os.O_CREAT) as descriptor:
        job = Job(
            disk_id,
            direction,
            DiskFormat(disk_format),
            descriptor,
            snapshot_id=snapshot_id,
        )
        done = _run(context, job, notes, note)
        os.fsync(descriptor)
    part.replace(file)
    context.show(done, lambda: f"Fetched {terminal.size(done.size_bytes)} into {file}.")


@click.group()
def iso() -> None:
    """Look after CD images."""


@iso.command("upload")
@upload_command
@pass_context
def iso_upload(
    context: Context, /, *, file: Path, name: str | None, domain: str | None
) -> None:
    """Make a CD of FILE; repeated, it goes on where it stopped."""
    image = replace(images.read(file), disk_format=DiskFormat.RAW)
    image = replace(image, size_bytes=images.whole(image.file_bytes))
    content = ContentType.ISO
    _send(context, file, image, name or file.name, domain, DiskFormat.RAW, content)


@iso.command("list")
@pass_context
def iso_list(context: Context) -> None:
    """List the CD images of pools."""
    reply = context.client.disk_list()
    found = tuple(each for each in reply.disks if each.content is ContentType.ISO)
    reply = replace(reply, disks=found, total=len(found))
    context.show(reply, lambda: render.disks(reply))


@click.group()
def transfer() -> None:
    """Look after disks that come in or go out just now."""


@transfer.command("list")
@pass_context
def transfer_list(context: Context) -> None:
    """List transfers, those that ended lately, too."""
    reply = context.client.transfer_list()
    context.show(reply, lambda: _table(reply.transfers))


@transfer.command("show")
@click.argument("transfer_id", type=click.UUID)
@pass_context
def transfer_show(context: Context, transfer_id: uuid.UUID) -> None:
    """Describe a transfer; its address is a secret."""
    found = context.client.transfer_show(TransferId(str(transfer_id)))
    context.show(found, lambda: _describe(found))


def _acting(name: str, meaning: str) -> None:
    verb = next(e for e in transfer_verbs.VERBS if e.name == f"transfer_{name}")

    @transfer.command(name, help=meaning)
    @click.argument("transfer_id", type=click.UUID)
    @pass_context
    def act(context: Context, transfer_id: uuid.UUID) -> None:
        request = ActOnTransfer()
        wanted = TransferId(str(transfer_id))
        found = context.client.transfer_act(verb, request, wanted)
        context.show(found, lambda: _describe(found))


_acting("extend", "Begin the time anew that nobody uses it.")
_acting("pause", "Let nothing more be sent or fetched for now.")
_acting("resume", "Go on with a transfer that is paused.")
_acting("cancel", "Give a transfer up; what was sent of a disk is unusable.")


def _send(
    context: Context,
    file: Path,
    image: Image,
    name: str,
    domain: str | None,
    disk_format: DiskFormat,
    content: ContentType,
) -> None:
    """Send a file to a disk of its own, which is made unless a note tells of it."""
    direction = TransferDirection.UPLOAD
    notes, status = Notes(file, direction), file.stat()
    note = notes.load()
    now = (status.st_size, status.st_mtime_ns)
    is_same = note is not None and (note.size_bytes, note.modified_ns) == now
    if note is None or not is_same or not _is_there(context, note.disk_id):
        disk_id = _make_disk(context, image, name, domain, disk_format, content)
        note = Note(disk_id, None, 0, *now)
        notes.save(note)
    is_file = image.disk_format is DiskFormat.QCOW2
    with _opened(file, os.O_RDONLY) as descriptor:
        job = Job(
            note.disk_id,
            direction,
            image.disk_format,
            descriptor,
            image.file_bytes if is_file else None,
        )
        done = _run(context, job, notes, note)
    text = f"Sent {terminal.size(done.size_bytes)}: disk {name}, {note.disk_id}."
    context.show(done, lambda: text)


def _is_there(context: Context, disk_id: DiskId) -> bool:
    """Tell whether a noted disk is in this fleet; a new one is shown in a moment."""
    for pause_s in _SHOWN_S:
        time.sleep(pause_s)
        try:
            context.client.disk_show(disk_id)
        except NotFound:
            continue
        return True
    return False


def _make_disk(
    context: Context,
    image: Image,
    name: str,
    domain: str | None,
    disk_format: DiskFormat,
    content: ContentType,
) -> DiskId:
    disk_id = DiskId(str(uuid.uuid4()))
    request = NewDisk(
        name,
        _place(context, domain),
        image.size_bytes,
        disk_id,
        disk_format,
        content=content,
    )
    order = context.client.disk_act(storage_verbs.DISK_CREATE, request)
    context.follow(order, is_last=False)
    return disk_id


def _place(context: Context, domain: str | None) -> StorageDomainId:
    """Return the storage domain that is named, or the only one that is shared."""
    if domain is not None:
        return context.find_storage_domain(domain).storage_domain_id
    found = [
        each.storage_domain_id
        for each in context.client.storage_domain_list().storage_domains
        if each.kind is not DomainType.LOCALFS
        and each.domain_class is DomainClass.DATA
        and each.state is DomainState.ACTIVE
    ]
    if len(found) != 1:
        raise WhichStorageDomain(f"there are {len(found)} shared storage domains")
    return found[0]


def _run(context: Context, job: Job, notes: Notes, note: Note) -> Transfer:
    line = Line()
    session = client.load(client.session_path())
    trust, origin = client.trust(session), client.origin(session)
    try:
        return Mover(context.client, trust, job, notes, note, line, origin).run()
    finally:
        line.end()


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _table(transfers: tuple[Transfer, ...]) -> str:
    return terminal.table(
        ("ID", "DISK", "DIRECTION", "PHASE", "DONE", "WHY"),
        (
            (
                each.transfer_id,
                each.name or each.disk_id,
                each.direction,
                each.phase,
                _share(each),
                terminal.sentence(each.reason),
            )
            for each in transfers
        ),
    )


def _describe(found: Transfer) -> str:
    rows: list[tuple[str, Any]] = [
        ("id", found.transfer_id),
        ("disk", f"{found.name} ({found.disk_id})"),
        ("direction", found.direction),
        ("phase", f"{found.phase} since {found.since}"),
        ("size", terminal.size(found.size_bytes)),
        ("done", _share(found)),
        ("address", found.url),
    ]
    rows.extend(("why", each) for each in terminal.causes(found.reason))
    return terminal.pairs(rows)


def _share(found: Transfer) -> str:
    return f"{100 * found.transferred_bytes / max(found.size_bytes, 1):.0f} %"
