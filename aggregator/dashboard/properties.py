"""Serve the page of declared custom properties, and the form of a VM's own."""

import re
from typing import Final

import flask

from aggregator.dashboard import property_rows, questions, routes, visits
from aggregator.dashboard import vms as vm_pages
from aggregator.dashboard.pages import Pages
from aggregator.dashboard.property_rows import Typed
from aggregator.dashboard.questions import Field, Question
from aggregator.dashboard.routes import Route
from aggregator.dashboard.visits import Visit
from aggregator.federation.view import VmView
from aggregator.fleet.properties import PropertyNotFound
from aggregator.policies import properties as policy
from aggregator.policies.properties import Declaration, Level
from node.errors import Conflict, Error
from node.model.requests import SetProperties
from node.model.verbs import ActionGroup, Object
from node.model.vm import Vm

PAGE: Final = "/ui/properties"
_GENERATION: Final = re.compile(r"[0-9]{1,18}")  # what 64 bits hold
_LEVELS: Final = {
    Level.VM: "VMs",
    Level.NIC: "network cards",
    Level.DISK: "disks",
    Level.NETWORK: "networks",
}
_NEEDS_HOOK: Final = "Hook that nodes must have, such as before_vm_start/50_pincpu"
_ABOUT: Final = (
    "A value has to match the pattern, a regular expression, from end to end. VMs keep "
    "the values that they have. Patterns with repeats inside repeats can be very slow."
)


class NotDefinedYet(Conflict):
    code = "vm_not_defined_yet"
    remedy = "Wait until a node tells what the VM is."


# declarations


def show(pages: Pages, visit: Visit) -> flask.Response:
    """Return the page of all custom properties that are declared."""
    declared = pages.services.orders.properties.now().values()
    return pages.show(
        visit, "properties.html", declared=tuple(declared), levels=_LEVELS
    )


def _ask_new(pages: Pages, visit: Visit) -> flask.Response:
    levels = [(each.value, name) for each, name in _LEVELS.items()]
    fields = (
        questions.choice("level", "A property of", levels),
        Field("name", "Name"),
        Field("pattern", "Pattern of values", "^.*$"),
        Field("help", "What to know who gives a value", is_optional=True),
        Field("needs_hook", _NEEDS_HOOK, is_optional=True),
    )
    title, address = "Declare a custom property", f"{PAGE}/new"
    return _ask(pages, visit, Question(title, "Declare", address, PAGE, _ABOUT, fields))


def _declare(pages: Pages, visit: Visit) -> flask.Response:
    form = visits.form()
    return _put(pages, form.get("level", ""), form.get("name", ""))


def _ask_change(pages: Pages, visit: Visit, level: str, name: str) -> flask.Response:
    known = _find(pages, level, name)
    fields = (
        Field("pattern", "Pattern of values", known.pattern),
        Field("help", "What to know who gives a value", known.help, is_optional=True),
        Field("needs_hook", _NEEDS_HOOK, known.needs_hook, is_optional=True),
    )
    title, address = f"Edit: {name}", f"{PAGE}/{level}/{name}/edit"
    return _ask(pages, visit, Question(title, "Save", address, PAGE, _ABOUT, fields))


def _change(pages: Pages, visit: Visit, level: str, name: str) -> flask.Response:
    _find(pages, level, name)
    return _put(pages, level, name)


def _put(pages: Pages, level: str, name: str) -> flask.Response:
    form = visits.form()
    texts = [form.get(each, "") for each in ("pattern", "help", "needs_hook")]
    pages.services.orders.properties.declare(_level(level), name, *texts)
    return routes.done(pages, PAGE)


def _ask_removal(pages: Pages, visit: Visit, level: str, name: str) -> flask.Response:
    _find(pages, level, name)
    about, address = "Nothing may have it.", f"{PAGE}/{level}/{name}/remove"
    words = (f"Remove: {name}", "Remove", address, PAGE, about)
    return _ask(pages, visit, Question(*words, is_dangerous=True))


def _remove(pages: Pages, visit: Visit, level: str, name: str) -> flask.Response:
    view = pages.services.mirror.view
    pages.services.orders.properties.remove(view, _level(level), name)
    return routes.done(pages, PAGE)


