"""Serve the form of a new VM, and make the VM that was asked for."""

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import flask

from aggregator.api import new_vm
from aggregator.api.model import NewVm
from aggregator.control import templating
from aggregator.control.orders import Order
from aggregator.dashboard import drafts, properties, property_rows, rows, visits
from aggregator.dashboard import routes as routing
from aggregator.dashboard.drafts import Draft
from aggregator.dashboard.pages import Pages
from aggregator.dashboard.refusals import Refusal
from aggregator.dashboard.routes import Route
from aggregator.dashboard.visits import Visit
from aggregator.federation.view import View
from aggregator.policies.properties import Level
from node.errors import Conflict, Error, Invalid
from node.model.job import JobState
from node.model.verbs import ActionGroup, Object
from node.model.vm import VmSpec
from node.policy import properties as policy

_NO_COMPLAINTS: Final[Mapping[str, Error]] = {}


def ask(pages: Pages, visit: Visit) -> flask.Response:
    """Return the form, filled in as far as can be guessed."""
    offered = drafts.choices(pages.services.mirror.view)
    draft = Draft(
        str(uuid.uuid4()),
        image=offered.images[0] if offered.images else "",
        network=offered.networks[0] if offered.networks else "",
        node_id=flask.request.args.get("node_id", ""),
    )
    return _draw(pages, visit, draft)


def create(pages: Pages, visit: Visit) -> flask.Response:
    """Order the VM, and its start if that is wanted; or return the form again."""
    draft = drafts.from_form(visits.form())
    wrong = properties.complaints_of_new(pages, draft.properties)
    if wrong:
        return _draw(pages, visit, draft, complaints=wrong)
    try:
        request = drafts.to_request(draft)
        spec = _spec(pages.services.mirror.view, draft, request)
    except Error as error:
        return _draw(pages, visit, draft, Refusal.of(error))
    outcome = _order(pages, visit, spec, request)
    if isinstance(outcome, Refusal):
        return _draw(pages, visit, draft, outcome)
    if draft.start and outcome.state is JobState.DONE:
        outcome = pages.services.orders.start_vm(spec.vm_id, visit.origin)
    response = routing.done(pages, f"/ui/vms/{spec.vm_id}")
    visits.note_failure(response, outcome)
    return response


def _spec(view: View, draft: Draft, request: NewVm) -> VmSpec:
    """Return the VM; of a template it has all but what the form says for sure."""
    template_id = drafts.template_of(draft)
    if template_id is None or request.vm_id is None:
        return new_vm.spec(view, request)
    made = templating.spec(view, template_id, request.vm_id, request.name)
    return replace(
        made,
        memory_bytes=request.memory_bytes,
        cpu=request.cpu,
        description=request.description or made.description,
        custom_properties=policy.edited(
            made.custom_properties, request.custom_properties
        ),
    )


def _order(pages: Pages, visit: Visit, spec: VmSpec, request: NewVm) -> Order | Refusal:
    orders = pages.services.orders
    try:
        order = orders.create_vm(spec, visit.origin, request.node_id)
    except Error as error:
        verdicts = rows.verdict_rows(orders.explain(spec).verdicts, pages.translate)
        return Refusal(str(error), error.remedy, error.status, verdicts=tuple(verdicts))
    if order.state is JobState.FAILED and order.error:
        return Refusal(order.error.message, order.error.remedy, Conflict.status)
    return order


def _draw(
    pages: Pages,
    visit: Visit,
    draft: Draft,
    refusal: Refusal | None = None,
    complaints: Mapping[str, Error] = _NO_COMPLAINTS,
) -> flask.Response:
    declared = pages.services.orders.properties.now()
    status = refusal.status if refusal else 200
    return pages.show(
        visit,
        "new_vm.html",
        status=Invalid.status if complaints else status,
        draft=draft,
        refusal=refusal,
        properties=property_rows.rows(declared, Level.VM, draft.properties, complaints),
        complaints=len(complaints),
        choices=drafts.choices(pages.services.mirror.view),
    )


_MAKE: Final = (ActionGroup.CREATE_VM, Object.NODE)
ROUTES: Final = (
    Route("GET", "/ui/vms/new", ask, *_MAKE),
    Route("POST", "/ui/vms/new", create, *_MAKE),
)
