"""Serve the transfers of this node: disks that come in and go out.

Each verb of `node.model.transfer_verbs` is a method of its name.
"""

from typing import Protocol

import flask

from node.http import face
from node.model import transfer_verbs
from node.model.ids import TransferId
from node.model.storage import Transfer
from node.model.storage_requests import (
    ActOnTransfer,
    CreateTransfer,
    FinalizeTransfer,
    TransferList,
)
from node.model.verb import Verb


class TransferVerbs(Protocol):
    """What answers: from memory, but for a look at a disk when one begins."""

    def transfer_list(self) -> TransferList: ...

    def transfer_show(self, transfer_id: TransferId) -> Transfer: ...

    def transfer_create(self, request: CreateTransfer) -> Transfer: ...

    def transfer_extend(
        self, transfer_id: TransferId, request: ActOnTransfer
    ) -> Transfer: ...

    def transfer_pause(
        self, transfer_id: TransferId, request: ActOnTransfer
    ) -> Transfer: ...

    def transfer_resume(
        self, transfer_id: TransferId, request: ActOnTransfer
    ) -> Transfer: ...

    def transfer_finalize(
        self, transfer_id: TransferId, request: FinalizeTransfer
    ) -> Transfer: ...

    def transfer_cancel(
        self, transfer_id: TransferId, request: ActOnTransfer
    ) -> Transfer: ...


def blueprint(transfers: TransferVerbs) -> flask.Blueprint:
    """Return the routes below /v1/transfers."""
    routes = flask.Blueprint("transfers", __name__)
    for verb in transfer_verbs.VERBS:
        face.bind(routes, verb, _handler(verb, getattr(transfers, verb.name)))
    return routes


def _handler(verb: Verb, method: face.Handler) -> face.Handler:
    if verb.request is None:
        return method
    return lambda request, **path: method(**path, request=request)
