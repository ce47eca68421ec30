"""Limit disks with oVirt's own Python SDK: storage QoS, and disk profiles."""

from collections.abc import Iterator

import ovirtsdk4 as sdk
import pytest
from ovirtsdk4 import types

from node.model.ids import DiskId
from node.model.storage import DiskQos
from node.units import GiB, MiB
from tests.contract.sdk import Served, connect, serve
from tests.fakes import fleet_storage
from tests.fakes.fleet_storage import DATA1, DATA2, LOOSE


@pytest.fixture
def served() -> Iterator[Served]:
    with serve(fleet_storage.make_fleet()) as found:
        yield found


@pytest.fixture
def connection(served: Served) -> Iterator[sdk.Connection]:
    with connect(served) as opened:
        yield opened


@pytest.fixture
def system(connection: sdk.Connection) -> sdk.services.SystemService:
    return connection.system_service()


@pytest.fixture
def qoss(system: sdk.services.SystemService) -> sdk.services.QossService:
    """Return the QoS of the one data center."""
    (center,) = system.data_centers_service().list(search="name=Default")
    return system.data_centers_service().data_center_service(center.id).qoss_service()


@pytest.fixture
def slow(qoss: sdk.services.QossService) -> types.Qos:
    return qoss.add(
        types.Qos(
            name="slow",
            description="for tests",
            type=types.QosType.STORAGE,
            max_iops=100,
            max_read_throughput=10,
            max_write_throughput=5,
        )
    )


def test_qos_is_made_changed_and_removed(
    served: Served, qoss: sdk.services.QossService, slow: types.Qos
) -> None:
    (found,) = qoss.list()
    assert (found.name, found.description) == ("slow", "for tests")
    assert found.type is types.QosType.STORAGE
    assert (found.max_iops, found.max_read_throughput) == (100, 10)
    assert found.max_throughput is None
    service = qoss.qos_service(slow.id)
    changed = service.update(types.Qos(max_iops=-1, max_read_iops=7))
    assert (changed.max_iops, changed.max_read_iops) == (None, 7)
    limits = served.fleet.orders.profiles.now().qoss[slow.id].limits
    assert limits == DiskQos(read_iops=7, read_bytes_s=10 * MiB, write_bytes_s=5 * MiB)
    service.remove()
    assert qoss.list() == []


def test_qos_of_another_kind_and_wrong_limits_are_refused(
    qoss: sdk.services.QossService,
) -> None:
    with pytest.raises(sdk.Error, match="not supported"):
        qoss.add(types.Qos(name="fast", type=types.QosType.NETWORK))
    with pytest.raises(sdk.Error, match="excludes"):
        qoss.add(types.Qos(name="fast", max_iops=1, max_read_iops=1))
    with pytest.raises(sdk.Error, match="name"):
        qoss.add(types.Qos(max_iops=1))
    assert qoss.list() == []


def test_profile_is_made_given_to_a_disk_and_removed(
    connection: sdk.Connection,
    system: sdk.services.SystemService,
    slow: types.Qos,
) -> None:
    profiles = system.disk_profiles_service()
    made = profiles.add(
        types.DiskProfile(
            name="thrifty",
            storage_domain=types.StorageDomain(id=DATA1),
            qos=types.Qos(id=slow.id),
        )
    )
    assert connection.follow_link(made.qos).name == "slow"
    disk = system.disks_service().disk_service(LOOSE)
    default = disk.get().disk_profile.id
    assert default != made.id
    changed = disk.update(types.Disk(disk_profile=types.DiskProfile(id=made.id)))
    assert changed.disk_profile.id == disk.get().disk_profile.id == made.id
    service = profiles.disk_profile_service(made.id)
    with pytest.raises(sdk.Error, match="loose"):
        service.remove()
    disk.update(types.Disk(disk_profile=types.DiskProfile(id=default)))
    service.remove()
    assert made.id not in [each.id for each in profiles.list()]


def test_profiles_are_listed_below_their_storage_domain(
    system: sdk.services.SystemService, slow: types.Qos
) -> None:
    domains = system.storage_domains_service()
    below = domains.storage_domain_service(DATA2).disk_profiles_service()
    made = below.add(types.DiskProfile(name="thrifty", qos=types.Qos(id=slow.id)))
    assert [each.name for each in below.list()] == ["data2", "thrifty"]
    renamed = (
        system.disk_profiles_service()
        .disk_profile_service(made.id)
        .update(types.DiskProfile(name="mean", description="very"))
    )
    assert (renamed.name, renamed.description) == ("mean", "very")
    assert renamed.qos.id == slow.id


def test_new_disk_has_the_profile_that_it_names(
    served: Served, system: sdk.services.SystemService
) -> None:
    made = system.disk_profiles_service().add(
        types.DiskProfile(name="thrifty", storage_domain=types.StorageDomain(id=DATA1))
    )
    disk = types.Disk(
        name="new",
        provisioned_size=GiB,
        format=types.DiskFormat.COW,
        storage_domains=[types.StorageDomain(id=DATA1)],
        disk_profile=types.DiskProfile(id=made.id),
    )
    added = system.disks_service().add(disk)
    choices = served.fleet.orders.profiles.now().choices
    assert choices[DiskId(added.id)].profile_id == made.id
    disk.storage_domains = [types.StorageDomain(id=DATA2)]
    with pytest.raises(sdk.Error, match="another storage domain"):
        system.disks_service().add(disk)
