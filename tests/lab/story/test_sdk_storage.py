"""oVirt's own Python SDK, unmodified, works the storage of real hosts.

Real sanlock six times as fast; the storage domains are folders of one file system
that every host mounts. The calls are those of ovirt.ovirt's modules.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import ovirtsdk4
import pytest
from ovirtsdk4 import types

from node.model.ids import DiskId
from node.units import MiB
from tests.lab import fleet, members, waiting
from tests.lab.story.conftest import Story

pytestmark = pytest.mark.lab

URL = "https://localhost:{port}/ovirt-engine/api"
HOSTS = ("h1", "h2", "h3")
FOLDER = f"{members.SHARED_STORAGE}/sdk-pool"
ACTIVE = types.StorageDomainStatus.ACTIVE
MAINTENANCE = types.StorageDomainStatus.MAINTENANCE
_RUNNING = (types.VmStatus.POWERING_UP, types.VmStatus.UP)


@dataclass(slots=True)
class Engine:
    """The API as a client of oVirt sees it."""

    story: Story
    system: ovirtsdk4.services.SystemService

    @property
    def attached(self) -> ovirtsdk4.services.AttachedStorageDomainsService:
        (found,) = self.system.data_centers_service().list(search="name=Default")
        service = self.system.data_centers_service().data_center_service(found.id)
        return service.storage_domains_service()

    def add_domain(self, name: str, host: str) -> str:
        """Make a storage domain and attach it; return its id when it is active."""
        path = f"{FOLDER}/{name}"
        words = ["install", "-d", "-o", "36", "-g", "36", "-m", "0770", FOLDER, path]
        assert self.story.lab.member(host).exec(words).returncode == 0
        made = self.system.storage_domains_service().add(
            types.StorageDomain(
                name=name,
                type=types.StorageDomainType.DATA,
                host=types.Host(name=host),
                storage=types.HostStorage(type=types.StorageType.POSIXFS, path=path),
            )
        )
        assert made.status is types.StorageDomainStatus.UNATTACHED
        self.attached.add(types.StorageDomain(id=made.id))
        service = self.attached.storage_domain_service(made.id)
        self.until(f"{name} active", lambda: service.get().status is ACTIVE, 90.0)
        return str(made.id)

    def add_disk(self, name: str, storage_domain: str) -> str:
        """Make a thin disk; return its id when it is usable."""
        made = self.system.disks_service().add(
            types.Disk(
                name=name,
                format=types.DiskFormat.COW,
                provisioned_size=64 * MiB,
                storage_domains=[types.StorageDomain(name=storage_domain)],
            )
        )
        self.wait_disk(made.id, lambda disk: True)
        return str(made.id)

    def wait_disk(self, disk_id: str, is_so: Callable[[types.Disk], bool]) -> None:
        """Wait until a disk is usable and as it shall be."""
        service = self.system.disks_service().disk_service(disk_id)

        def look() -> bool:
            disk = service.get()
            return disk.status is types.DiskStatus.OK and is_so(disk)

        self.until(f"disk {disk_id}", look)

    def lies_there(self, folder: str) -> bool:
        """Tell whether a storage domain's folder is on the shared storage."""
        member = self.story.lab.member("h1")
        return member.exec(["test", "-e", folder]).returncode == 0

    def managers(self) -> list[str]:
        hosts = self.system.hosts_service().list()
        return [each.name for each in hosts if each.spm.status is types.SpmStatus.SPM]

    def insist(self, what: str, act: Callable[[], object]) -> None:
        """Act again while it conflicts, as oVirt's clients do: a host still joins."""

        def is_done() -> bool:
            try:
                act()
            except ovirtsdk4.Error as error:
                if error.code != 409:
                    raise
                return False
            return True

        waiting.until(what, is_done, timeout_s=60.0, poll_s=1.0)

    def until(
        self, what: str, look: Callable[[], bool], timeout_s: float = 60.0
    ) -> None:
        def is_so() -> bool:
            try:
                return look()
            except ovirtsdk4.NotFoundError:
                return False

        waiting.until(what, is_so, timeout_s=timeout_s, poll_s=0.5)


