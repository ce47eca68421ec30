"""Work storage with oVirt's own Python SDK, over HTTP on loopback.

The calls are those that the modules of ovirt.ovirt make, in their order.
"""

from collections.abc import Iterator

import ovirtsdk4 as sdk
import pytest
from ovirtsdk4 import types

from node.units import GiB
from tests.contract.sdk import Served, connect, serve
from tests.fakes import fleet_storage
from tests.fakes.fleet_storage import APP, DATA1, DATA2, ISO1, LOOSE, SYSTEM
from tests.fakes.services import ELM, OAK


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
def attached(
    system: sdk.services.SystemService,
) -> sdk.services.AttachedStorageDomainsService:
    """Return the storage domains of the one data center."""
    (data_center,) = system.data_centers_service().list(search="name=Default")
    service = system.data_centers_service().data_center_service(data_center.id)
    return service.storage_domains_service()


def test_a_storage_domain_has_what_ansible_reads(
    system: sdk.services.SystemService,
) -> None:
    (domain,) = system.storage_domains_service().list(search='name="data1"')
    assert domain.status is None
    assert domain.type is types.StorageDomainType.DATA
    assert domain.master
    assert domain.storage.type is types.StorageType.NFS
    assert (domain.storage.address, domain.storage.path) == (
        "nas.test",
        "/exports/data1",
    )
    assert domain.storage.nfs_version is types.NfsVersion.V4_2
    assert domain.storage_format is types.StorageFormat.V5
    assert (domain.available, domain.used) == (60 * GiB, 40 * GiB)
    assert domain.committed == 60 * GiB
    assert domain.external_status is types.ExternalStatus.OK
    assert domain.comment == ""


def test_a_storage_domain_is_made_attached_and_removed_as_ansible_does(
    system: sdk.services.SystemService,
    attached: sdk.services.AttachedStorageDomainsService,
) -> None:
    domains = system.storage_domains_service()
    assert domains.list(search='name="P-sd"') == []
    made = domains.add(
        types.StorageDomain(
            name="P-sd",
            type=types.StorageDomainType.DATA,
            host=types.Host(name="elm"),
            storage=types.HostStorage(
                type=types.StorageType.NFS, address="nas.test", path="/exports/p"
            ),
        )
    )
    service = domains.service(made.id)
    assert service.get().status is types.StorageDomainStatus.UNATTACHED
    below = attached.storage_domain_service(made.id)
    with pytest.raises(sdk.NotFoundError):
        below.get()
    attached.add(types.StorageDomain(id=made.id))
    assert below.get().status is types.StorageDomainStatus.ACTIVE
    assert service.get().status is None
    assert made.id in [each.id for each in attached.list()]
    below.deactivate()
    assert below.get().status is types.StorageDomainStatus.MAINTENANCE
    below.remove()
    with pytest.raises(sdk.NotFoundError):
        below.get()
    service.remove(host="elm", format=True)
    with pytest.raises(sdk.NotFoundError):
        service.get()


def test_one_that_exists_is_imported(system: sdk.services.SystemService) -> None:
    known = "12345678-1234-4234-8234-123456789abc"
    made = system.storage_domains_service().add(
        types.StorageDomain(
            id=known,
            import_=True,
            type=types.StorageDomainType.DATA,
            host=types.Host(name="oak"),
            storage=types.HostStorage(
                type=types.StorageType.POSIXFS, path="/dev/sdb", vfs_type="xfs"
            ),
        )
    )
    assert (made.id, made.name) == (known, "imported")
    assert made.storage.vfs_type == "xfs"


@pytest.mark.parametrize(
    ("storage", "status", "text"),
    [
        (types.HostStorage(type=types.StorageType.ISCSI), 501, "iscsi"),
        (types.HostStorage(type=types.StorageType.NFS, path="/x"), 400, "address"),
    ],
    ids=["iscsi", "no-address"],
)
def test_what_cannot_be_made_says_why(
    system: sdk.services.SystemService,
    storage: types.HostStorage,
    status: int,
    text: str,
) -> None:
    with pytest.raises(sdk.Error, match=text) as raised:
        system.storage_domains_service().add(
            types.StorageDomain(
                name="x",
                type=types.StorageDomainType.DATA,
                host=types.Host(name="oak"),
                storage=storage,
            )
        )
    assert raised.value.code == status


