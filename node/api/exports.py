"""Serve the export of VMs and templates, and the removal of what was exported."""

import flask

from node.http import face
from node.model import export_verbs as verbs
from node.model.exports import ExportTemplate, ExportVm, RemoveExported
from node.model.ids import StorageDomainId, TemplateId, VmId
from node.model.job import Job
from node.vm.exporting import Exporter


def blueprint(exporter: Exporter) -> flask.Blueprint:
    """Return the routes of exports."""
    routes = flask.Blueprint("exports", __name__)

    def export(request: ExportVm, vm_id: str) -> Job:
        return exporter.export(VmId(vm_id), request)

    def export_template(request: ExportTemplate, template_id: str) -> Job:
        return exporter.export_template(TemplateId(template_id), request)

    def remove(request: RemoveExported, storage_domain_id: str) -> Job:
        return exporter.remove(StorageDomainId(storage_domain_id), request)

    face.bind(routes, verbs.VM_EXPORT, export)
    face.bind(routes, verbs.TEMPLATE_EXPORT, export_template)
    face.bind(routes, verbs.STORAGE_DOMAIN_REMOVE_EXPORTED, remove)
    return routes
