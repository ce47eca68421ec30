"""Tests of the table of routes."""

from collections.abc import Callable

import pytest
from lxml import etree

from aggregator.rest import routes
from aggregator.rest.call import PARAMETER
from aggregator.rest.routes import ROUTES, Route
from node.model.verbs import ActionGroup, Object
from tests.fakes import fleet_storage, services
from tests.unit.aggregator.rest.client import BASE, make_client


def _is_declared(route: Route) -> bool:
    # Whoever may only read must not change anything.
    # Who sees a transfer's address may move data.
    is_secret = route.path[:1] == ("imagetransfers",)
    is_reading = route.method == "GET" and not is_secret
    # A permission on an object can be looked up only by an id in the path.
    is_found = route.object is Object.FLEET or PARAMETER in route.path
    return is_found and (route.group is ActionGroup.READ) == is_reading


def test_every_route_declares_who_may() -> None:
    assert [route for route in ROUTES if not _is_declared(route)] == []


def test_no_route_stands_twice() -> None:
    keys = [(route.method, route.path) for route in ROUTES]
    assert len(keys) == len(set(keys))


def test_match_finds_words_before_ids() -> None:
    found = routes.match(("vms", "1", "start"))
    assert found is not None
    assert list(found.routes) == ["POST"]
    assert found.object_ids == ("1",)


def test_match_knows_no_other_paths() -> None:
    assert routes.match(("nothing",)) is None
    assert routes.match(("vms", "1", "nothing")) is None


@pytest.mark.parametrize("make", [services.make_fleet, fleet_storage.make_fleet])
def test_every_link_leads_somewhere(make: Callable[[], services.Fleet]) -> None:
    """Whatever a client is pointed to must be there."""
    client = make_client(make())
    pages = ["", *(f"/{route.path[0]}" for route in ROUTES if len(route.path) == 1)]
    seen = set()
    for page in pages:
        for node in client.tree(page).iter():
            href = node.get("href")
            if href and "{" not in href and not _is_action(node):
                seen.add(href)
    broken = [
        href
        for href in sorted(seen)
        if client.ask("GET", href.removeprefix(BASE)).status_code != 200
    ]
    assert broken == []


def _is_action(node: etree._Element) -> bool:
    parent = node.getparent()
    return parent is not None and parent.tag == "actions"
