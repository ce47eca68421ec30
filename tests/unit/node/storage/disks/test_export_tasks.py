"""What exporting locks."""

from node.model.ids import DiskId, JobId, StorageDomainId, VmId
from node.storage.disks.export_tasks import Exporting, Source

JOB = JobId("00000000-0000-4000-8000-000000000001")
DISK = DiskId("00000000-0000-4000-8000-000000000002")
HOME = StorageDomainId("00000000-0000-4000-8000-000000000003")
VM = VmId("00000000-0000-4000-8000-000000000004")
SOURCES = (Source(DISK, HOME, None),)


def test_export_of_a_vm_locks_its_disks() -> None:
    claim = Exporting(VM, "target", SOURCES, 0).claim(JOB)
    assert (set(claim.changed), set(claim.read)) == ({DISK}, set())
    assert claim.places == {(HOME, DISK)}


def test_export_of_a_template_lets_others_read_its_disks() -> None:
    claim = Exporting(VM, "target", SOURCES, 0, is_template=True).claim(JOB)
    assert (set(claim.changed), set(claim.read)) == (set(), {DISK})
    assert claim.places == {(HOME, DISK)}
