"""Order the export of VMs and templates, and the removal of what was exported."""

import flask

from aggregator.api import export_verbs as verbs
from aggregator.api import storage
from aggregator.api.model import OrderLine
from aggregator.services import Services
from node.http import face
from node.model import export_verbs as node_verbs
from node.model.exports import ExportTemplate, ExportVm, RemoveExported


def blueprint(services: Services) -> flask.Blueprint:
    """Return the routes of exports."""
    routes = flask.Blueprint("exports", __name__)

    def export(request: ExportVm, vm_id: str) -> OrderLine:
        return storage.order(services, node_verbs.VM_EXPORT, vm_id, request)

    def export_template(request: ExportTemplate, template_id: str) -> OrderLine:
        verb = node_verbs.TEMPLATE_EXPORT
        return storage.order(services, verb, template_id, request)

    def remove(request: RemoveExported, storage_domain_id: str) -> OrderLine:
        verb = node_verbs.STORAGE_DOMAIN_REMOVE_EXPORTED
        return storage.order(services, verb, storage_domain_id, request)

    face.bind(routes, verbs.TEMPLATE_EXPORT, export_template)
    face.bind(routes, verbs.VM_EXPORT, export)
    face.bind(routes, verbs.STORAGE_DOMAIN_REMOVE_EXPORTED, remove)
    return routes