def _ask(pages: Pages, visit: Visit, question: Question) -> flask.Response:
    return pages.show(visit, "question.html", question=question)


def _find(pages: Pages, level: str, name: str) -> Declaration:
    known = pages.services.orders.properties.now().get((_level(level), name))
    if known is None:
        raise PropertyNotFound(f"there is no custom property {name}", name=name)
    return known


def _level(text: str) -> Level:
    if text not in list(Level):
        raise PropertyNotFound(f"nothing called {text:.40} has properties")
    return Level(text)


# a VM's own


def ask(pages: Pages, visit: Visit, vm_id: str) -> flask.Response:
    """Return the form of a VM's properties, and of those of its devices."""
    vm, defined = _defined(pages, vm_id)
    return _draw(pages, visit, vm, defined)


def change(pages: Pages, visit: Visit, vm_id: str) -> flask.Response:
    """Order what was typed for the VM or a device; or return the form again."""
    vm, defined = _defined(pages, vm_id)
    form = visits.form()
    values = property_rows.read(form)
    device_id = form.get("device_id") or None
    wanted = property_rows.given(values)
    holder = next(
        (e for e in policy.holders(defined.spec) if e.device_id == device_id), None
    )
    if holder is not None:
        declared = pages.services.orders.properties.now()
        known = holder.properties
        found = policy.complaints(declared, holder.level, wanted, known)
        if found:
            typed = Typed(device_id or "", values, found)
            return _draw(pages, visit, vm, defined, typed)
    seen = form.get("generation", "")
    based_on = int(seen) if _GENERATION.fullmatch(seen) else defined.generation
    request = SetProperties(wanted, device_id, generation=based_on)
    order = pages.services.orders.set_properties(vm.vm_id, request, visit.origin)
    response = routes.done(pages, f"/ui/vms/{vm_id}#properties")
    visits.note_failure(response, order)
    return response


def _draw(
    pages: Pages, visit: Visit, vm: VmView, defined: Vm, typed: Typed | None = None
) -> flask.Response:
    declared = pages.services.orders.properties.now()
    holders = policy.holders(defined.spec)
    return pages.show(
        visit,
        "vm_properties.html",
        status=400 if typed is not None else 200,
        vm=vm,
        generation=defined.generation,
        sections=list(property_rows.sections(declared, holders, typed)),
        complaints=len(typed.complaints) if typed is not None else 0,
    )


def _defined(pages: Pages, vm_id: str) -> tuple[VmView, Vm]:
    vm = vm_pages.find(pages.services.mirror.view, vm_id)
    defined = vm_pages.definition(vm)
    if defined is None:
        raise NotDefinedYet(f"no node has told what VM {vm.name} is")
    return vm, defined


def complaints_of_new(pages: Pages, values: property_rows.Values) -> dict[str, Error]:
    """Return what is wrong with the properties of a new VM, by name."""
    declared = pages.services.orders.properties.now()
    wanted = property_rows.given(values)
    return dict(policy.complaints(declared, Level.VM, wanted))


_ONE: Final = f"{PAGE}/<level>/<name>"
_OF_VM: Final = "/ui/vms/<vm_id>/properties"
_DECLARE: Final = (ActionGroup.EDIT_FLEET, Object.FLEET)
_GIVE: Final = (ActionGroup.CHANGE_CUSTOM_PROPERTIES, Object.VM)
ROUTES: Final = (
    Route("GET", PAGE, show, ActionGroup.READ, Object.FLEET),
    Route("GET", f"{PAGE}/new", _ask_new, *_DECLARE),
    Route("POST", f"{PAGE}/new", _declare, *_DECLARE),
    Route("GET", f"{_ONE}/edit", _ask_change, *_DECLARE),
    Route("POST", f"{_ONE}/edit", _change, *_DECLARE),
    Route("GET", f"{_ONE}/remove", _ask_removal, *_DECLARE),
    Route("POST", f"{_ONE}/remove", _remove, *_DECLARE),
    Route("GET", _OF_VM, ask, *_GIVE),
    Route("POST", _OF_VM, change, *_GIVE),
)
