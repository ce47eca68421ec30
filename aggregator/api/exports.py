"""Order the export of VMs."""

import flask

from aggregator.api import export_verbs as verbs
from aggregator.api import storage
from aggregator.api.model import OrderLine
from aggregator.services import Services
from node.http import face
from node.model import export_verbs as node_verbs
from node.model.exports import ExportVm


def blueprint(services: Services) -> flask.Blueprint:
    """Return the routes of exports."""
    routes = flask.Blueprint("exports", __name__)

    def export(request: ExportVm, vm_id: str) -> OrderLine:
        return storage.order(services, node_verbs.VM_EXPORT, vm_id, request)

    face.bind(routes, verbs.VM_EXPORT, export)
    return routes
