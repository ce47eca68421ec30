"""Tests of the export of VMs."""

import pytest

from node.model.exports import ExportVm
from tests.fakes.fleet_storage import APP, DATA2
from tests.unit.aggregator.rest.client import Client

PLACE = f"<storage_domain id='{DATA2}'/>"


@pytest.mark.parametrize(
    "inside",
    [
        PLACE,
        "<storage_domain><name>data2</name></storage_domain>",
        f"{PLACE}<discard_snapshots>true</discard_snapshots>",
        f"{PLACE}<exclusive>false</exclusive>",
    ],
    ids=["id", "name", "discard", "not-exclusive"],
)
def test_export_is_ordered(stored: Client, inside: str) -> None:
    reply = stored.ask("POST", f"/vms/{APP}/export", f"<action>{inside}</action>")
    assert reply.status_code == 200, reply.text
    ((verb, vm_id, request, _),) = stored.fleet.orders.storage.asked
    assert (verb, vm_id, request) == ("vm_export", APP, ExportVm(DATA2))


@pytest.mark.parametrize(
    ("inside", "status"),
    [
        ("", 400),
        ("<storage_domain id='none'/>", 400),
        (f"{PLACE}<exclusive>true</exclusive>", 501),
    ],
    ids=["nowhere", "unknown", "exclusive"],
)
def test_export_is_refused(stored: Client, inside: str, status: int) -> None:
    reply = stored.ask("POST", f"/vms/{APP}/export", f"<action>{inside}</action>")
    assert reply.status_code == status, reply.text
    assert stored.fleet.orders.storage.asked == []
