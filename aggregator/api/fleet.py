"""Serve logins, the fleet's state, and the description of this API."""

from typing import Any

import flask

from aggregator.api import caller, verbs
from aggregator.api.model import AggregatorStatus, Login, Token
from aggregator.federation.view import NodeState
from aggregator.services import Services
from node import VERSION
from node.http import face
from node.log import Secret
from node.model.vm import VmState


def blueprint(services: Services, describe: dict[str, Any]) -> flask.Blueprint:
    """Return /v1/login, /v1/status and /v1/openapi.json."""
    routes = flask.Blueprint("fleet", __name__)

    def login(request: Login) -> Token:
        session = services.access.login(
            request.user, Secret(request.password), caller.address()
        )
        return Token(session.token.reveal(), session.expires_at, session.user)

    def status() -> AggregatorStatus:
        view = services.mirror.view
        return AggregatorStatus(
            services.config.name,
            VERSION,
            services.leadership.fleet_id,
            services.leadership.term,
            services.leadership.is_leading,
            len(view.nodes),
            sum(node.state is NodeState.UP for node in view.nodes.values()),
            len(view.vms),
            sum(vm.state is VmState.UP for vm in view.vms.values()),
            len(services.registry.candidates()),
        )

    def openapi() -> dict[str, Any]:
        return describe

    face.bind(routes, verbs.LOGIN, login)
    face.bind(routes, verbs.STATUS, status)
    face.bind(routes, verbs.OPENAPI, openapi)
    return routes
