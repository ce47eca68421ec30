"""What scripts of an aggregator are handed: of each way to do something."""

import json
from typing import Any

import pytest

from aggregator.control import actions, order
from aggregator.control.actions import Action, StorageAction
from aggregator.hooks import deeds, points
from aggregator.hooks.deeds import Deed, Ending
from node import wire
from node.model import storage_requests as bodies
from node.model.ids import DiskId, JobId, StorageDomainId, VmId
from node.model.job import ErrorReport
from node.model.unregistered import RegisterVm
from tests.fakes import fleet
from tests.unit.aggregator.control.ordering import ONE, ORIGIN, view_of

ORDER, WEB, NEW = JobId("o-1"), fleet.vm_id(1), fleet.vm_id(2)
DOMAIN = fleet.domain_id(1)
NODE = {"kind": "node", "id": ONE, "name": "n1", "address": "10.0.0.1"}


def deed(action: Action, name: str = "web") -> Deed:
    entry = order.record(action, name, ORIGIN, fleet.AT)
    known = points.action_of(entry.order.verb)
    assert known is not None
    made = deeds.of_order(entry, known, view_of(1, 2))
    assert wire.from_json(Deed, wire.to_json(made)) == made  # as it is kept
    return made


def storage(verb: str, object_id: str, request: object) -> StorageAction:
    ids = (ORDER, ONE, object_id, ORIGIN.correlation_id)
    return StorageAction(*ids, verb, request)


def body(made: Deed, point: str = "p", ending: Ending | None = None) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(deeds.payload(made, point, ending))
    return parsed


def test_start_tells_of_the_vm_and_its_node() -> None:
    made = deed(actions.StartVm(ORDER, ONE, WEB, ORIGIN.correlation_id, is_paused=True))
    told = body(made, "before_vm_start")
    document = told.pop("document")
    assert document["spec"]["name"] == "web"
    assert told == {
        "schema": 1,
        "point": "before_vm_start",
        "action": "vm_start",
        "id": ORDER,
        "object": {"kind": "vm", "id": WEB, "name": "web"},
        "node": NODE,
        "user": ORIGIN.user,
        "correlation_id": ORIGIN.correlation_id,
        "asked_at": fleet.AT,
        "verb": "vm_start",
        "request": {"discard_memory": False, "is_paused": True},
    }
    assert (made.vm_id, made.node_id) == (WEB, ONE)


def test_creation_tells_its_definition() -> None:
    spec = fleet.spec(2)
    made = deed(actions.CreateVm(ORDER, ONE, NEW, ORIGIN.correlation_id, spec))
    told = body(made)
    assert told["document"] is None
    assert told["request"]["spec"] == wire.to_json(spec)


@pytest.mark.parametrize(
    ("given", "vm_id"), [("", WEB), (NEW, NEW)], ids=["same-id", "another-id"]
)
def test_registration_is_the_creation_of_a_vm(given: str, vm_id: VmId) -> None:
    request = RegisterVm(WEB, as_vm_id=VmId(given) if given else None)
    made = deed(storage("storage_domain_register_vm", DOMAIN, request), "nfs")
    assert made.action == "vm_create"
    assert made.vm_id == vm_id


def test_disk_and_storage_domain_are_no_vm() -> None:
    made = deed(storage("storage_domain_detach", DOMAIN, bodies.ActOnStorageDomain()))
    assert made.object.kind == "storage_domain"
    assert made.vm_id is None
    request = bodies.CreateDisk(DiskId("d"), "data", StorageDomainId(DOMAIN), 1)
    told = body(deed(storage("disk_create", "d", request), "data"))
    assert told["object"] == {"kind": "disk", "id": "d", "name": "data"}
    assert told["request"]["size_bytes"] == 1


def test_ending_tells_its_error_and_the_node_that_did_it() -> None:
    made = deed(actions.ResetVm(ORDER, ONE, WEB, ORIGIN.correlation_id))
    error = ErrorReport("conflict", "it_is_down", "VM web is down")
    other = deeds.Object("node", "x", "oak", "192.0.2.9")
    told = body(made, "after_vm_reset_fail", Ending(False, error, other))
    assert told["error"]["code"] == "it_is_down"
    assert told["node"]["name"] == "oak"
    assert body(made, "after_vm_reset", Ending(True))["node"] == NODE
