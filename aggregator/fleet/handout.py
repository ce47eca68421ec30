"""Hand the sealed copy of the fleet's documents to the nodes that keep it.

Behind nginx's feed port: the headers that name the node are nginx's.
"""

from collections.abc import Callable
from typing import Final

import flask

from aggregator.fleet import term
from node.errors import Denied
from node.http import face
from node.model.fleet import SEALED_PATH, Role, SealedFleet
from node.model.ids import NodeId
from node.model.verbs import ActionGroup, Object, Verb

SEALED: Final = Verb(
    "sealed",
    "GET",
    SEALED_PATH,
    "Give out the newest sealed copy of the fleet's documents.",
    ActionGroup.READ,
    Object.FLEET,
    SealedFleet,
    callers=frozenset(),
)


class NotOurNode(Denied):
    code = "not_our_node"
    remedy = "Admit the node to this fleet first."


def blueprint(
    leadership: term.Leadership, is_member: Callable[[NodeId], bool]
) -> flask.Blueprint:
    """Return /v1/fleet/sealed, for members only."""
    routes = flask.Blueprint("handout", __name__)

    def sealed() -> SealedFleet:
        headers = flask.request.headers
        subject = NodeId(headers.get("X-Skerry-Subject", ""))
        if headers.get("X-Skerry-Role") != Role.NODE or not is_member(subject):
            raise NotOurNode(f"{subject[:80] or 'nobody'} is no node of this fleet")
        return leadership.sealed()

    face.bind(routes, SEALED, sealed)
    return routes
