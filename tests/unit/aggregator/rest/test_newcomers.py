"""VMs that wait on a storage domain, as oVirt shows and registers them."""

from dataclasses import replace

import pytest

from aggregator.rest import networks
from node.model.ids import VmId
from node.model.unregistered import (
    NetworkChange,
    Source,
    Unregistered,
    UnregisteredVm,
)
from tests.fakes import fleet_storage, services, storage_orders
from tests.fakes.fleet_storage import APP, DATA1, DATA2
from tests.fakes.services import OAK
from tests.unit.aggregator.rest.client import Client

VM = VmId("aaaaaaaa-0000-4000-8000-0000000000ff")
CAME = UnregisteredVm(services.spec(VM, "came"), Source.OVF_STORE, 3)
PLACE = f"/storagedomains/{DATA1}/vms"


@pytest.fixture
def waiting(stored: Client) -> Client:
    template = replace(CAME, is_template=True)
    stored.fleet.node.lying = Unregistered((CAME, template))
    return stored


@pytest.mark.parametrize(
    "path", [f"{PLACE}?unregistered=true", f"{PLACE};unregistered"]
)
def test_what_waits_is_shown_with_its_size(waiting: Client, path: str) -> None:
    (vm,) = waiting.get(path)["vm"]
    assert (vm["id"], vm["name"], vm["status"]) == (VM, "came", "down")
    assert vm["memory"] == str(CAME.spec.memory_bytes)
    assert "host" not in vm


def test_template_that_waits_is_shown_among_templates(waiting: Client) -> None:
    place = f"/storagedomains/{DATA1}/templates"
    (template,) = waiting.get(f"{place}?unregistered=true")["template"]
    assert (template["id"], template["name"]) == (VM, "came")
    assert waiting.get(place) == {}
    reply = waiting.ask("POST", f"{place}/{VM}/register", "<action/>")
    assert reply.status_code == 200, reply.text
    assert waiting.fleet.orders.storage.asked[-1][2].vm_id == VM


def test_one_that_waits_is_shown_by_its_id(waiting: Client) -> None:
    assert waiting.get(f"{PLACE}/{VM}?unregistered=true")["name"] == "came"
    path = f"{PLACE}/{APP}?unregistered=true"
    assert waiting.ask("GET", path).status_code == 404


def test_register_makes_the_vm(waiting: Client) -> None:
    reply = waiting.ask("POST", f"{PLACE}/{VM}/register", "<action/>")
    assert reply.status_code == 200, reply.text
    assert b"<status>complete</status>" in reply.data
    ((verb, where, request, _),) = waiting.fleet.orders.storage.asked
    assert (verb, where) == ("storage_domain_register_vm", DATA1)
    assert (request.vm_id, request.as_vm_id, request.name) == (VM, None, None)
    assert (request.may_lose_disks, request.is_forced) == (False, False)
    assert waiting.get(f"/vms/{VM}")["id"] == VM


def test_register_says_what_is_to_be_otherwise(waiting: Client) -> None:
    (network, *_) = networks_of(waiting)
    profile = networks.profile_id(network)
    body = (
        "<action><clone>true</clone><vm><name>new</name></vm>"
        "<cluster><name>Default</name></cluster>"
        "<allow_partial_import>true</allow_partial_import>"
        "<reassign_bad_macs>true</reassign_bad_macs><vnic_profile_mappings>"
        "<vnic_profile_mapping><source_network_name>ovirtmgmt</source_network_name>"
        f'<target_vnic_profile id="{profile}"/></vnic_profile_mapping>'
        "<vnic_profile_mapping><source_network_name>old</source_network_name>"
        "</vnic_profile_mapping></vnic_profile_mappings></action>"
    )
    reply = waiting.ask("POST", f"{PLACE}/{VM}/register", body)
    assert reply.status_code == 200, reply.text
    ((_, _, request, _),) = waiting.fleet.orders.storage.asked
    assert request.name == "new"
    assert request.as_vm_id not in (None, VM)
    assert request.may_lose_disks
    assert request.networks == (
        NetworkChange("ovirtmgmt", network),
        NetworkChange("old", ""),
    )
    assert len(request.macs) == len(CAME.spec.nics)


CLONE = "<action><clone>true</clone><vm><name>{}</name></vm></action>"


def test_register_of_a_clone_makes_it_although_its_twin_is_there(
    waiting: Client,
) -> None:
    twin = replace(CAME, spec=services.spec(APP, "twin"))
    waiting.fleet.node.lying = Unregistered((twin,))
    reply = waiting.ask("POST", f"{PLACE}/{APP}/register", CLONE.format("new"))
    assert reply.status_code == 200, reply.text
    ((_, _, request, _),) = waiting.fleet.orders.storage.asked
    assert request.vm_id == APP
    assert waiting.get(f"/vms/{request.as_vm_id}")["id"] not in (None, APP)


def test_register_of_a_clone_again_is_the_same_clone(waiting: Client) -> None:
    for name in ("new", "new", "newer"):
        reply = waiting.ask("POST", f"{PLACE}/{VM}/register", CLONE.format(name))
        assert reply.status_code == 200, reply.text
    asked = [request for _, _, request, _ in waiting.fleet.orders.storage.asked]
    assert [each.name for each in asked] == ["new", "newer"]
    assert len({each.as_vm_id for each in asked}) == 2


