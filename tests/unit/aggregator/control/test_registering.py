"""What a node is asked to register: with addresses that nobody has."""

from dataclasses import replace

import pytest

from aggregator.control import registering
from node.model.ids import NicId, VmId
from node.model.unregistered import (
    MacChange,
    RegisterVm,
    Source,
    Unregistered,
    UnregisteredVm,
)
from node.model.vm import Nic
from tests.contract.disks import code_of
from tests.fakes import fleet_storage, services
from tests.fakes.fleet_storage import APP

VIEW = fleet_storage.add_storage(services.make_view())
VM = VmId("aaaaaaaa-0000-4000-8000-0000000000ff")
TWIN = VmId("aaaaaaaa-0000-4000-8000-0000000000fe")
CARD = NicId("aaaaaaaa-0000-4000-8000-0000000000fd")
FREE = "52:54:00:ff:ff:01"
TAKEN = services.spec(APP, "app").nics[0].mac
ASKED = RegisterVm(VM)


def found(mac: str = FREE, name: str = "came") -> UnregisteredVm:
    card = Nic(CARD, "nic1", mac, "lan0")
    spec = replace(services.spec(VM, name), nics=(card,))
    return UnregisteredVm(spec, Source.OVF_STORE, 3)


def macs(each: UnregisteredVm, asked: RegisterVm = ASKED) -> tuple[MacChange, ...]:
    return registering.request(VIEW, each, asked, renews_macs=True).macs


def test_address_that_is_free_is_kept() -> None:
    assert macs(found()) == ()


@pytest.mark.parametrize("mac", [TAKEN, ""], ids=["taken", "none"])
def test_address_that_cannot_be_kept_is_renewed(mac: str) -> None:
    (change,) = macs(found(mac))
    assert change.nic_id == CARD
    assert change.mac.startswith("56:6f:")
    assert macs(found(mac)) == (change,)  # asked again, it is the same


def test_address_is_left_if_not_told_otherwise() -> None:
    asked = registering.request(VIEW, found(TAKEN), ASKED, renews_macs=False)
    assert asked == ASKED


def test_all_addresses_of_a_clone_are_renewed() -> None:
    (change,) = macs(found(), replace(ASKED, as_vm_id=TWIN))
    assert change.mac != FREE


def test_address_that_was_chosen_counts() -> None:
    chosen = MacChange(CARD, "52:54:00:ff:ff:02")
    assert macs(found(TAKEN), replace(ASKED, macs=(chosen,))) == (chosen,)


@pytest.mark.parametrize(
    ("name", "asked"),
    [("APP", ASKED), ("came", replace(ASKED, name="app"))],
    ids=["its-own", "chosen"],
)
def test_name_that_another_vm_has_is_refused(name: str, asked: RegisterVm) -> None:
    each = found(name=name)
    request = registering.request
    code = code_of(lambda: request(VIEW, each, asked, renews_macs=False))
    assert code == "vm_name_taken"


def test_template_may_have_the_name_of_a_vm() -> None:
    each = replace(found(name="app"), is_template=True)
    assert registering.request(VIEW, each, ASKED, renews_macs=False) == ASKED


def test_find_returns_what_waits_and_refuses_the_rest() -> None:
    lying = Unregistered((found(),))
    assert registering.find(lying, VM) == found()
    assert code_of(lambda: registering.find(lying, TWIN)) == "vm_not_unregistered"


def test_export_of_a_vm_that_is_here_needs_another_id() -> None:
    exported = replace(found(name="app"), source=Source.EXPORT)
    spec = replace(exported.spec, vm_id=APP)
    exported = replace(exported, spec=spec)
    asked = RegisterVm(APP, to_storage_domain_id=fleet_storage.DATA1)
    request = registering.request
    code = code_of(lambda: request(VIEW, exported, asked, renews_macs=True))
    assert code == "vm_is_here"
    clone = replace(asked, as_vm_id=TWIN, name="twin")
    assert request(VIEW, exported, clone, renews_macs=True).as_vm_id == TWIN
