"""Give VMs custom properties with oVirt's own Python SDK."""

from collections.abc import Iterator

import ovirtsdk4 as sdk
import pytest
from ovirtsdk4 import types

from aggregator.policies.properties import Level
from tests.contract.sdk import Served, connect, serve
from tests.fakes import services


@pytest.fixture
def served() -> Iterator[Served]:
    fleet = services.make_fleet()
    fleet.orders.properties.declare(Level.VM, "pincpu", "[0-9-]+")
    with serve(fleet) as found:
        yield found


@pytest.fixture
def vms(served: Served) -> Iterator[sdk.services.VmsService]:
    with connect(served) as opened:
        yield opened.system_service().vms_service()


def _given(value: str) -> list[types.CustomProperty]:
    return [types.CustomProperty(name="pincpu", value=value)]


def test_properties_are_given_at_birth_and_later(vms: sdk.services.VmsService) -> None:
    made = vms.add(
        types.Vm(
            name="new",
            cluster=types.Cluster(name="Default"),
            template=types.Template(name="Blank"),
            custom_properties=_given("1"),
        )
    )
    service = vms.vm_service(made.id)
    service.update(types.Vm(custom_properties=_given("2-3")))
    (found,) = service.get().custom_properties
    assert (found.name, found.value, found.regexp) == ("pincpu", "2-3", "[0-9-]+")
    service.update(types.Vm(custom_properties=[]))
    assert not service.get().custom_properties


def test_wrong_value_is_refused_with_its_pattern(vms: sdk.services.VmsService) -> None:
    (web,) = vms.list(search="name=web1")
    with pytest.raises(sdk.Error, match="must match"):
        vms.vm_service(web.id).update(types.Vm(custom_properties=_given("all")))
