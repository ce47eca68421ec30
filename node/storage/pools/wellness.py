"""Look whether a guest whose disk has failed may try again. Nothing is written.

That the storage can be read is not enough: QEMU ends if it goes on with a merge on what
is read-only by then.
"""

from collections.abc import Callable

from node.errors import Error
from node.model.vm import Disk, Vm
from node.storage.disks import tasks as disk_tasks
from node.storage.domains.access import Access
from node.storage.formats.layout import Special
from node.storage.guard import Guard
from node.storage.pools import leasing
from node.storage.pools.parts import Part
from node.storage.process.file_operations import FileMalformed, FileMissing

Place = Callable[[str | None], tuple[Part, Access]]


def check(vm: Vm, place: Place, guard: Guard) -> None:
    """Raise what is wrong with the storage of a VM's disks."""
    for storage_domain_id in {each.storage_domain_id for each in vm.spec.disks}:
        if storage_domain_id is not None:
            _, access = place(storage_domain_id)
            files = access.files(guard, deadline_s=leasing.PROBE_S)
            files.probe(str(access.layout.special(Special.METADATA)))
    for disk in vm.spec.disks:
        if disk.storage_domain_id is not None and not disk.is_read_only:
            _check_writable(disk, place, guard)


def _check_writable(disk: Disk, place: Place, guard: Guard) -> None:
    part, access = place(disk.storage_domain_id)
    leaf_id = disk.volume_id or disk_tasks.leaf_of(
        part.catalog.place(access, disk.disk_id).require()
    )
    files = access.files(guard, deadline_s=leasing.PROBE_S)
    path = access.layout.volume(disk.disk_id, leaf_id)
    try:
        files.probe_written(str(path))
    except Error as error:
        # What the guest writes to may be called otherwise for a moment; and a storage
        # process that outlives an upgrade of the agent does not know how to look.
        if error.code not in (FileMissing.code, FileMalformed.code):
            raise
