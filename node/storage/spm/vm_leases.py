"""Keep the leases of VMs on a storage domain, in oVirt's `xleases`.

Only the manager adds and removes, under the storage domain's lease. The order makes
each prefix harmless, so there is no journal: a lease is written before the index names
it, and the index forgets it before anything else. What stops in between leaves a slot
that the index calls free. One sector of the index changes at a time. A slot never
moves: where a lease lies may be remembered.
"""

import logging
import threading
from collections.abc import Callable
from typing import Final

from node.errors import NotFound
from node.storage.domains import lease_record
from node.storage.domains.access import Access
from node.storage.domains.lease_record import LeaseRecord
from node.storage.formats import xlease_index
from node.storage.formats.layout import Special
from node.storage.formats.xlease_index import RECORDS_MAX, Index, Write
from node.storage.guard import Guard, GuardFiles
from node.storage.process.protocol import Need, ResourceAt
from node.storage.spm.term import Term

log = logging.getLogger(__name__)

DEADLINE_S: Final = 10.0
# The index is read, then a sector of it is written: in between nobody else may.
_CHANGING: Final = threading.Lock()


class VmLeaseMissing(NotFound):
    """The VM has no lease where it should be."""

    code = "vm_lease_missing"
    remedy = (
        "Let the manager of the pool make it: change the VM, or rebuild the leases of "
        "the storage domain (`skerry-node storage repair`)."
    )


def check(guard: Guard, access: Access) -> None:
    """Refuse an index that cannot be used: IndexDamaged."""
    index = xlease_index.parse(_read(_files(guard, access), access))
    xlease_index.find(index, "")


def find(guard: Guard, access: Access, vm_id: str) -> ResourceAt:
    """Return where a VM's lease lies; VmLeaseMissing, IndexDamaged."""
    index = xlease_index.parse(_read(_files(guard, access), access))
    record = xlease_index.find(index, vm_id)
    if record is None:
        raise VmLeaseMissing(
            f"VM {vm_id} has no lease on storage domain {access.storage_domain_id}",
            vm_id=vm_id,
            storage_domain_id=access.storage_domain_id,
        )
    return _resource(access, vm_id, record)


def names(guard: Guard, access: Access) -> tuple[str, ...]:
    """Return the VMs that have a lease there; IndexDamaged."""
    index = xlease_index.parse(_read(_files(guard, access), access))
    xlease_index.find(index, "")
    return tuple(sorted(index.records))


def read(guard: Guard, access: Access, resource: ResourceAt) -> LeaseRecord:
    """Read what lies in a lease, past all caches; LeaseDamaged."""
    files = _files(guard, access)
    data = files.read_at(resource.path, resource.offset, access.sector_bytes)
    return lease_record.parse(data)


def add(guard: Guard, access: Access, term: Term, vm_id: str) -> ResourceAt:
    """Give a VM a lease, as the manager. Idempotent. IndexFull, IndexDamaged."""
    needs = term.needs(access.storage_domain_id)
    files = _files(guard, access, needs)
    with _CHANGING:
        data = _read(files, access)
        index = xlease_index.parse(data)
        record = xlease_index.choose(index, vm_id)
        resource = _resource(access, vm_id, record)
        if vm_id not in index.records:
            guard.write_resource(resource, needs)
            _write(files, access, _renamed(access, data, record, vm_id))
            log.info("VM %s: lease %d of %s", vm_id, record, access.storage_domain_id)
    return resource


def remove(guard: Guard, access: Access, term: Term, vm_id: str) -> None:
    """Take a VM's lease away, as the manager; nobody may hold it. Idempotent."""
    files = _files(guard, access, term.needs(access.storage_domain_id))
    with _CHANGING:
        data = _read(files, access)
        index = xlease_index.parse(data)
        record = {**index.unfinished, **index.records}.get(vm_id)
        if record is not None:
            _write(files, access, _renamed(access, data, record, ""))
            # A rebuild must not find it.
            offset = xlease_index.lease_offset(record, access.alignment_bytes)
            _write(files, access, Write(offset, bytes(access.sector_bytes)))
            log.info("VM %s: no lease on %s", vm_id, access.storage_domain_id)


