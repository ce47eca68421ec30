"""Make the entry point: what there is, which version, how much of it."""

from collections.abc import Iterable, Iterator
from typing import Final

from aggregator.federation.view import NodeState
from aggregator.rest import compatibility
from aggregator.rest.call import Call
from aggregator.rest.element import Element, link, nested, reference

# Clients replace what is in braces.
_SEARCH: Final = "?search={query}"


def element(call: Call, rels: Iterable[str], searchable: Iterable[str]) -> Element:
    """Return the representation of the API itself."""
    context = call.context
    base = context.base
    version = compatibility
    full = f"{version.MAJOR}.{version.MINOR}.{version.BUILD}.{version.REVISION}"
    blank = reference(
        "blank_template",
        f"{base}/templates/{compatibility.BLANK_ID}",
        compatibility.BLANK_ID,
    )
    user_href = f"{base}/users/{call.identity.user_id}"
    fields = nested(
        (
            ("product_info/name", compatibility.PRODUCT),
            ("product_info/vendor", compatibility.VENDOR),
            ("product_info/instance_id", call.services.leadership.fleet_id),
            ("product_info/version/full_version", full),
            ("product_info/version/major", version.MAJOR),
            ("product_info/version/minor", version.MINOR),
            ("product_info/version/build", version.BUILD),
            ("product_info/version/revision", version.REVISION),
            ("special_objects/blank_template", blank),
            *_summary(call),
            ("time", call.services.clock.now()),
            (
                "authenticated_user",
                reference("authenticated_user", user_href, call.identity.user_id),
            ),
            (
                "effective_user",
                reference("effective_user", user_href, call.identity.user_id),
            ),
        )
    )
    return Element(
        "api", children=(*_links(base, rels), *_searches(base, searchable), *fields)
    )


def _links(base: str, rels: Iterable[str]) -> Iterator[Element]:
    return (link(rel, f"{base}/{rel}") for rel in rels)


def _searches(base: str, rels: Iterable[str]) -> Iterator[Element]:
    for rel in rels:
        matrix = ";from={event_id}" if rel == "events" else ""
        yield link(f"{rel}/search", f"{base}/{rel}{matrix}{_SEARCH}")


def _summary(call: Call) -> Iterator[tuple[str, int]]:
    view = call.context.view
    nodes = view.nodes.values()
    hosts_up = sum(node.state is NodeState.UP for node in nodes)
    yield "summary/hosts/active", hosts_up
    yield "summary/hosts/total", len(view.nodes)
    users = call.context.fleet.users
    yield "summary/users/active", sum(user.is_enabled for user in users)
    yield "summary/users/total", len(users)
    yield "summary/vms/active", sum(node.vms_running for node in nodes)
    yield "summary/vms/total", len(view.vms)