@pytest.fixture
def engine(story: Story, tmp_path: Path) -> Iterator[Engine]:
    """Return the API of a fleet without a pool; it forgets what was made."""
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(story.fleet.session().ca_certificate)
    connection = ovirtsdk4.Connection(
        url=URL.format(port=story.fleet.port),
        username=fleet.USER,
        password=fleet.PASSWORD,
        ca_file=str(ca_file),
    )
    # What hosts forgot a moment ago may still be shown.
    waiting.until(
        "no pool of before",
        lambda: all(each.is_local for each in story.client.pool_list().pools),
        timeout_s=120.0,
    )
    try:
        yield Engine(story, connection.system_service())
    finally:
        connection.close()
        story.fleet.forget_storage(story.client)
        story.lab.member("h1").exec(["rm", "-rf", FOLDER])


def test_sdk_works_storage_disks_and_a_vm_on_them(engine: Engine) -> None:
    first = engine.add_domain("first", "h1")
    second = engine.add_domain("second", "h2")
    (center,) = engine.system.data_centers_service().list(search='storage="first"')
    assert (center.status, center.local) == (types.DataCenterStatus.UP, False)
    domain = engine.system.storage_domains_service().list(search="name=first")[0]
    assert (domain.master, domain.status) == (True, None)
    assert domain.available > 0
    _check_disks(engine, first, second)
    _check_vm(engine)
    _check_limits(engine, first)
    _check_manager(engine)
    _check_removal(engine, second)


def _check_disks(engine: Engine, first: str, second: str) -> None:
    disks = engine.system.disks_service()
    disk_id = engine.add_disk("one", "first")
    service = disks.disk_service(disk_id)
    service.update(types.Disk(provisioned_size=128 * MiB, description="larger"))
    engine.wait_disk(disk_id, lambda disk: disk.provisioned_size == 128 * MiB)
    service.move(storage_domain=types.StorageDomain(id=second))
    engine.wait_disk(disk_id, lambda disk: disk.storage_domains[0].id == second)
    place = types.StorageDomain(id=first)
    service.copy(disk=types.Disk(name="two"), storage_domain=place)
    search = "name=two and Storage.name=first"
    engine.until("the copy", lambda: bool(disks.list(search=search)))
    (copy,) = disks.list(search=search)
    engine.wait_disk(copy.id, lambda disk: True)
    made = {disk_id, copy.id}
    for each in made:
        disks.disk_service(each).remove()
    engine.until("no disk", lambda: made.isdisjoint(one.id for one in disks.list()))


def _check_vm(engine: Engine) -> None:
    """Run a VM from the pool, and give it one more disk while it runs."""
    system_id = engine.add_disk("system", "first")
    made = engine.system.vms_service().add(
        types.Vm(
            name="pooled",
            cluster=types.Cluster(name="Default"),
            template=types.Template(name="Blank"),
            memory=128 * MiB,
        )
    )
    vm = engine.system.vms_service().vm_service(made.id)
    engine.until("the VM down", lambda: vm.get().status is types.VmStatus.DOWN)
    attachments = vm.disk_attachments_service()
    attachments.add(types.DiskAttachment(disk=types.Disk(id=system_id), bootable=True))
    engine.insist("the start", vm.start)
    engine.until("the VM up", lambda: vm.get().status in _RUNNING, 60.0)
    more_id = engine.add_disk("more", "first")
    attachments.add(types.DiskAttachment(disk=types.Disk(id=more_id)))
    engine.until(
        "both disks",
        lambda: {each.id for each in attachments.list()} == {system_id, more_id},
    )
    disks = engine.system.disks_service()
    (found,) = disks.list(search="vm_names=pooled and name=more")
    assert found.id == more_id
    vm.stop()
    engine.until("the VM down", lambda: vm.get().status is types.VmStatus.DOWN)
    attachments.attachment_service(more_id).remove(detach_only=False)
    engine.until(
        "one disk less", lambda: more_id not in {one.id for one in disks.list()}
    )
    assert disks.disk_service(system_id).get().status is types.DiskStatus.OK
    vm.remove()
    engine.until("no VM", lambda: not engine.system.vms_service().list())


