"""Serve transfers: disks that come in and go out."""

from dataclasses import replace

import flask

from aggregator.api import transfer_verbs
from aggregator.services import Services
from node.http import face
from node.model import storage_requests as bodies
from node.model import transfer_verbs as node_verbs
from node.model.ids import TransferId
from node.model.storage import Transfer
from node.model.verb import Verb

_ACTS = {verb.name: verb for verb in node_verbs.VERBS if "/{transfer_id}/" in verb.path}


def blueprint(services: Services) -> flask.Blueprint:
    """Return the routes below /v1/transfers."""
    routes = flask.Blueprint("transfers", __name__)
    transfers = _Transfers(services)
    for verb in transfer_verbs.VERBS:
        if verb.name in _ACTS:
            face.bind(routes, verb, transfers.actor(_ACTS[verb.name]))
        else:
            face.bind(routes, verb, getattr(transfers, verb.name))
    return routes


class _Transfers:
    def __init__(self, services: Services) -> None:
        self._transfers = services.transfers

    def transfer_list(self) -> bodies.TransferList:
        # A list is shown and kept; who wants to move data asks for the one.
        listed = (replace(each, url="") for each in self._transfers.list())
        return bodies.TransferList(tuple(listed))

    def transfer_show(self, transfer_id: str) -> Transfer:
        return self._transfers.show(TransferId(transfer_id))

    def transfer_create(self, request: bodies.CreateTransfer) -> Transfer:
        return self._transfers.create(request)

    def actor(self, verb: Verb) -> face.Handler:
        """Return what passes a request on to the transfer's node."""

        def act(request: object, transfer_id: str) -> Transfer:
            return self._transfers.act(verb, TransferId(transfer_id), request)

        return act
