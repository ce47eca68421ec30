"""Tests of image transfers: what oVirt's clients send, and what they read."""

from dataclasses import replace
from typing import Any

import pytest

from node import wire
from node.errors import Conflict
from node.model.ids import SnapshotId, TransferId, VolumeId
from node.model.storage import (
    DiskFormat,
    SnapshotKind,
    SnapshotState,
    TimeoutPolicy,
    TransferDirection,
    TransferPhase,
)
from node.model.storage_requests import CreateTransfer, FinalizeTransfer
from node.model.vm import Snapshot, SnapshotDisk, Vm
from tests.fakes.fleet_storage import LOOSE
from tests.fakes.services import OAK
from tests.fakes.storage_orders import say
from tests.unit.aggregator.rest.client import BASE, Client

ID = "12345678-1234-4234-8234-123456789abc"
VOLUME = "12345678-1234-4234-8234-123456789abd"
SNAPSHOT = "12345678-1234-4234-8234-123456789abe"
BODY = {"id": ID, "disk": {"id": LOOSE}}


def post(client: Client, path: str, body: object, status: int) -> Any:
    """Return the JSON of what a request was answered with."""
    headers = {
        "Authorization": f"Bearer {client.token}",
        "Accept": "application/json",
    }
    reply = client.http.post(BASE + path, json=body, headers=headers)
    assert reply.status_code == status, reply.text
    return reply.json


def add(client: Client, **more: object) -> Any:
    return post(client, "/imagetransfers", {**BODY, **more}, 201)


def test_transfer_begins_as_the_client_wants(stored: Client) -> None:
    made = add(
        stored,
        direction="download",
        format="cow",
        inactivity_timeout="120",
        timeout_policy="pause",
    )
    (verb, asked) = stored.fleet.node.transfers.asked[0]
    assert verb == "transfer_create"
    assert asked == CreateTransfer(
        TransferId(ID),
        LOOSE,
        TransferDirection.DOWNLOAD,
        DiskFormat.QCOW2,
        inactivity_s=120.0,
        timeout_policy=TimeoutPolicy.PAUSE,
    )
    assert (made["id"], made["phase"]) == (ID, "initializing")
    assert "transfer_url" not in made


def test_open_transfer_has_an_address_and_a_host(stored: Client) -> None:
    add(stored)
    found = stored.get(f"/imagetransfers/{ID}")
    assert found["phase"] == "transferring"
    assert found["transfer_url"] == "https://192.0.2.1:54322/images/12345678"
    node, image = found["host"]["id"], "images/12345678"
    assert found["proxy_url"] == f"https://localhost/transfers/{node}/{image}"
    assert found["host"]["id"] == OAK
    assert found["disk"]["id"] == LOOSE
    assert (found["direction"], found["format"]) == ("upload", "raw")
    assert (found["inactivity_timeout"], found["timeout_policy"]) == ("60", "legacy")
    (listed,) = stored.get("/imagetransfers")["image_transfer"]
    assert listed["id"] == ID


@pytest.mark.parametrize(
    ("action", "phase"),
    [
        ("pause", "paused_user"),
        ("resume", "transferring"),
        ("extend", "transferring"),
        ("finalize", "finished_success"),
        ("cancel", "cancelled_user"),
    ],
)
def test_action_reaches_the_node(stored: Client, action: str, phase: str) -> None:
    add(stored)
    done = post(stored, f"/imagetransfers/{ID}/{action}", {}, 200)
    assert done["status"] == "complete"
    assert stored.fleet.node.transfers.asked[-1][0] == f"transfer_{action}"
    found = stored.get(f"/imagetransfers/{ID}")
    assert found["phase"] == phase
    assert ("transfer_url" in found) is (action in ("pause", "resume", "extend"))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"snapshot": {"id": VOLUME}}, id="disk-snapshot"),
        pytest.param({"snapshot": {"id": SNAPSHOT}, "disk": {"id": LOOSE}}, id="both"),
    ],
)
def test_snapshot_of_a_disk_is_fetched(stored: Client, body: dict[str, Any]) -> None:
    row = next(each for each in stored.fleet.mirror.view.vms.values() if each.pool_id)
    vm = wire.decode(Vm, row.vm_document, strict=False)
    taken = Snapshot(
        SnapshotId(SNAPSHOT),
        row.vm_id,
        SnapshotKind.REGULAR,
        SnapshotState.OK,
        vm.created_at,
        disks=(SnapshotDisk(LOOSE, VolumeId(VOLUME)),),
    )
    say(stored.fleet.mirror, row.node_id, replace(vm, snapshots=(taken,)))
    post(stored, "/imagetransfers", {**body, "direction": "download"}, 201)
    (_, asked) = stored.fleet.node.transfers.asked[0]
    assert (asked.disk_id, asked.snapshot_id) == (LOOSE, SNAPSHOT)


def test_finalize_asks_for_no_sum(stored: Client) -> None:
    add(stored)
    post(stored, f"/imagetransfers/{ID}/finalize", {}, 200)
    assert stored.fleet.node.transfers.asked[-1][1] == FinalizeTransfer()


def test_system_pause_is_told(stored: Client) -> None:
    add(stored)
    paused = TransferPhase.PAUSED_SYSTEM
    stored.fleet.node.transfers.change(ID, phase=paused, transferred_bytes=5)
    found = stored.get(f"/imagetransfers/{ID}")
    assert (found["phase"], found["transferred"]) == ("paused_system", "5")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"disk": {"id": "x"}}, 400),
        ({"disk": {"id": LOOSE}, "format": "vmdk"}, 400),
        ({"disk": {"id": LOOSE}, "direction": "sideways"}, 400),
        ({"disk": {"id": LOOSE}, "timeout_policy": "never"}, 400),
        ({"disk": {"id": ID}}, 404),
        ({"snapshot": {"id": ID}}, 404),
        ({"snapshot": {"id": ID}, "disk": {"id": LOOSE}}, 404),
    ],
    ids=[
        "no-disk",
        "id",
        "format",
        "direction",
        "policy",
        "unknown",
        "snapshot",
        "other-disk",
    ],
)
def test_what_makes_no_sense_is_refused(
    stored: Client, body: dict[str, object], status: int
) -> None:
    post(stored, "/imagetransfers", body, status)
    assert not [e for e in stored.fleet.node.transfers.asked if "create" in e[0]]


def test_what_the_node_refuses_is_a_fault(stored: Client) -> None:
    stored.fleet.node.transfers.refusal = Conflict("VM app runs with it")
    reply = post(stored, "/imagetransfers", BODY, 409)
    assert "VM app runs with it" in str(reply)


def test_transfer_that_nobody_knows_is_not_found(stored: Client) -> None:
    assert stored.ask("GET", f"/imagetransfers/{ID}").status_code == 404
