"""Serve the export of VMs, and the removal of what was exported."""

import flask

from node.http import face
from node.model import export_verbs as verbs
from node.model.exports import ExportVm, RemoveExported
from node.model.ids import StorageDomainId, VmId
from node.model.job import Job
from node.vm.exporting import Exporter


def blueprint(exporter: Exporter) -> flask.Blueprint:
    """Return the routes of exports."""
    routes = flask.Blueprint("exports", __name__)

    def export(request: ExportVm, vm_id: str) -> Job:
        return exporter.export(VmId(vm_id), request)

    def remove(request: RemoveExported, storage_domain_id: str) -> Job:
        return exporter.remove(StorageDomainId(storage_domain_id), request)

    face.bind(routes, verbs.VM_EXPORT, export)
    face.bind(routes, verbs.STORAGE_DOMAIN_REMOVE_EXPORTED, remove)
    return routes
