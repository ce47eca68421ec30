"""Show the custom properties of VMs and templates, and read those of a request."""

from typing import Final

from aggregator.policies.properties import Declarations, Level
from aggregator.rest import element
from aggregator.rest.body import Body, Incomplete
from aggregator.rest.element import Element
from aggregator.rest.resource import Context
from node.model.properties import CustomProperty
from node.model.vm import VmSpec
from node.policy import properties

NAME: Final = "custom_properties"


def shown(context: Context, spec: VmSpec | None) -> Element | None:
    """Return the properties of a VM or template; None if it has none."""
    if spec is None or not spec.custom_properties:
        return None
    declared = context.fleet.properties
    return element.listed(
        NAME, (_shown(declared, each) for each in spec.custom_properties)
    )


def wanted(body: Body) -> tuple[CustomProperty, ...] | None:
    """Return all properties that a body says; None: it does not speak of them."""
    if not body.child(NAME).is_present:
        return None
    given = []
    for each in body.all(f"{NAME}/custom_property"):
        name = each.string("name")
        if not name:
            raise Incomplete("CustomProperty [name] required")
        given.append(CustomProperty(name, each.string("value") or ""))
    properties.check(given)
    return properties.edited((), given)


def _shown(declared: Declarations, each: CustomProperty) -> Element:
    known = declared.get((Level.VM, each.name))
    children = [Element("name", each.name), Element("value", each.value)]
    if known is not None:
        children.append(Element("regexp", known.pattern))
    return Element("custom_property", children=tuple(children))
