"""Tests of the disks of templates: copies of them are removed."""

import pytest

from node.model import storage_requests as requests
from node.model import storage_verbs
from tests.fakes import fleet_storage as stored_fleet
from tests.fakes.fleet_storage import DATA1, DATA2, SYSTEM
from tests.fakes.services import OAK
from tests.fakes.storage_orders import say
from tests.unit.aggregator.rest.client import Client

BODY = f'<template><name>tpl</name><vm id="{stored_fleet.APP}"/></template>'


@pytest.fixture
def place(stored: Client) -> str:
    """Return the address of a template's disk, which lies in two places."""
    reply = stored.ask("POST", "/templates", BODY)
    assert reply.status_code == 202, reply.text
    (template_id,) = stored.fleet.mirror.view.templates
    disks = f"/templates/{template_id}/diskattachments"
    disk_id = stored.get(disks)["disk_attachment"][0]["id"]
    places = (DATA1, DATA2)
    now = {"storage_domain_ids": places, "template_id": template_id}
    say(stored.fleet.mirror, OAK, stored_fleet.disk(disk_id, "system", **now))
    return f"{disks}/{disk_id}"


def test_a_copy_of_a_disk_is_removed(stored: Client, place: str) -> None:
    reply = stored.ask("DELETE", f"{place}?storage_domain={DATA2}")
    assert reply.status_code == 200, reply.text
    verb, disk_id, request, _ = stored.fleet.orders.storage.asked[-1]
    assert (verb, disk_id) == (storage_verbs.DISK_DELETE.name, place.rpartition("/")[2])
    assert request == requests.ActOnDisk(storage_domain_id=DATA2)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        pytest.param("", 400, id="no-place"),
        pytest.param(f"?storage_domain={stored_fleet.SPARE}", 404, id="no-copy"),
    ],
)
def test_no_copy_is_removed_that_is_not_named(
    query: str, status: int, stored: Client, place: str
) -> None:
    before = len(stored.fleet.orders.storage.asked)
    assert stored.ask("DELETE", place + query).status_code == status
    assert len(stored.fleet.orders.storage.asked) == before


def test_disk_of_no_template_is_not_removed_so(stored: Client, place: str) -> None:
    other = f"{place.rpartition('/')[0]}/{SYSTEM}?storage_domain={DATA1}"
    before = len(stored.fleet.orders.storage.asked)
    assert stored.ask("DELETE", other).status_code == 404
    assert len(stored.fleet.orders.storage.asked) == before
