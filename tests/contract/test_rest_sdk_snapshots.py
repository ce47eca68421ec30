"""Work snapshots with oVirt's own Python SDK, over HTTP on loopback.

The calls are those that the modules of ovirt.ovirt and backup programs make.
"""

from collections.abc import Iterator
from dataclasses import replace

import ovirtsdk4 as sdk
import pytest
from ovirtsdk4 import types

from node.model.vm import VmState
from tests.contract.sdk import Served, connect, serve
from tests.fakes import fleet_storage
from tests.fakes.fleet_storage import APP, SYSTEM
from tests.fakes.services import WEB1


@pytest.fixture
def served() -> Iterator[Served]:
    with serve(fleet_storage.make_fleet()) as found:
        yield found


@pytest.fixture
def connection(served: Served) -> Iterator[sdk.Connection]:
    with connect(served) as opened:
        yield opened


@pytest.fixture
def vm(connection: sdk.Connection) -> sdk.services.VmService:
    return connection.system_service().vms_service().vm_service(APP)


def taken(vm: sdk.services.VmService, description: str) -> types.Snapshot:
    return vm.snapshots_service().add(
        types.Snapshot(description=description, persist_memorystate=False)
    )


def texts(vm: sdk.services.VmService) -> list[str]:
    return [each.description for each in vm.snapshots_service().list()]


def test_a_vm_without_snapshots_shows_itself(vm: sdk.services.VmService) -> None:
    (active,) = vm.snapshots_service().list()
    assert active.snapshot_type is types.SnapshotType.ACTIVE
    assert active.snapshot_status is types.SnapshotStatus.OK
    with pytest.raises(sdk.NotFoundError):
        vm.snapshots_service().snapshot_service("None").get()


def test_one_is_taken_as_ansible_does(vm: sdk.services.VmService) -> None:
    made = taken(vm, "before")
    assert made.id
    found = vm.snapshots_service().snapshot_service(made.id).get()
    assert found.snapshot_status is types.SnapshotStatus.OK
    assert found.snapshot_type is types.SnapshotType.REGULAR
    assert not found.persist_memorystate
    assert found.date is not None
    assert found.vm.id == APP
    taken(vm, "later")
    assert texts(vm) == ["Active VM", "before", "later"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param(True, True, id="wanted"),
        pytest.param(None, True, id="not-said"),
        pytest.param(False, False, id="unwanted"),
    ],
)
def test_memory_is_kept_as_ovirt_does(
    vm: sdk.services.VmService, asked: bool | None, expected: bool
) -> None:
    wanted = types.Snapshot(description="now", persist_memorystate=asked)
    made = vm.snapshots_service().add(wanted)
    found = vm.snapshots_service().snapshot_service(made.id).get()
    assert found.persist_memorystate is expected


@pytest.mark.parametrize("has_memory", [True, False])
def test_vm_goes_back_with_its_memory_or_without(
    served: Served, vm: sdk.services.VmService, has_memory: bool
) -> None:
    made = taken(vm, "before")
    vm.preview_snapshot(snapshot=types.Snapshot(id=made.id), restore_memory=has_memory)
    vm.undo_snapshot()
    service = vm.snapshots_service().snapshot_service(made.id)
    service.restore(restore_memory=has_memory)
    found = served.fleet.orders.storage.asked
    previews = [e[2].has_memory for e in found if e[0] == "vm_snapshot_preview"]
    assert previews == [has_memory, has_memory]


def test_its_disks_and_cards_are_told(vm: sdk.services.VmService) -> None:
    service = vm.snapshots_service().snapshot_service(taken(vm, "x").id)
    (disk,) = service.disks_service().list()
    assert (disk.id, disk.name) == (SYSTEM, "system")
    assert disk.image_id
    assert len(service.nics_service().list()) == 1
    assert service.cdroms_service().list() == []