def _check_limits(engine: Engine, storage_domain_id: str) -> None:
    """Let a disk be limited by its profile's storage QoS, and follow that."""
    (center,) = engine.system.data_centers_service().list(search='storage="first"')
    centers = engine.system.data_centers_service()
    qoss = centers.data_center_service(center.id).qoss_service()
    slow = qoss.add(
        types.Qos(name="slow", type=types.QosType.STORAGE, max_read_iops=50)
    )
    profiles = engine.system.disk_profiles_service()
    place = types.StorageDomain(id=storage_domain_id)
    made = profiles.add(
        types.DiskProfile(
            name="thrifty", storage_domain=place, qos=types.Qos(id=slow.id)
        )
    )
    disk_id = engine.add_disk("limited", "first")
    disk = engine.system.disks_service().disk_service(disk_id)

    def limit() -> int:
        return engine.story.client.disk_show(DiskId(disk_id)).disk.qos.read_iops

    disk.update(types.Disk(disk_profile=types.DiskProfile(id=made.id)))
    engine.until("the limit", lambda: limit() == 50)
    qoss.qos_service(slow.id).update(types.Qos(max_read_iops=70))
    engine.until("another limit", lambda: limit() == 70)
    profile = profiles.disk_profile_service(made.id)
    engine.insist("no disk has it", lambda: _remove_all(disk, profile))
    qoss.qos_service(slow.id).remove()
    engine.until("no such disk", lambda: disk_id not in _disk_ids(engine))


def _remove_all(
    disk: ovirtsdk4.services.DiskService, profile: ovirtsdk4.services.DiskProfileService
) -> None:
    with contextlib.suppress(ovirtsdk4.NotFoundError):
        disk.remove()
    profile.remove()


def _disk_ids(engine: Engine) -> set[str]:
    return {each.id for each in engine.system.disks_service().list()}


def _check_manager(engine: Engine) -> None:
    (manager,) = engine.managers()
    hosts = engine.system.hosts_service()
    other = next(each for each in hosts.list() if each.name != manager)
    engine.insist("the choice", hosts.host_service(other.id).force_select_spm)
    engine.until("another manager", lambda: engine.managers() == [other.name], 60.0)


def _check_removal(engine: Engine, storage_domain_id: str) -> None:
    """Detach a storage domain, forget it, take it back, and destroy it."""
    folder = f"{FOLDER}/second/{storage_domain_id}"
    below = engine.attached.storage_domain_service(storage_domain_id)
    below.deactivate()
    engine.until("maintenance", lambda: below.get().status is MAINTENANCE)
    below.remove()
    engine.until("detached", lambda: storage_domain_id not in _ids(engine.attached))
    domains = engine.system.storage_domains_service()
    service = domains.storage_domain_service(storage_domain_id)
    service.remove(host="h2")
    engine.until("forgotten", lambda: storage_domain_id not in _ids(domains))
    assert engine.lies_there(folder)
    taken = domains.add(
        types.StorageDomain(
            id=storage_domain_id,
            import_=True,
            type=types.StorageDomainType.DATA,
            host=types.Host(name="h3"),
            storage=types.HostStorage(
                type=types.StorageType.POSIXFS, path=f"{FOLDER}/second"
            ),
        )
    )
    assert (taken.id, taken.name) == (storage_domain_id, "second")
    service.remove(host="h1", format=True)
    engine.until("removed", lambda: storage_domain_id not in _ids(domains))
    assert not engine.lies_there(folder)


def _ids(service: ovirtsdk4.services.StorageDomainsService) -> set[str]:
    return {each.id for each in service.list()}