def rebuild(
    guard: Guard,
    access: Access,
    term: Term,
    now_s: int,
    is_wanted: Callable[[str], bool],
) -> Index:
    """Make the index anew from what lies in the slots, as oVirt's rebuild does.

    `is_wanted`: of leases that were removed the slots still bear the names. Meanwhile
    the index is marked, and nobody uses it; leases that are held stay so.
    """
    with _CHANGING:
        return _rebuild(guard, access, term, now_s, is_wanted)


def _rebuild(
    guard: Guard,
    access: Access,
    term: Term,
    now_s: int,
    is_wanted: Callable[[str], bool],
) -> Index:
    files = _files(guard, access, term.needs(access.storage_domain_id))
    found = _names(files, access)
    sector, alignment = access.sector_bytes, access.alignment_bytes
    path = str(access.layout.special(Special.XLEASES))
    begin = xlease_index.index_offset(alignment)
    data = xlease_index.empty(access.storage_domain_id, now_s, is_updating=True)
    for record, name in found.items():
        if is_wanted(name):
            data = _applied(data, _renamed(access, data, record, name), begin)
    files.write_at(path, begin, data)
    done = xlease_index.change_metadata(
        data, now_s, is_updating=False, sector_size=sector, alignment=alignment
    )
    files.write_at(path, done.offset, done.data)
    index = xlease_index.parse(_read(files, access))
    log.info("%s: %d leases found", access.storage_domain_id, len(index.records))
    return index


def _names(files: GuardFiles, access: Access) -> dict[int, str]:
    """Return the name in each slot that bears a lease of this lockspace.

    One that is held goes before an older one of its name.
    """
    path = str(access.layout.special(Special.XLEASES))
    size_bytes = files.stat(path).size_bytes
    found: dict[str, tuple[bool, int]] = {}
    for record in range(RECORDS_MAX):
        offset = xlease_index.lease_offset(record, access.alignment_bytes)
        if offset + access.sector_bytes > size_bytes:
            break
        data = files.read_at(path, offset, access.sector_bytes)
        try:
            lease = lease_record.parse(data)
        except lease_record.LeaseDamaged:
            continue
        if lease.lockspace == access.lockspace.name:
            known = found.get(lease.resource)
            if known is None or known[0]:
                found[lease.resource] = (lease.is_free, record)
    return {record: name for name, (_, record) in found.items()}


def _renamed(access: Access, data: bytes, record: int, name: str) -> Write:
    return xlease_index.change(
        data,
        record,
        name,
        sector_size=access.sector_bytes,
        alignment=access.alignment_bytes,
    )


def _applied(data: bytes, write: Write, begin: int) -> bytes:
    """Return an index as it is after a write to it."""
    start = write.offset - begin
    return data[:start] + write.data + data[start + len(write.data) :]


def _write(files: GuardFiles, access: Access, write: Write) -> None:
    path = str(access.layout.special(Special.XLEASES))
    files.write_at(path, write.offset, write.data)


def _read(files: GuardFiles, access: Access) -> bytes:
    path = str(access.layout.special(Special.XLEASES))
    offset = xlease_index.index_offset(access.alignment_bytes)
    return files.read_at(path, offset, xlease_index.SIZE)


def _resource(access: Access, vm_id: str, record: int) -> ResourceAt:
    return ResourceAt(
        access.lockspace.name,
        vm_id,
        str(access.layout.special(Special.XLEASES)),
        xlease_index.lease_offset(record, access.alignment_bytes),
        access.sector_bytes,
        access.alignment_bytes,
    )


def _files(guard: Guard, access: Access, needs: tuple[Need, ...] = ()) -> GuardFiles:
    return access.files(guard, needs, DEADLINE_S)
