"""Write the VMs of a pool into its storage domains' OVF_STOREs, and read them.

As the manager, for oVirt and for whoever takes the storage domain over: soon after
definitions have changed, and before a storage domain is put into maintenance. Two
disks are written in turn (`alternation`), so that one is whole at any moment:

    description says: not updated  ─►  the tar  ─►  description says: updated

A step that a crash cuts off leaves the other disk, and is begun anew by the next
manager. Source: docs/formats/storage-domain.md.
"""

import logging
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from node.clock import Clock, rfc3339
from node.contract import templates
from node.errors import Error, Failed, Unavailable
from node.jobs import Jobs
from node.model.ids import DiskId, StorageDomainId, VmId
from node.model.job import JobState
from node.model.storage import ActualVolume, ContentType
from node.model.vm import Vm
from node.storage.disks.sights import ImageSight
from node.storage.disks.verbs import Disks
from node.storage.domains.access import Access
from node.storage.domains.catalog import Catalog
from node.storage.formats import volume_meta
from node.storage.formats.layout import FILE_MODE
from node.storage.formats.volume_meta import Format, VolumeMeta
from node.storage.guard import Guard, GuardFiles
from node.storage.operations import facts
from node.storage.operations.facts import DiskMissing
from node.storage.ovf import (
    alternation,
    definition,
    description,
    reading,
    store,
    writing,
)
from node.storage.ovf.alternation import StoreAt
from node.storage.ovf.description import StoreLabel
from node.storage.ovf.document import DamagedOvf
from node.storage.ovf.store import Documents, OvfStore
from node.storage.pools.leasing import VmLeasing
from node.storage.process.protocol import DATA_MAX
from node.storage.spm import pool_rules
from node.storage.spm.pool import Pool
from node.storage.spm.vm_store import Stored, VmStore

log = logging.getLogger(__name__)

# Of the writing after a change; what comes meanwhile goes with it.
GAP_S: Final = 60.0
DEADLINE_S: Final = 10.0
_MADE_S: Final = 30.0
_BLOCK: Final = 4096  # what any disk reads and writes at once
_DOWN: Final = 0  # oVirt's numbers of a VM's states
_UP: Final = 1

# What the content of a storage domain's OVF_STORE depends on.
Signature = tuple[tuple[str, int, object], ...]


class OvfStoreFull(Failed):
    """The definitions do not fit."""

    code = "ovf_store_full"
    remedy = "Delete snapshots or VMs there; the definitions themselves are kept."


class OvfStoreNotMade(Failed):
    code = "ovf_store_not_made"
    remedy = "See why its disk could not be made; it is tried again."


class OvfStoreDamaged(Failed):
    """What calls itself an OVF_STORE cannot be read."""

    code = "ovf_store_damaged"
    remedy = (
        "Nothing, if the other one is whole; else register disks by hand, then delete "
        "its disk: another one is made."
    )


@dataclass(frozen=True, slots=True)
class ReadStore:
    """The newest OVF_STORE that is whole; None: there is none."""

    store: OvfStore | None = None
    problems: tuple[Error, ...] = ()  # of newer ones, which are not
    damaged: frozenset[str] = frozenset()  # the disks of those


@dataclass(frozen=True, slots=True)
class _Told:
    """What the store that this node wrote last was made from."""

    at: str | None  # its moment, as it is read
    shapes: Mapping[VmId, object] = field(default_factory=dict)


