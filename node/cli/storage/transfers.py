"""The commands on transfers: disks that come in and go out over the network."""

import uuid

import click

from node.cli.context import Context, pass_context
from node.cli.storage import render
from node.model.ids import SnapshotId, TransferId
from node.model.storage import DiskFormat, TransferDirection
from node.model.storage_requests import (
    ActOnTransfer,
    CreateTransfer,
    FinalizeTransfer,
)

transfer_argument = click.argument("transfer_id", type=click.UUID)


@click.group()
def transfer() -> None:
    """Look after transfers of disks; a client moves the data itself."""


@transfer.command("list")
@pass_context
def transfer_list(context: Context) -> None:
    """List the transfers of this node, those that ended lately, too."""
    reply = context.client.transfer_list()
    context.show(reply, lambda: render.transfers(reply.transfers))


@transfer.command("show")
@transfer_argument
@pass_context
def transfer_show(context: Context, transfer_id: uuid.UUID) -> None:
    """Describe a transfer."""
    reply = context.client.transfer_show(TransferId(str(transfer_id)))
    context.show(reply, lambda: render.transfer(reply))


@transfer.command("create")
@click.argument(
    "direction", type=click.Choice([each.value for each in TransferDirection])
)
@click.argument("disk")
@click.option(
    "--format",
    "disk_format",
    type=click.Choice([each.value for each in DiskFormat]),
    default=DiskFormat.RAW.value,
    show_default=True,
    help="What travels.",
)
@click.option("--snapshot", type=click.UUID, help="Of this state, not the newest.")
@click.option(
    "--inactivity",
    "inactivity_s",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="It ends when nobody used it for so many s; 0: never.",
)
@click.option(
    "--id",
    "chosen",
    type=click.UUID,
    default=uuid.uuid4,
    help="Choose its id: asked twice, it is one transfer.",
)
@pass_context
def transfer_create(
    context: Context,
    direction: str,
    disk: str,
    disk_format: str,
    snapshot: uuid.UUID | None,
    inactivity_s: float,
    chosen: uuid.UUID,
) -> None:
    """Let a client upload or download a DISK; its address is shown, a secret."""
    request = CreateTransfer(
        TransferId(str(chosen)),
        context.disk(disk).disk_id,
        TransferDirection(direction),
        DiskFormat(disk_format),
        SnapshotId(str(snapshot)) if snapshot else None,
        inactivity_s,
    )
    reply = context.client.transfer_create(request)
    context.show(reply, lambda: render.transfer(reply))


@transfer.command("extend")
@transfer_argument
@pass_context
def transfer_extend(context: Context, transfer_id: uuid.UUID) -> None:
    """Begin the time anew that nobody uses it."""
    reply = context.client.transfer_extend(
        TransferId(str(transfer_id)), ActOnTransfer()
    )
    context.show(reply, lambda: render.transfer(reply))


@transfer.command("pause")
@transfer_argument
@pass_context
def transfer_pause(context: Context, transfer_id: uuid.UUID) -> None:
    """Let nothing more be sent or fetched for now."""
    reply = context.client.transfer_pause(TransferId(str(transfer_id)), ActOnTransfer())
    context.show(reply, lambda: render.transfer(reply))


@transfer.command("resume")
@transfer_argument
@pass_context
def transfer_resume(context: Context, transfer_id: uuid.UUID) -> None:
    """Go on with a transfer that is paused."""
    reply = context.client.transfer_resume(
        TransferId(str(transfer_id)), ActOnTransfer()
    )
    context.show(reply, lambda: render.transfer(reply))


@transfer.command("finalize")
@transfer_argument
@click.option("--sha256", default="", help="What must lie there; else nobody looks.")
@pass_context
def transfer_finalize(context: Context, transfer_id: uuid.UUID, sha256: str) -> None:
    """End a transfer whose client is done; VMs may use the disk then."""
    request = FinalizeTransfer(sha256)
    reply = context.client.transfer_finalize(TransferId(str(transfer_id)), request)
    context.show(reply, lambda: render.transfer(reply))


@transfer.command("cancel")
@transfer_argument
@click.confirmation_option(prompt="Give it up? What was sent of a disk is unusable.")
@pass_context
def transfer_cancel(context: Context, transfer_id: uuid.UUID) -> None:
    """Give a transfer up; what was sent of a disk is unusable."""
    reply = context.client.transfer_cancel(
        TransferId(str(transfer_id)), ActOnTransfer()
    )
    context.show(reply, lambda: render.transfer(reply))
