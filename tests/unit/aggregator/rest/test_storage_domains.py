"""Tests of storage domains: each fact is shown, each search finds."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from aggregator.federation import apply
from aggregator.federation.view import NodeState
from node.model.reason import Reason
from node.model.storage import (
    Connection,
    DomainClass,
    DomainState,
    DomainType,
    StorageDomainDocument,
)
from tests.fakes import fleet_storage
from tests.fakes.fleet_storage import (
    APP,
    CD,
    DATA1,
    DATA2,
    ELM_LOCAL,
    ISO1,
    LOOSE,
    SHARED,
    SPARE,
    SYSTEM,
)
from tests.fakes.services import AT, ELM, OAK
from tests.fakes.storage_orders import say, show
from tests.unit.aggregator.rest.client import Client

Change = Callable[[StorageDomainDocument], StorageDomainDocument]
REASON = Reason("storage_domain_slow", AT, {"name": "data1", "latency_s": 3.0})


def _sight(**fields: Any) -> Change:
    return lambda document: replace(document, **fields)


def _named(**fields: Any) -> Change:
    return lambda document: replace(
        document, storage_domain=replace(document.storage_domain, **fields)
    )


def _lies(kind: DomainType, path: str, **fields: Any) -> Change:
    return _named(connection=Connection(kind, path, **fields))


@pytest.mark.parametrize(
    ("path", "change", "expected"),
    [
        ("name", _named(name="other"), "other"),
        ("description", _named(description="other"), "other"),
        ("type", _named(domain_class=DomainClass.EXPORT), "export"),
        ("storage_format", _named(domain_class=DomainClass.ISO), "v1"),
        ("block_size", _named(sector_bytes=4096), "4096"),
        ("wipe_after_delete", _named(wipe_after_delete=True), "true"),
        ("external_status", _sight(reason=REASON), "warning"),
        ("available", _sight(free_bytes=7), "7"),
        ("used", _sight(total_bytes=10, free_bytes=7), "3"),
        ("committed", _sight(total_bytes=10, free_bytes=7, committed_bytes=5), "8"),
        ("storage/type", _lies(DomainType.POSIXFS, "/x"), "posixfs"),
        ("storage/address", _lies(DomainType.NFS, "/x", address="b.test"), "b.test"),
        ("storage/address", _lies(DomainType.POSIXFS, "c.test:/x"), "c.test"),
        ("storage/path", _lies(DomainType.POSIXFS, "c.test:/x"), "/x"),
        ("storage/path", _lies(DomainType.LOCALFS, "/srv"), "/srv"),
        ("storage/nfs_version", _lies(DomainType.NFS, "/x"), "auto"),
        ("storage/nfs_version", _lies(DomainType.NFS, "/x", nfs_version="3"), "v3"),
        (
            "storage/vfs_type",
            _lies(DomainType.POSIXFS, "/x", file_system="xfs"),
            "xfs",
        ),
        ("storage/mount_options", _lies(DomainType.NFS, "/x", options="a,b"), "a,b"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_changed_fact_changes_the_reply(
    stored: Client, path: str, change: Change, expected: str
) -> None:
    before = stored.tree(f"/storagedomains/{DATA1}").findtext(path)
    document = change(fleet_storage.domain(OAK, DATA1))
    say(stored.fleet.mirror, OAK, document)
    after = stored.tree(f"/storagedomains/{DATA1}").findtext(path)
    assert after == expected != before


def test_sizes_stay_out_until_they_are_measured(stored: Client) -> None:
    fresh = _sight(total_bytes=0, free_bytes=0)(fleet_storage.domain(OAK, SPARE))
    say(stored.fleet.mirror, OAK, fresh)
    shown = stored.get(f"/storagedomains/{SPARE}")
    assert "available" not in shown
    assert "used" not in shown


def test_only_an_unattached_one_says_its_status(stored: Client) -> None:
    assert stored.get(f"/storagedomains/{SPARE}")["status"] == "unattached"
    assert "data_centers" not in stored.get(f"/storagedomains/{SPARE}")
    assert "status" not in stored.get(f"/storagedomains/{DATA1}")
    (data_center,) = stored.get("/datacenters")["data_center"]
    (shown,) = stored.get(f"/storagedomains/{DATA1}")["data_centers"]["data_center"]
    assert shown["id"] == data_center["id"]


@pytest.mark.parametrize(
    ("storage_domain_id", "is_master"),
    [(DATA1, "true"), (DATA2, "false"), (ELM_LOCAL, "false"), (SPARE, "false")],
    ids=["master", "other", "local", "unattached"],
)
def test_one_master_is_shown(
    stored: Client, storage_domain_id: str, is_master: str
) -> None:
    assert stored.get(f"/storagedomains/{storage_domain_id}")["master"] == is_master


def test_a_local_one_names_its_host(stored: Client) -> None:
    assert stored.get(f"/storagedomains/{ELM_LOCAL}")["host"]["id"] == ELM
    assert "host" not in stored.get(f"/storagedomains/{DATA1}")


@pytest.mark.parametrize(
    ("search", "names"),
    [
        ("", ["data1", "data2", "elm-local", "iso1", "oak-local", "spare"]),
        ('name="data1"', ["data1"]),
        ('name="*"', ["data1", "data2", "elm-local", "iso1", "oak-local", "spare"]),
        ("status=active", ["data1", "data2", "elm-local", "oak-local"]),
        ("shared_status=maintenance", ["iso1"]),
        ("status=unattached or type=posixfs", ["data2", "spare"]),
        ("type=localfs and datacenter=Default", ["elm-local", "oak-local"]),
        ("datacenter=Default and type=nfs", ["data1", "iso1"]),
        ("host.name=elm and type=localfs", ["elm-local"]),
        ("size>1 and used<1", []),
        ("committed>1 sortby name desc page 1", [
            "spare", "oak-local", "iso1", "elm-local", "data2", "data1"
        ]),
        ("external_status=ok and name=data*", ["data1", "data2"]),
        ("where iso1", ["iso1"]),
    ],
)  # fmt: skip
def test_they_are_searched(stored: Client, search: str, names: list[str]) -> None:
    assert stored.names(f"/storagedomains?search={search}") == names


@pytest.mark.parametrize(
    ("rel", "ids"),
    [
        ("disks", [CD, LOOSE, SYSTEM]),
        ("files", [CD]),
        ("vms", [APP]),
        ("templates", []),
        ("disks?unregistered=true", []),
        ("vms?unregistered=true", []),
        ("disksnapshots", []),
    ],
)
def test_what_is_on_one_is_listed(stored: Client, rel: str, ids: list[str]) -> None:
    found = stored.tree(f"/storagedomains/{DATA1}/{rel}")
    assert [each.get("id") for each in found] == ids


def test_its_connection_and_profile_stand_at_the_top_too(stored: Client) -> None:
    for rel, tag in (
        ("storageconnections", "storage_connection"),
        ("diskprofiles", "disk_profile"),
    ):
        (below,) = stored.get(f"/storagedomains/{DATA1}/{rel}")[tag]
        assert stored.get(f"/{rel}/{below['id']}")["id"] == below["id"]


@pytest.mark.parametrize(
    ("rel", "kind", "object_id", "tag"),
    [
        ("storagedomains", "storage_domain", DATA1, "storage_domain"),
        ("disks", "disk", LOOSE, "disk"),
    ],
)
def test_a_permission_on_one_is_shown_there(
    stored: Client, rel: str, kind: str, object_id: str, tag: str
) -> None:
    records = stored.fleet.database.records("fleet")
    (known,) = (e for e in records.list() if e.id.startswith("permission/"))
    body = {**known.body, "object": kind, "object_id": object_id}
    own_id = "permission/12345678-1234-4234-8234-123456789abc"
    records.put(own_id, body)
    found = stored.get(f"/{rel}/{object_id}/permissions")["permission"]
    own = {each["id"]: each.get(tag, {}).get("id") for each in found}
    assert own.pop(own_id.partition("/")[2]) == object_id
    assert list(own.values()) == [None]  # the inherited one is on the fleet


def test_iso_and_export_have_no_disk_profile(stored: Client) -> None:
    assert stored.get(f"/storagedomains/{ISO1}/diskprofiles") == {}


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (DomainState.ACTIVATING, "activating"),
        (DomainState.ACTIVE, "active"),
        (DomainState.UNREACHABLE, "inactive"),
        (DomainState.DEACTIVATING, "preparing_for_maintenance"),
        (DomainState.MAINTENANCE, "maintenance"),
        (DomainState.DETACHING, "detaching"),
        (DomainState.LOCKED, "locked"),
    ],
    ids=lambda value: str(value),
)
def test_below_the_data_center_each_state_has_a_status(
    stored: Client, state: DomainState, status: str
) -> None:
    for node_id in (OAK, ELM):
        document = _sight(state=state)(fleet_storage.domain(node_id, DATA2))
        say(stored.fleet.mirror, node_id, document)
    assert _attached(stored)["data2"]["status"] == status


def test_below_the_data_center_are_its_pool_and_the_local_ones(stored: Client) -> None:
    found = _attached(stored)
    assert set(found) == {"data1", "data2", "elm-local", "iso1", "oak-local"}
    assert found["iso1"]["status"] == "maintenance"
    assert found["data1"]["master"] == "true"


def test_nobody_knows_how_one_is_that_only_a_silent_host_saw(stored: Client) -> None:
    view = stored.fleet.mirror.view
    silent = apply.set_state(view, ELM, NodeState.UNREACHABLE, REASON, AT)
    show(stored.fleet.mirror, silent)
    assert _attached(stored)["elm-local"]["status"] == "unknown"
    assert _attached(stored)["data1"]["status"] == "active"


def test_a_pool_that_the_fleet_does_not_know_is_of_no_data_center(
    stored: Client,
) -> None:
    stored.fleet.database.records("fleet").delete(f"pool/{SHARED}")
    assert set(_attached(stored)) == {"elm-local", "oak-local"}
    assert "data_centers" not in stored.get(f"/storagedomains/{DATA1}")


def _attached(client: Client) -> dict[str, Any]:
    (data_center,) = client.get("/datacenters")["data_center"]
    found = client.get(f"/datacenters/{data_center['id']}/storagedomains")
    return {each["name"]: each for each in found["storage_domain"]}