class OvfStores:
    """The OVF_STOREs of one pool. Any thread may call."""

    def __init__(
        self,
        pool: Pool,
        guard: Guard,
        clock: Clock,
        catalog: Catalog,
        vms: VmStore,
        disks: Disks,
        jobs: Jobs,
    ) -> None:
        self._pool = pool
        self._guard = guard
        self._clock = clock
        self._catalog = catalog
        self._vms = vms
        self._disks = disks
        self._jobs = jobs
        self._leasing = VmLeasing(lambda: (pool,), guard)
        self._writing = threading.Lock()
        self._written: dict[str, Signature] = {}
        self._told: dict[str, _Told] = {}
        self._due_at = clock.monotonic() + GAP_S

    def keep(self, stored: Stored) -> None:
        """Write those whose VMs have changed, at most each minute; as the manager.

        `stored` are the definitions as they were read lately.
        """
        if self._clock.monotonic() < self._due_at:
            return
        self._due_at = self._clock.monotonic() + GAP_S
        for storage_domain_id in sorted(pool_rules.active_data(self._pool.map)):
            states = self._states(_of(stored, storage_domain_id))
            signature = self._signature(stored, storage_domain_id, states)
            if self._written.get(storage_domain_id) == signature:
                continue
            try:
                self.write(storage_domain_id)
            except Error as error:
                log.info("OVF_STORE of %s: %s", storage_domain_id, error)

    def write(self, storage_domain_id: str, *, is_idle: bool = False) -> None:
        """Write the older OVF_STORE of a storage domain now; as the manager.

        `is_idle`: no VM with a disk there runs. Raises NotSpm, OvfStoreFull,
        OvfStoreNotMade, OvfStoreDamaged, and what files raise.
        """
        with self._writing:
            self._write(storage_domain_id, self._vms.list(), is_idle=is_idle)

    def read(self, access: Access) -> ReadStore:
        """Return what the newest OVF_STORE that is whole holds; Unavailable."""
        problems: list[Error] = []
        damaged: set[str] = set()
        for each in alternation.newest_first(self._stores(access)):
            try:
                found = store.read(self._content(access, each))
            except Unavailable:
                raise
            except Error as error:
                log.warning("OVF_STORE %s: %s", each.disk_id, error)
                problems.append(OvfStoreDamaged(f"OVF_STORE {each.disk_id}: {error}"))
                damaged.add(each.disk_id)
                continue
            return ReadStore(found, tuple(problems), frozenset(damaged))
        return ReadStore(None, tuple(problems), frozenset(damaged))

    def all_vms(self) -> frozenset[VmId] | None:
        """Return the VMs of which any OVF_STORE tells; None: one cannot be read."""
        found: set[VmId] = set()
        for storage_domain_id in pool_rules.active_data(self._pool.map):
            try:
                read = self.read(self._pool.access(storage_domain_id))
            except Error as error:
                log.info("OVF_STOREs of %s: %s", storage_domain_id, error)
                return None
            if read.problems:
                return None
            found.update(read.store.documents if read.store is not None else ())
        return frozenset(found)

    # writing

    def _write(
        self, storage_domain_id: str, stored: Stored, *, is_idle: bool = False
    ) -> None:
        access = self._pool.access(storage_domain_id)
        vms = _of(stored, storage_domain_id)
        stores = self._stores(access)
        now = dict.fromkeys(_ids(vms), _DOWN) if is_idle else self._states(vms)
        signature = self._signature(stored, storage_domain_id, now)
        if not vms and not self._written.get(storage_domain_id):
            # Nothing is ours there: what oVirt wrote stays as it is.
            self._written[storage_domain_id] = signature
            return
        for disk_id in _missing(storage_domain_id, stores):
            self._make(disk_id, storage_domain_id)
            stores = self._stores(access)
        at = alternation.moment(stores, self._clock.now())
        read = self.read(access)
        if read.store is None and read.problems:
            raise read.problems[0]  # who waits to be registered there is not known
        before = read.store or OvfStore({})
        told = self._told.get(storage_domain_id)
        if told is None or told.at != before.updated_at:
            told = _Told(None)  # another manager wrote it, or oVirt
        kept = self._kept(storage_domain_id, before, stored)
        states = {
            **{key: before.states[key] for key in kept if key in before.states},
            **now,
        }
        shapes = {each.spec.vm_id: self._shape_of(each) for each in vms}
        documents = self._documents(vms, kept, before, told, shapes, at)
        place = (StorageDomainId(storage_domain_id),)
        content = OvfStore(Documents(documents), None, place, states)
        into = alternation.next_to_write(stores, read.damaged)
        self._fill(access, into, content, at)
        self._written[storage_domain_id] = signature
        said = description.moment_of(description.java_date(at))
        self._told[storage_domain_id] = _Told(said, shapes)
        log.info("OVF_STORE of %s: %d VMs", storage_domain_id, len(content.documents))

    def _fill(
        self, access: Access, into: StoreAt, content: OvfStore, at: datetime
    ) -> None:
        size_bytes = sum(map(len, store.write(content, at)))
        meta = self._meta(access, into.disk_id)
        if size_bytes > min(meta.capacity_bytes, store.STORE_MAX):
            raise OvfStoreFull(f"{len(content.documents)} documents do not fit")
        ids = content.storage_domain_ids
        with self._pool.spm.work() as term:
            needs = term.needs(access.storage_domain_id)
            files = access.files(self._guard, needs, DEADLINE_S)
            self._say(access, files, into, meta, StoreLabel(False, None, None, ids))
            path = str(access.layout.volume(into.disk_id, into.volume_id))
            offset = 0
            for piece in _joined(store.write(content, at)):
                files.write_at(path, offset, piece + bytes(-len(piece) % _BLOCK))
                offset += len(piece)
            whole = StoreLabel(True, size_bytes, rfc3339(at), ids)
            self._say(access, files, into, meta, whole)
        self._catalog.read_image(access, into.disk_id)

    def _say(
        self,
        access: Access,
        files: GuardFiles,
        into: StoreAt,
        meta: VolumeMeta,
        label: StoreLabel,
    ) -> None:
        text = description.write_store(label)
        path = access.layout.volume_meta(into.disk_id, into.volume_id)
        data = volume_meta.write(replace(meta, description=text))
        files.write_whole(str(path), data, FILE_MODE)

    def _make(self, disk_id: str, storage_domain_id: str) -> None:
        job = self._disks.create_ovf_store(disk_id, storage_domain_id)
        ended = self._jobs.get(job.job_id, _MADE_S)
        if ended.state is not JobState.DONE:
            why = ended.error.message if ended.error is not None else ended.state
            raise OvfStoreNotMade(f"disk {disk_id}: {why}", disk_id=disk_id)

    def _document(self, vm: Vm, before: OvfStore, at: datetime) -> bytes:
        """Return a VM's document, with what oVirt said of it before."""
        volumes = {each.disk_id: self._volumes(each.disk_id) for each in vm.spec.disks}
        known = before.documents.get(vm.spec.vm_id, b"")
        try:
            ovf = definition.document_of(vm, volumes, known)
        except DamagedOvf as error:
            log.info("VM %s: its old document is left: %s", vm.spec.vm_id, error)
            ovf = definition.document_of(vm, volumes)
        return writing.write(ovf, rfc3339(at))

    def _documents(
        self,
        vms: Iterable[Vm],
        kept: Iterable[VmId],
        before: OvfStore,
        told: _Told,
        shapes: Mapping[VmId, object],
        at: datetime,
    ) -> Iterator[tuple[VmId, bytes]]:
        """Yield all documents, one at a time; one that tells the same is not made."""
        for vm_id in kept:
            yield vm_id, before.documents[vm_id]
        for vm in vms:
            vm_id = vm.spec.vm_id
            is_same = vm_id in before.documents and vm_id in told.shapes
            if is_same and told.shapes[vm_id] == shapes[vm_id]:
                yield vm_id, before.documents[vm_id]
            else:
                yield vm_id, self._document(vm, before, at)

    def _kept(
        self, storage_domain_id: str, before: OvfStore, stored: Stored
    ) -> frozenset[VmId]:
        """Return whose old documents nothing else tells of.

        Those are of VMs that wait to be registered, and of ours that cannot be read.
        """
        ours = {each.vm.spec.vm_id for each in stored.vms}
        deleted = self._vms.foreign(storage_domain_id).deleted
        is_complete = self._vms.is_complete(stored)
        return frozenset(
            vm_id
            for vm_id in before.documents
            if vm_id not in ours
            and self._tells(
                before.documents[vm_id],
                deleted.get(vm_id, 0),
                is_complete=is_complete,
            )
        )

    def _tells(self, data: bytes, deleted: int, *, is_complete: bool) -> bool:
        """Tell whether a document may be of a VM that is nowhere else."""
        try:
            ovf = reading.read(data)
        except DamagedOvf:
            return True  # a person may mend it
        is_ours = any(each.pool_id == self._pool.pool_id for each in ovf.disks)
        return ovf.generation > deleted and not (is_ours and is_complete)

    def _volumes(self, disk_id: DiskId) -> tuple[ActualVolume, ...]:
        """Return a disk's volumes, wherever in the pool; none: it is away."""
        for sight in self._catalog.find(disk_id):
            try:
                access = self._pool.access(sight.storage_domain_id)
                return self._catalog.volumes(access, disk_id)
            except Error as error:
                log.info("disk %s is not described: %s", disk_id, error)
        return ()

    def _states(self, vms: tuple[Vm, ...]) -> Mapping[VmId, int]:
        """Return the states of VMs, by their leases; what is not known may run."""
        states, silent = dict.fromkeys(_ids(vms), _UP), set[str | None]()
        for vm in vms:
            if vm.template is not None:
                states[vm.spec.vm_id] = _DOWN
                continue
            where = vm.spec.lease_domain_id or vm.home
            if where in silent:
                continue
            try:
                if self._leasing.is_free(self._pool, vm):
                    states[vm.spec.vm_id] = _DOWN
            except Unavailable as error:
                log.info("leases of %s are not read: %s", where, error)
                silent.add(where)
            except Error as error:
                log.debug("VM %s may run: %s", vm.spec.vm_id, error)
        return states

    def _signature(
        self, stored: Stored, storage_domain_id: str, states: Mapping[VmId, int]
    ) -> Signature:
        return tuple(
            (each.spec.vm_id, states[each.spec.vm_id], self._shape_of(each))
            for each in _of(stored, storage_domain_id)
        )

    def _shape_of(self, vm: Vm) -> object:
        """Return what a VM's document depends on."""
        return (
            vm.generation,
            vm.home,
            vm.spec.name,  # a version's changes with its base
            tuple(_shape(self._catalog.find(each.disk_id)) for each in vm.spec.disks),
        )

    # reading

    def _stores(self, access: Access) -> tuple[StoreAt, ...]:
        """Return the OVF_STOREs of a storage domain that can be used."""
        known = self._catalog.sight(access.storage_domain_id)
        if known is None:
            known = self._catalog.refresh(access)
        found = []
        for image_id, sight in sorted(known.images.items()):
            if sight.content is not ContentType.OVF_STORE or len(sight.volumes) != 1:
                continue
            try:
                meta = self._meta(access, image_id)
            except DiskMissing:
                continue  # it went since
            label = description.read(meta.description)
            if not isinstance(label, StoreLabel):
                label = StoreLabel(False)
            if meta.volume_format is Format.RAW and meta.parent_id is None:
                found.append(StoreAt(image_id, sight.volumes[0], label))
        return tuple(found)

    def _meta(self, access: Access, disk_id: str) -> VolumeMeta:
        disk = self._catalog.place(access, disk_id).require()
        (volume_id,) = disk.own() or ("",)
        return facts.meta_of(disk, volume_id)

    def _content(self, access: Access, at: StoreAt) -> Iterator[bytes]:
        """Yield what lies there."""
        size_bytes = at.label.size_bytes
        assert size_bytes is not None, "one that is whole has a size"
        files = access.files(self._guard, deadline_s=DEADLINE_S)
        path = str(access.layout.volume(at.disk_id, at.volume_id))
        for offset in range(0, size_bytes, DATA_MAX):
            wanted = min(DATA_MAX, size_bytes - offset)
            piece = files.read_at(path, offset, wanted + -wanted % _BLOCK)
            yield piece[:wanted]


