"""Serve the templates of this node's pools, and full clones of them."""

import flask

from node.http import face
from node.model import template_verbs as verbs
from node.model.ids import TemplateId
from node.model.job import Job
from node.model.templates import ChangeTemplate, DeleteTemplate, Template
from node.vm.templates import Templates


def blueprint(templates: Templates) -> flask.Blueprint:
    """Return the routes below /v1/templates, and that of clones."""
    routes = flask.Blueprint("templates", __name__)

    def show(template_id: str) -> Template:
        return templates.show(TemplateId(template_id))

    def change(request: ChangeTemplate, template_id: str) -> Template:
        return templates.change(TemplateId(template_id), request)

    def delete(request: DeleteTemplate, template_id: str) -> Job:
        return templates.delete(TemplateId(template_id), request)

    for verb, handler in (
        (verbs.TEMPLATE_LIST, templates.list),
        (verbs.TEMPLATE_SHOW, show),
        (verbs.TEMPLATE_CREATE, templates.create),
        (verbs.TEMPLATE_CHANGE, change),
        (verbs.TEMPLATE_DELETE, delete),
        (verbs.VM_CLONE, templates.clone),
    ):
        face.bind(routes, verb, handler)
    return routes