def test_the_data_center_follows_its_pool(
    system: sdk.services.SystemService,
    attached: sdk.services.AttachedStorageDomainsService,
) -> None:
    (data_center,) = system.data_centers_service().list(search='storage="data1"')
    assert data_center.status is types.DataCenterStatus.UP
    assert data_center.local is False
    statuses = {each.name: each.status for each in attached.list()}
    assert statuses["iso1"] is types.StorageDomainStatus.MAINTENANCE
    assert statuses["oak-local"] is types.StorageDomainStatus.ACTIVE
    (followed,) = system.data_centers_service().list(follow="storage_domains.disks")
    names = {each.name: each for each in followed.storage_domains}
    assert "loose" in [disk.name for disk in names["data1"].disks]


def test_links_below_a_storage_domain_are_followed(
    connection: sdk.Connection, system: sdk.services.SystemService
) -> None:
    service = system.storage_domains_service().storage_domain_service(DATA1)
    domain = service.get()
    assert {each.alias for each in connection.follow_link(domain.disks)} == {
        "debian.iso",
        "loose",
        "system",
    }
    assert [each.name for each in connection.follow_link(domain.files)] == [
        "debian.iso"
    ]
    assert [each.id for each in connection.follow_link(domain.vms)] == [APP]
    (place,) = connection.follow_link(domain.storage_connections)
    assert place.path == "/exports/data1"
    (profile,) = connection.follow_link(domain.disk_profiles)
    assert connection.follow_link(profile.storage_domain).id == DATA1
    assert service.disks_service().list(unregistered=True) == []
    assert service.vms_service().list(unregistered=True) == []
    assert service.templates_service().list() == []
    assert service.is_attached(host=types.Host(id=OAK)) is True


def test_a_disk_is_made_attached_and_extended_as_ansible_does(
    connection: sdk.Connection, system: sdk.services.SystemService
) -> None:
    disks = system.disks_service()
    search = 'name="P-d1" and Storage.name="data2" and vm_names="app"'
    assert disks.list(search=search) == []
    made = disks.add(
        types.Disk(
            name="P-d1",
            format=types.DiskFormat.COW,
            sparse=True,
            provisioned_size=GiB,
            storage_domains=[types.StorageDomain(name="data2")],
        )
    )
    service = disks.disk_service(made.id)
    assert service.get().status is types.DiskStatus.OK
    attachments = system.vms_service().vm_service(APP).disk_attachments_service()
    with pytest.raises(sdk.NotFoundError):
        attachments.attachment_service(made.id).get()
    attachments.add(
        types.DiskAttachment(
            disk=types.Disk(id=made.id, name="P-d1", provisioned_size=GiB),
            interface=types.DiskInterface.VIRTIO,
            bootable=False,
            active=True,
        )
    )
    attachment = attachments.attachment_service(made.id).get()
    assert attachment.active
    disk = connection.follow_link(attachment.disk)
    assert connection.follow_link(disk.disk_profile).name == "data2"
    assert [each.id for each in disks.list(search=search)] == [made.id]
    service.update(types.Disk(provisioned_size=2 * GiB))
    assert service.get().provisioned_size == 2 * GiB
    attachments.attachment_service(made.id).remove()
    assert made.id not in [each.disk.id for each in attachments.list()]
    service.remove()
    with pytest.raises(sdk.NotFoundError):
        service.get()


def test_a_disk_has_what_clients_read(system: sdk.services.SystemService) -> None:
    disk = system.disks_service().disk_service(SYSTEM).get()
    assert (disk.name, disk.alias) == ("system", "system")
    assert (disk.provisioned_size, disk.actual_size) == (10 * GiB, 2 * GiB)
    assert disk.total_size > 0
    assert disk.storage_type is types.DiskStorageType.IMAGE
    assert disk.content_type is types.DiskContentType.DATA
    assert disk.backup is types.DiskBackup.NONE
    assert disk.format is types.DiskFormat.COW
    assert [each.id for each in disk.storage_domains] == [DATA1]
    assert [each.id for each in disk.vms] == [APP]
    assert (disk.sparse, disk.shareable, disk.propagate_errors) == (True, False, False)


def test_a_disk_is_copied_moved_and_sparsified(
    system: sdk.services.SystemService,
) -> None:
    service = system.disks_service().disk_service(LOOSE)
    service.copy(
        disk=types.Disk(alias="twin"), storage_domain=types.StorageDomain(id=DATA2)
    )
    (twin,) = system.disks_service().list(search="alias=twin")
    assert [each.id for each in twin.storage_domains] == [DATA2]
    service.move(storage_domain=types.StorageDomain(name="data2"))
    assert [each.id for each in service.get().storage_domains] == [DATA2]
    service.sparsify()
    with pytest.raises(sdk.Error, match="reduce of a disk is not supported") as raised:
        service.reduce()
    assert raised.value.code == 501