def store_id(storage_domain_id: str, number: int) -> str:
    """Return the id of an OVF_STORE that we make: asked twice, it is the same."""
    space = uuid.UUID(storage_domain_id)
    return str(uuid.uuid5(space, f"ovf_store {number}"))


def _joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in pieces of DATA_MAX, the last one smaller."""
    gathered = bytearray()
    for piece in pieces:
        gathered += piece
        while len(gathered) >= DATA_MAX:
            yield bytes(gathered[:DATA_MAX])
            del gathered[:DATA_MAX]
    if gathered:
        yield bytes(gathered)


def _missing(storage_domain_id: str, stores: Iterable[StoreAt]) -> tuple[str, ...]:
    """Return the ids of those that are to be made."""
    known = {each.disk_id for each in stores}
    ids = (store_id(storage_domain_id, each) for each in range(alternation.STORES))
    wanted = max(0, alternation.STORES - len(known))
    return tuple(each for each in ids if each not in known)[:wanted]


def _of(stored: Stored, storage_domain_id: str) -> tuple[Vm, ...]:
    """Return the VMs whose home, or a disk, is on a storage domain."""
    vms = templates.named(each.vm for each in stored.vms)
    return tuple(
        replace(vm, home=StorageDomainId(each.home))
        for each, vm in zip(stored.vms, vms, strict=True)
        if each.home == storage_domain_id
        or any(d.storage_domain_id == storage_domain_id for d in vm.spec.disks)
    )


def _ids(vms: Iterable[Vm]) -> tuple[VmId, ...]:
    return tuple(each.spec.vm_id for each in vms)


def _shape(sights: Iterable[ImageSight]) -> tuple[object, ...]:
    """Return what a document tells of a disk."""
    return tuple(
        (each.storage_domain_id, each.volumes, each.size_bytes) for each in sights
    )