def test_one_of_some_disks_has_no_others(vm: sdk.services.VmService) -> None:
    attachment = types.DiskAttachment(disk=types.Disk(id=SYSTEM))
    made = vm.snapshots_service().add(
        types.Snapshot(description="some", disk_attachments=[attachment])
    )
    service = vm.snapshots_service().snapshot_service(made.id)
    assert [each.id for each in service.disks_service().list()] == [SYSTEM]
    assert not service.get().persist_memorystate


def test_the_vm_previews_it_and_goes_back(vm: sdk.services.VmService) -> None:
    made = taken(vm, "before")
    vm.preview_snapshot(snapshot=types.Snapshot(id=made.id))
    found = vm.snapshots_service().snapshot_service(made.id).get()
    assert found.snapshot_status is types.SnapshotStatus.IN_PREVIEW
    assert texts(vm) == ["Active VM", "before", "Active VM before the preview"]
    vm.undo_snapshot()
    assert texts(vm) == ["Active VM", "before"]
    vm.preview_snapshot(snapshot=types.Snapshot(id=made.id))
    vm.commit_snapshot()
    found = vm.snapshots_service().snapshot_service(made.id).get()
    assert found.snapshot_status is types.SnapshotStatus.OK


def test_it_is_restored_as_ansible_does(
    served: Served, vm: sdk.services.VmService
) -> None:
    first, _ = taken(vm, "first"), taken(vm, "second")
    vm.snapshots_service().snapshot_service(first.id).restore(restore_memory=False)
    assert texts(vm) == ["Active VM", "first"]
    asked = [verb for verb, *_ in served.fleet.orders.storage.asked]
    assert asked[-2:] == ["vm_snapshot_preview", "vm_snapshot_commit"]


def test_it_is_removed(vm: sdk.services.VmService) -> None:
    service = vm.snapshots_service().snapshot_service(taken(vm, "x").id)
    service.remove()
    with pytest.raises(sdk.NotFoundError):
        service.get()
    with pytest.raises(sdk.NotFoundError):
        service.remove()


def test_what_cannot_be_says_why(
    connection: sdk.Connection, vm: sdk.services.VmService
) -> None:
    with pytest.raises(sdk.Error, match="description") as raised:
        vm.snapshots_service().add(types.Snapshot())
    assert raised.value.code == 400
    with pytest.raises(sdk.Error, match=r"snapshot\.id"):
        vm.preview_snapshot()
    lonely = connection.system_service().vms_service().vm_service(WEB1)
    with pytest.raises(sdk.Error, match="on which pool") as raised:
        taken(lonely, "x")
    assert raised.value.code == 409


def test_a_vm_that_runs_is_not_restored(
    served: Served, vm: sdk.services.VmService
) -> None:
    made = taken(vm, "x")
    mirror = served.fleet.mirror
    mirror.put_vm(replace(mirror.view.vms[APP], state=VmState.UP))
    with pytest.raises(sdk.Error, match="must be down") as raised:
        vm.snapshots_service().snapshot_service(made.id).restore()
    assert raised.value.code == 409


def test_a_vm_is_made_of_one(
    served: Served, connection: sdk.Connection, vm: sdk.services.VmService
) -> None:
    made = taken(vm, "x")
    vms = connection.system_service().vms_service()
    new = types.Vm(
        name="app2",
        cluster=types.Cluster(name="Default"),
        snapshots=[types.Snapshot(id=made.id)],
    )
    clone = vms.add(new)
    assert clone.name == "app2"
    (verb, object_id, request, _) = served.fleet.orders.storage.asked[-1]
    assert (verb, object_id) == ("vm_clone", clone.id)
    assert request.snapshot.snapshot_id == made.id
    ((new_disk, old_disk),) = request.snapshot.disks
    assert (old_disk, new_disk != old_disk) == (SYSTEM, True)
    unknown = types.Snapshot(id="5a450000-0000-4000-8000-0000000000ff")
    with pytest.raises(sdk.NotFoundError):
        vms.add(types.Vm(name="app3", snapshots=[unknown]))
