"""Serve nodes that have no certificate, or none that is still good.

Behind nginx's admission port, which asks for no client certificate: what comes
in proves itself by a token or by the key of an old certificate.
"""

from typing import Final, Protocol

import flask

from node.http import face
from node.model.fleet import (
    ENROLMENT_PATH,
    RENEWAL_PATH,
    Admission,
    Enrolment,
    Renewal,
    RenewedCertificate,
)
from node.model.verbs import ActionGroup, Caller, Object, Verb

_ANYONE: Final = frozenset({Caller.ANYONE})

ENROL: Final = Verb(
    "enrol",
    "POST",
    ENROLMENT_PATH,
    "Admit a node that shows a token.",
    ActionGroup.MANIPULATE_HOST,
    Object.FLEET,
    Admission,
    Enrolment,
    callers=_ANYONE,
)
RENEW: Final = Verb(
    "renew",
    "POST",
    RENEWAL_PATH,
    "Give a member a fresh certificate for the key of its old one.",
    ActionGroup.MANIPULATE_HOST,
    Object.NODE,
    RenewedCertificate,
    Renewal,
    callers=_ANYONE,
)


class Registry(Protocol):
    """What we need of `aggregator.registry.Registry`."""

    def enrol(self, enrolment: Enrolment, peer_address: str) -> Admission: ...

    def renew(self, renewal: Renewal) -> RenewedCertificate: ...


def create_app(registry: Registry) -> flask.Flask:
    """Return the application behind the admission port."""
    routes = flask.Blueprint("admission", __name__)

    def enrol(request: Enrolment) -> Admission:
        return registry.enrol(request, flask.request.headers.get("X-Real-IP", ""))

    face.bind(routes, ENROL, enrol)
    face.bind(routes, RENEW, registry.renew)
    # Each request proves itself: there is nobody to look up beforehand.
    return face.create_app("admission", (routes,), lambda verb, path: None)