def test_follow_embeds_the_disk_of_an_attachment(
    system: sdk.services.SystemService,
) -> None:
    vm = system.vms_service().vm_service(APP).get(follow="disk_attachments.disk")
    (attachment,) = vm.disk_attachments
    assert (attachment.disk.id, attachment.disk.alias) == (SYSTEM, "system")
    assert attachment.disk.provisioned_size == 10 * GiB


def test_a_disk_is_made_by_its_attachment(system: sdk.services.SystemService) -> None:
    attachments = system.vms_service().vm_service(APP).disk_attachments_service()
    made = attachments.add(
        types.DiskAttachment(
            disk=types.Disk(
                name="second",
                format=types.DiskFormat.RAW,
                provisioned_size=GiB,
                storage_domains=[types.StorageDomain(id=DATA2)],
            ),
            interface=types.DiskInterface.VIRTIO,
        )
    )
    assert made.id == made.disk.id
    attachment = attachments.attachment_service(made.id)
    attachment.update(types.DiskAttachment(disk=types.Disk(provisioned_size=3 * GiB)))
    disk = system.disks_service().disk_service(made.id)
    assert disk.get().provisioned_size == 3 * GiB
    attachment.remove(detach_only=False)
    with pytest.raises(sdk.NotFoundError):
        disk.get()


def test_a_vm_is_made_with_disks_of_a_pool(system: sdk.services.SystemService) -> None:
    made = system.vms_service().add(
        types.Vm(
            name="pooled",
            cluster=types.Cluster(name="Default"),
            template=types.Template(name="Blank"),
            lease=types.StorageDomainLease(
                storage_domain=types.StorageDomain(id=DATA2)
            ),
            disk_attachments=[
                types.DiskAttachment(disk=types.Disk(id=LOOSE), bootable=True)
            ],
        )
    )
    vm = system.vms_service().vm_service(made.id)
    assert vm.get().lease.storage_domain.id == DATA2
    (attachment,) = vm.disk_attachments_service().list()
    assert (attachment.disk.id, attachment.bootable) == (LOOSE, True)


def test_the_manager_is_shown_and_chosen(system: sdk.services.SystemService) -> None:
    oak, elm = (system.hosts_service().host_service(each) for each in (OAK, ELM))
    assert oak.get().spm.status is types.SpmStatus.SPM
    assert (elm.get().spm.status, elm.get().spm.priority) == (types.SpmStatus.NONE, 7)
    elm.force_select_spm()
    assert elm.get().spm.status is types.SpmStatus.SPM
    changed = oak.update(types.Host(spm=types.Spm(priority=-1)))
    assert changed.spm.priority == -1
    assert oak.storage_service().list() == []


def test_connections_are_kept(system: sdk.services.SystemService) -> None:
    service = system.storage_connections_service()
    made = service.add(
        types.StorageConnection(
            type=types.StorageType.NFS, address="nas.test", path="/later"
        )
    )
    one = service.storage_connection_service(made.id)
    one.update(types.StorageConnection(path="/sooner"))
    assert (one.get().address, one.get().path) == ("nas.test", "/sooner")
    one.remove()
    assert made.id not in [each.id for each in service.list()]


def test_maintenance_is_not_skipped(
    attached: sdk.services.AttachedStorageDomainsService,
) -> None:
    with pytest.raises(sdk.Error, match="not in maintenance") as raised:
        attached.storage_domain_service(DATA2).remove()
    assert raised.value.code == 409
    attached.storage_domain_service(ISO1).activate()
    status = attached.storage_domain_service(ISO1).get().status
    assert status is types.StorageDomainStatus.ACTIVE


def test_jobs_tell_of_storage(system: sdk.services.SystemService) -> None:
    disk = system.disks_service().disk_service(LOOSE)
    disk.sparsify(query={"correlation_id": "my-id"})
    (job,) = system.jobs_service().list(search="correlation_id=my-id")
    assert job.status is types.JobStatus.FINISHED
    assert job.description == "Sparsifying Disk loose"


@pytest.mark.parametrize(
    ("service", "search", "names"),
    [
        ("storage_domains_service", 'name="*"', 6),
        ("storage_domains_service", "status=unattached", 1),
        ("disks_service", "disk_type=image and Storage.name=data1", 3),
        ("vms_service", "Storage.name=data1", 1),
        ("hosts_service", "status=up and storage=data1", 2),
    ],
)
def test_searches_of_ovirts_clients_are_understood(
    system: sdk.services.SystemService, service: str, search: str, names: int
) -> None:
    assert len(getattr(system, service)().list(search=search)) == names
