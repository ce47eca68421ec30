"""Serve how this node belongs to a fleet."""

from collections.abc import Callable

import flask

from node.host.enrol import Enrolment
from node.http import face
from node.model import verbs
from node.model.fleet import (
    Admission,
    AdmissionRequest,
    FleetRules,
    Membership,
    SealedFleet,
)
from node.model.host import NodeStatus


def blueprint(
    enrolment: Enrolment, status: Callable[[], NodeStatus]
) -> flask.Blueprint:
    """Return /v1/admission and the routes below /v1/fleet."""
    routes = flask.Blueprint("admission", __name__)

    def show() -> AdmissionRequest:
        return enrolment.request()

    def admit(request: Admission) -> Membership:
        return enrolment.admit(request)

    def sealed() -> SealedFleet:
        return enrolment.sealed()

    def keep_sealed(request: SealedFleet) -> SealedFleet:
        return enrolment.put_sealed(request)

    def rules() -> FleetRules:
        return enrolment.rules()

    def follow(request: Membership) -> Membership:
        return enrolment.put_membership(request)

    def leave() -> NodeStatus:
        enrolment.leave()
        return status()

    face.bind(routes, verbs.ADMISSION_SHOW, show)
    face.bind(routes, verbs.ADMIT, admit)
    face.bind(routes, verbs.SEALED_SHOW, sealed)
    face.bind(routes, verbs.SEALED_PUT, keep_sealed)
    face.bind(routes, verbs.RULES_SHOW, rules)
    face.bind(routes, verbs.AGGREGATORS_PUT, follow)
    face.bind(routes, verbs.LEAVE, leave)
    return routes
