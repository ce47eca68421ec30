"""Register VMs of an imported storage domain with oVirt's own Python SDK."""

from collections.abc import Iterator

import ovirtsdk4 as sdk
import pytest
from ovirtsdk4 import types

from node.model.exports import RemoveExported
from node.model.ids import VmId
from node.model.unregistered import Source, Unregistered, UnregisteredVm
from tests.contract.sdk import Served, connect, serve
from tests.fakes import fleet_storage, services
from tests.fakes.fleet_storage import DATA1

VM = VmId("aaaaaaaa-0000-4000-8000-0000000000ff")


@pytest.fixture
def served() -> Iterator[Served]:
    with serve(fleet_storage.make_fleet()) as found:
        came = UnregisteredVm(services.spec(VM, "came"), Source.OVF_STORE, 3)
        found.fleet.node.lying = Unregistered((came,))
        yield found


def test_a_vm_that_waits_is_registered_as_ansible_does(served: Served) -> None:
    with connect(served) as connection:
        system = connection.system_service()
        domain = system.storage_domains_service().storage_domain_service(DATA1)
        (waiting,) = domain.vms_service().list(unregistered=True)
        assert (waiting.id, waiting.name, waiting.memory) == (
            VM,
            "came",
            services.spec(VM, "came").memory_bytes,
        )
        domain.vms_service().vm_service(VM).register(
            cluster=types.Cluster(name="Default"),
            vm=types.Vm(name="new"),
            allow_partial_import=True,
            reassign_bad_macs=True,
            vnic_profile_mappings=[
                types.VnicProfileMapping(
                    source_network_name="ovirtmgmt", source_network_profile_name="x"
                )
            ],
        )
        (made,) = system.vms_service().list(search="name=new")
        assert made.id == VM
        domain.update_ovf_store()
    (register, update) = served.fleet.orders.storage.asked
    assert register[2].may_lose_disks
    assert update[0] == "storage_domain_write_ovf"


def test_one_that_does_not_wait_is_not_found(served: Served) -> None:
    with connect(served) as connection:
        system = connection.system_service()
        domain = system.storage_domains_service().storage_domain_service(DATA1)
        with pytest.raises(sdk.NotFoundError):
            domain.vms_service().vm_service("none").register()


def test_what_was_exported_is_removed(served: Served) -> None:
    with connect(served) as connection:
        system = connection.system_service()
        domain = system.storage_domains_service().storage_domain_service(DATA1)
        domain.vms_service().vm_service(VM).remove()
        domain.templates_service().template_service(VM).remove()
    assert [each[:3] for each in served.fleet.orders.storage.asked] == [
        ("storage_domain_remove_exported", DATA1, RemoveExported(VM))
    ] * 2