def test_register_of_a_clone_that_was_deleted_makes_another(waiting: Client) -> None:
    for _ in range(2):
        reply = waiting.ask("POST", f"{PLACE}/{VM}/register", CLONE.format("new"))
        assert reply.status_code == 200, reply.text
        made = waiting.fleet.orders.storage.asked[-1][2].as_vm_id
        assert waiting.ask("DELETE", f"/vms/{made}").status_code == 200
    first, second = (each[2] for each in waiting.fleet.orders.storage.asked)
    assert first.as_vm_id != second.as_vm_id


def test_register_of_a_template_takes_another_name(waiting: Client) -> None:
    kept = replace(CAME, is_template=True)
    waiting.fleet.node.lying = Unregistered((kept,))
    place = PLACE.replace("/vms", "/templates")
    body = "<action><template><name>newer</name></template></action>"
    waiting.ask("POST", f"{place}/{VM}/register", body)
    ((_, _, request, _),) = waiting.fleet.orders.storage.asked
    assert request.name == "newer"


def networks_of(client: Client) -> list[str]:
    return [each["name"] for each in client.get("/networks")["network"]]


def test_register_takes_the_form_of_newer_clients(waiting: Client) -> None:
    (network, *_) = networks_of(waiting)
    body = (
        "<action><registration_configuration><vnic_profile_mappings>"
        "<registration_vnic_profile_mapping><from><name>p</name><network>"
        "<name>ovirtmgmt</name></network></from>"
        f"<to><name>{network}</name></to></registration_vnic_profile_mapping>"
        "</vnic_profile_mappings></registration_configuration></action>"
    )
    assert waiting.ask("POST", f"{PLACE}/{VM}/register", body).status_code == 200
    ((_, _, request, _),) = waiting.fleet.orders.storage.asked
    assert request.networks == (NetworkChange("ovirtmgmt", network),)


@pytest.mark.parametrize(
    ("vm_id", "status", "asked"), [(APP, 200, 0), (VmId("x"), 404, 0)], ids=str
)
def test_register_of_what_does_not_wait(
    waiting: Client, vm_id: VmId, status: int, asked: int
) -> None:
    reply = waiting.ask("POST", f"{PLACE}/{vm_id}/register", "<action/>")
    assert reply.status_code == status
    assert len(waiting.fleet.orders.storage.asked) == asked


def test_register_under_a_name_that_is_taken_is_refused(waiting: Client) -> None:
    body = "<action><vm><name>app</name></vm></action>"
    reply = waiting.ask("POST", f"{PLACE}/{VM}/register", body)
    assert reply.status_code == 409
    assert waiting.fleet.orders.storage.asked == []


def test_export_storage_domain_shows_all_that_lies_there(waiting: Client) -> None:
    """As oVirt's clients ask, which know of nothing to be registered there."""
    path = f"/storagedomains/{DATA2}"
    assert "vm" not in waiting.get(f"{path}/vms")
    storage_orders.say(waiting.fleet.mirror, OAK, fleet_storage.export())
    (vm,) = waiting.get(f"{path}/vms")["vm"]
    assert (vm["id"], vm["name"]) == (VM, "came")
    assert waiting.get(f"{path}/vms/{VM}")["name"] == "came"
    assert waiting.ask("GET", f"{path}/vms/{APP}").status_code == 404
    (template,) = waiting.get(f"{path}/templates")["template"]
    assert template["id"] == VM


@pytest.mark.parametrize("kind", ["vms", "templates"])
def test_import_copies_to_the_storage_domain_that_is_named(
    waiting: Client, kind: str
) -> None:
    storage_orders.say(waiting.fleet.mirror, OAK, fleet_storage.export())
    path = f"/storagedomains/{DATA2}/{kind}/{VM}/import"
    body = (
        f"<action><storage_domain id='{DATA1}'/><cluster><name>Default</name></cluster>"
        "<vm><name>new</name></vm><clone>true</clone>"
        "<collapse_snapshots>true</collapse_snapshots></action>"
    )
    reply = waiting.ask("POST", path, body)
    assert reply.status_code == 200, reply.text
    ((verb, where, request, _),) = waiting.fleet.orders.storage.asked
    assert (verb, where) == ("storage_domain_register_vm", DATA2)
    assert (request.vm_id, request.name) == (VM, "new")
    assert request.to_storage_domain_id == DATA1
    assert request.as_vm_id not in (None, VM)


@pytest.mark.parametrize(
    ("body", "path", "status"),
    [
        ("<action/>", VM, 400),
        (
            "<action><storage_domain><name>none</name></storage_domain></action>",
            VM,
            400,
        ),
        (f"<action><storage_domain id='{DATA1}'/></action>", APP, 404),
    ],
    ids=["nowhere", "unknown-place", "not-there"],
)
def test_import_is_refused(waiting: Client, body: str, path: str, status: int) -> None:
    place = f"/storagedomains/{DATA2}/vms/{path}/import"
    reply = waiting.ask("POST", place, body)
    assert reply.status_code == status, reply.text
    assert waiting.fleet.orders.storage.asked == []
