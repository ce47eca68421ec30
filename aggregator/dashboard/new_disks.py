"""Serve the form of a new disk, and make the disk that was asked for."""

import uuid
from typing import Final

import flask

from aggregator.dashboard import figures, storage, storage_drafts, visits
from aggregator.dashboard.pages import Pages
from aggregator.dashboard.refusals import Refusal
from aggregator.dashboard.routes import Route
from aggregator.dashboard.storage_drafts import DiskDraft
from aggregator.dashboard.visits import Visit
from node.errors import Error
from node.model import storage_verbs as verbs
from node.model.verbs import ActionGroup, Object


def ask(pages: Pages, visit: Visit) -> flask.Response:
    """Return the form; `storage_domain_id` may say where the disk is to lie."""
    wanted = flask.request.args.get("storage_domain_id", "")
    return _draw(pages, visit, DiskDraft(str(uuid.uuid4()), storage_domain_id=wanted))


def create(pages: Pages, visit: Visit) -> flask.Response:
    """Order the disk; or return the form again."""
    draft = storage_drafts.read(DiskDraft, visits.form())
    try:
        request = storage_drafts.to_disk(draft)
        asked = pages.services.orders.act_on_storage(
            verbs.DISK_CREATE, request.disk_id, request, visit.origin
        )
    except Error as error:
        return _draw(pages, visit, draft, Refusal.of(error))
    return storage.answered(pages, asked, f"/ui/disks/{request.disk_id}")


def _draw(
    pages: Pages, visit: Visit, draft: DiskDraft, refusal: Refusal | None = None
) -> flask.Response:
    offered = storage_drafts.disk_places(pages.services.mirror.view)
    return pages.show(
        visit,
        "new_disk.html",
        status=refusal.status if refusal else 200,
        draft=draft,
        refusal=refusal,
        places=[
            (each, f"{name}, {figures.size(free)} free") for each, name, free in offered
        ],
    )


_MAKE: Final = (ActionGroup.CREATE_DISK, Object.FLEET)
ROUTES: Final = (
    Route("GET", "/ui/disks/new", ask, *_MAKE),
    Route("POST", "/ui/disks/new", create, *_MAKE),
)
