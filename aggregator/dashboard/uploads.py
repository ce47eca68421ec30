"""Let a browser bring a disk: it is made, then the browser sends it to its node.

The browser asks again until it is told where to send, with ids of its own choice: so
it is one disk and one transfer, however often it asks, also after an interruption.
"""

from dataclasses import dataclass
from typing import Final

import flask

from aggregator import passage
from aggregator.dashboard import drafts, storage, storage_drafts, visits
from aggregator.dashboard import routes as routing
from aggregator.dashboard.pages import Pages
from aggregator.dashboard.routes import Route
from aggregator.dashboard.storage_drafts import UploadDraft
from aggregator.dashboard.visits import Visit
from node.errors import Conflict, Failed, NotFound
from node.model import storage_verbs as verbs
from node.model import transfer_verbs
from node.model.ids import DiskId, TransferId
from node.model.job import JobState
from node.model.storage import DiskState, Transfer, TransferPhase
from node.model.storage_requests import (
    ActOnDisk,
    ActOnTransfer,
    CreateDisk,
    FinalizeTransfer,
)
from node.model.verbs import ActionGroup, Object

_PAUSED: Final = (TransferPhase.PAUSED_USER, TransferPhase.PAUSED_SYSTEM)
_FAILED: Final = (TransferPhase.FINISHED_FAILURE, TransferPhase.CANCELLED)


class DiskNotMade(Failed):
    code = "upload_disk_not_made"
    remedy = "Follow what the message says, then choose the file again."


class UploadGone(NotFound):
    code = "upload_gone"
    remedy = "Choose the file again: it begins anew."


class UploadFailed(Conflict):
    code = "upload_failed"
    remedy = "Delete the disk, then choose the file again."


@dataclass(frozen=True, slots=True)
class Progress:
    """What the browser is told: where to send, once it may."""

    phase: str
    url: str = ""
    transferred_bytes: int = 0


def begin(pages: Pages, visit: Visit) -> flask.Response:
    """Make the disk and its transfer, or resume it; say how far that is."""
    draft = storage_drafts.read(UploadDraft, visits.form())
    disk, wanted = storage_drafts.to_upload(draft)
    if disk.disk_id not in pages.services.mirror.view.disks:
        _make(pages, visit, disk)
        return _answer(Progress("making"))
    transfers = pages.services.transfers
    found = transfers.create(wanted)
    if found.phase in _PAUSED:
        verb = transfer_verbs.TRANSFER_RESUME
        found = transfers.act(verb, found.transfer_id, ActOnTransfer())
    return _answer(_progress(found))


def finish(pages: Pages, visit: Visit) -> flask.Response:
    """End a transfer whose data are all sent; say how far that is."""
    transfers, transfer_id = pages.services.transfers, _transfer_id()
    found = transfers.show(transfer_id)
    if found.phase is TransferPhase.TRANSFERRING:
        verb = transfer_verbs.TRANSFER_FINALIZE
        request = FinalizeTransfer(correlation_id=visit.origin.correlation_id)
        found = transfers.act(verb, transfer_id, request)
    return _answer(_progress(found))


def give_up(pages: Pages, visit: Visit) -> flask.Response:
    """Cancel a transfer; then delete the disk, since what came is of no use."""
    row = pages.services.mirror.view.disks.get(DiskId(visits.form().get("disk_id", "")))
    if row is None:
        return _answer(Progress("gone"))
    transfers, transfer_id = pages.services.transfers, _transfer_id()
    try:
        found = transfers.show(transfer_id)
    except NotFound:
        pass  # it never began
    else:
        if found.phase not in _FAILED:
            verb = transfer_verbs.TRANSFER_CANCEL
            request = ActOnTransfer(visit.origin.correlation_id)
            found = transfers.act(verb, transfer_id, request)
            return _answer(Progress(found.phase))
    if row.state is DiskState.LOCKED:
        return _answer(Progress(row.state))
    pages.services.orders.act_on_storage(
        verbs.DISK_DELETE, row.disk_id, ActOnDisk(), visit.origin
    )
    return _answer(Progress("gone"))


def _make(pages: Pages, visit: Visit, disk: CreateDisk) -> None:
    """Order the disk, once; say why it is not made."""
    orders = storage.orders_about(pages, disk.disk_id)
    newest = orders[0] if orders else None
    if newest is None:
        verb = verbs.DISK_CREATE
        newest = pages.services.orders.act_on_storage(
            verb, disk.disk_id, disk, visit.origin
        )
    if newest.verb != verbs.DISK_CREATE.name:
        raise UploadGone("the disk is not there any more")
    if newest.state is JobState.FAILED and newest.error is not None:
        raise DiskNotMade(f"{newest.error.message} {newest.error.remedy}".strip())


def _transfer_id() -> TransferId:
    return TransferId(drafts.given_id(visits.form().get("transfer_id", "")))


def _progress(transfer: Transfer) -> Progress:
    if transfer.phase in _FAILED:
        raise UploadFailed(f"the transfer of disk {transfer.name} ended early")
    is_open = transfer.phase is TransferPhase.TRANSFERRING
    # A browser seldom reaches a node, or believes its certificate.
    url = passage.path(transfer) if is_open else ""
    return Progress(transfer.phase, url, transfer.transferred_bytes)


def _answer(progress: Progress) -> flask.Response:
    return routing.answer_json(progress)


_BRING: Final = (ActionGroup.CREATE_DISK, Object.FLEET)
ROUTES: Final = (
    Route("POST", "/ui/uploads/begin", begin, *_BRING, is_polled=True),
    Route("POST", "/ui/uploads/finish", finish, *_BRING, is_polled=True),
    Route("POST", "/ui/uploads/give-up", give_up, *_BRING, is_polled=True),
)
