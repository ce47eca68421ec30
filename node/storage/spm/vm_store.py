"""Keep the definitions of VMs on their home storage domains, as the pool's manager.

`<storage domain>/master/vms/<vm id>/definition`; see `vm_file`. A change names the
generation that it is based on and is refused if another came first. A VM that moves
is written to its new home before its old copy goes, and a deletion leaves a tombstone
on every active data storage domain, the master first: whatever stops in between, or
was away, loses by its generation. A file that is damaged or newer is told of, and no
copy of that VM is changed. A storage domain that is away stops only its own VMs.

A tombstone goes when it is old and every data storage domain of the pool is active
and was read: then no older copy is left that could come back.
"""

import contextlib
import functools
import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from node.clock import Clock, parse_rfc3339, rfc3339
from node.contract import definitions, snapshots
from node.contract.definitions import DiskGone, DiskMoved, Placing
from node.contract.snapshots import Act, Change, DefinitionChanged
from node.errors import Conflict, Error, NotFound, Unavailable
from node.model.ids import DiskId, StorageDomainId, VmId
from node.model.vm import Vm
from node.storage import aside
from node.storage.domains import FileKind
from node.storage.domains.access import Access
from node.storage.formats import layout, vm_file
from node.storage.formats.domain_meta import DomainClass
from node.storage.formats.layout import FILE_MODE, FOLDER_MODE
from node.storage.formats.pool_map import PoolDomainState
from node.storage.formats.vm_file import VmFile
from node.storage.guard import Guard
from node.storage.process.file_operations import DATA_MAX, FileExists, FileMissing
from node.storage.spm import pool_rules
from node.storage.spm.pool import Pool
from node.storage.spm.term import Term
from node.units import HOUR_S

log = logging.getLogger(__name__)

DEADLINE_S: Final = 10.0
_ANSWER_S: Final = 1.0  # what the storage process needs to say that it took too long
# A storage domain that was away for so long is known to be active when it counts.
TOMBSTONE_KEPT_S: Final = 24 * HOUR_S
# Others may change the same definition in between, but not on and on.
CHANGES_MAX: Final = 5


class VmNotStored(NotFound):
    code = "vm_not_stored"
    remedy = "Check the VM's id, and whether its storage domain is active."


class VmMoved(Conflict):
    """The definition changed since the caller looked."""

    code = "vm_generation_moved"
    remedy = "Read the definition again, and decide anew."


class VmDeleted(Conflict):
    """The id was a VM's, which is deleted."""

    code = "vm_was_deleted"
    remedy = "Choose a new random UUID for each VM."


class VmAway(Unavailable):
    """The newest definition lies where nobody can read it now."""

    code = "vm_home_away"
    remedy = "Bring the storage domain that the message names back."


class DefinitionLate(Unavailable):
    code = "vm_definition_late"
    remedy = "Try again; see what the storage domain's path says."


@dataclass(frozen=True, slots=True)
class StoredVm:
    vm: Vm
    home: str  # the storage domain that it lies on


@dataclass(frozen=True, slots=True)
class VmProblem:
    """A file that cannot be believed, or a storage domain that cannot be read."""

    storage_domain_id: str
    vm_id: str  # "": the storage domain
    error: Error


@dataclass(frozen=True, slots=True)
class Stored:
    """All that was found at one time; a VM with a problem is not among the VMs."""

    vms: tuple[StoredVm, ...] = ()
    problems: tuple[VmProblem, ...] = ()

    def volume_in(self, snapshot_id: str, disk_id: str) -> str | None:
        """Return what a disk was at a whole snapshot; None: there is none."""
        for each in self.vms:
            for snapshot in each.vm.snapshots:
                is_asked = snapshot.snapshot_id == snapshot_id
                if is_asked and snapshots.is_whole(snapshot):
                    found = {e.disk_id: e.volume_id for e in snapshot.disks}
                    return found.get(DiskId(disk_id))
        return None


@dataclass(frozen=True, slots=True)
class Foreign:
    """What one storage domain holds that is no VM of this pool."""

    vms: tuple[StoredVm, ...] = ()  # definitions of another pool's VMs
    deleted: Mapping[str, int] = field(default_factory=dict)  # generations, by VM
    problems: tuple[VmProblem, ...] = ()


@dataclass(slots=True)
class _Found:
    """What storage domains hold: copies by VM and storage domain, and complaints."""

    copies: dict[str, dict[str, VmFile]] = field(default_factory=dict)
    # The same of VMs that name another pool: they are not ours until registered.
    foreign: dict[str, dict[str, VmFile]] = field(default_factory=dict)
    damaged: dict[str, VmProblem] = field(default_factory=dict)  # by VM
    unread: dict[str, Error] = field(default_factory=dict)  # by storage domain

    def add(self, other: "_Found") -> None:
        for vm_id, copies in other.copies.items():
            self.copies.setdefault(vm_id, {}).update(copies)
        for vm_id, copies in other.foreign.items():
            self.foreign.setdefault(vm_id, {}).update(copies)
        self.damaged.update(other.damaged)
        self.unread.update(other.unread)


class VmStore:
    """The definitions of one pool's VMs. Any thread may call."""

    def __init__(self, pool: Pool, guard: Guard, clock: Clock) -> None:
        self._pool = pool
        self._guard = guard
        self._clock = clock
        self.changes = 0  # how many definitions this node has written, or deleted
        self._changing = threading.Lock()  # one change at a time
        # The highest (generation, home) of each VM that this node has seen.
        self._seen: dict[str, tuple[int, str]] = {}

    def list(self) -> Stored:
        """Return the definitions within reach; what is wrong is part of the answer."""
        found = self._find_all()
        vms: list[StoredVm] = []
        problems = [
            VmProblem(where, "", error) for where, error in found.unread.items()
        ]
        for vm_id, copies in sorted(found.copies.items()):
            if vm_id in found.damaged:
                continue
            try:
                home = self._newest(vm_id, found)
            except Error as error:
                problems.append(VmProblem(min(copies), vm_id, error))
                continue
            vm = copies[home].vm if home is not None else None
            if home is not None and vm is not None:
                vms.append(StoredVm(vm, home))
        return Stored(tuple(vms), (*problems, *found.damaged.values()))

    def foreign(self, storage_domain_id: str) -> Foreign:
        """Return what lies on an active storage domain and is no VM of this pool.

        Raises what its files raise.
        """
        found = _Found()
        self._find_on(storage_domain_id, found)
        return Foreign(
            tuple(
                StoredVm(each.vm, storage_domain_id)
                for _, copies in sorted(found.foreign.items())
                for each in copies.values()
                if each.vm is not None
            ),
            {
                vm_id: each.generation
                for vm_id, copies in found.copies.items()
                for each in copies.values()
                if each.vm is None
            },
            tuple(found.damaged.values()),
        )

    def waiting(self) -> frozenset[str]:
        """Return which VMs of other pools lie within reach, to be registered."""
        return frozenset(self._find_all().foreign)

    def is_complete(self, stored: Stored) -> bool:
        """Tell whether these are all definitions of the pool: none is away."""
        return not stored.problems and self._is_all_active()

    def read(self, vm_id: VmId) -> StoredVm:
        """Return one definition.

        Raises VmNotStored, VmAway, VmFileDamaged, NewerVmFile and VmFilesDiffer.
        """
        found = self._find(layout.check_id(vm_id))
        copies = found.copies.get(vm_id, {})
        home = self._newest(vm_id, found)
        vm = copies[home].vm if home is not None else None
        if home is not None and vm is not None:
            return StoredVm(vm, home)
        if home is None and found.unread:
            raise next(iter(found.unread.values()))
        raise VmNotStored(f"VM {vm_id} is on no active storage domain", vm_id=vm_id)

    def write(self, vm: Vm, home: str, based_on: int) -> None:
        """Put a definition in place; `based_on` is the generation before, 0: none.

        Idempotent. Raises VmMoved, VmDeleted, VmAway, VmFileDamaged, NewerVmFile,
        VmFilesDiffer, NotSpm, SpmLost, and what files raise.
        """
        assert vm.generation > based_on, "a change raises the generation"
        vm_id = layout.check_id(vm.spec.vm_id)
        now = rfc3339(self._clock.now())
        file = VmFile(vm_file.SCHEMA, vm.spec.vm_id, vm.generation, now, vm)
        data = vm_file.write(file)
        with self._changing, self._pool.spm.work() as term:
            found = self._find(vm_id)
            copies = found.copies.get(vm_id, {})
            at = self._newest(vm_id, found)
            if at == home and copies[home].vm == vm:
                return
            newest = copies[at] if at is not None else None
            if newest is not None and newest.vm is None:
                raise VmDeleted(f"VM {vm_id} was deleted", vm_id=vm_id)
            _check_base(vm_id, newest.generation if newest is not None else 0, based_on)
            if at is not None and at != home:
                self._carry_variables(term, vm_id, at, home)
            self._put(term, home, vm_id, data)
            self.changes += 1
            self._seen[vm_id] = (vm.generation, home)
            self._drop(term, vm_id, set(copies) - {home})
        log.info("VM %s: generation %d on %s", vm_id, vm.generation, home)

    def find(self, vm_id: VmId) -> StoredVm | None:
        """Return one definition; None: there is none. As `read`."""
        try:
            return self.read(vm_id)
        except VmNotStored:
            return None

    def change(self, change: Change) -> Vm | None:
        """Apply a change of snapshots where the definition lies, and return that.

        Idempotent. None: the VM was deleted, and its disks are merged all the same.
        Raises DefinitionChanged, and as `write`.
        """
        for attempt in itertools.count(1):
            stored = self.find(change.vm_id)
            if stored is None and change.act is Act.FOLD:
                return None
            if stored is None:
                raise DefinitionChanged(f"VM {change.vm_id} is not there any more")
            changed = snapshots.apply(stored.vm, change)
            if changed is stored.vm:
                break
            try:
                self.write(changed, stored.home, stored.vm.generation)
            except VmMoved:
                if attempt == CHANGES_MAX:
                    raise
            else:
                break
        return changed

    def follow(
        self, defined: DiskMoved | DiskGone, prepare: Callable[[Vm, str], None]
    ) -> StoredVm | None:
        """Let a definition know what became of a disk; None: it was deleted.

        `prepare` makes what the VM needs on the storage domain that it moves to, with
        its last disk. Idempotent. As `write`.
        """
        for attempt in itertools.count(1):
            stored = self.find(defined.vm_id)
            if stored is None:
                return None
            changed = definitions.follow(stored.vm, defined)
            if changed is stored.vm:
                return stored
            home = stored.home
            if isinstance(defined, DiskMoved):
                home = definitions.home_of(changed, StorageDomainId(home))
            if home != stored.home:
                prepare(changed, home)
            changed = replace(changed, home=StorageDomainId(home))
            try:
                self.write(changed, home, stored.vm.generation)
            except VmMoved:
                if attempt == CHANGES_MAX:
                    raise
            else:
                return StoredVm(changed, home)
        raise AssertionError("the last attempt returns, or raises")

    def place(self, placing: Placing) -> None:
        """Put a whole definition in place, or take it away. Idempotent.

        Raises DefinitionChanged if another came first, and as `write`.
        """
        try:
            if placing.vm is None:
                self.delete(placing.places, placing.based_on)
            else:
                self.write(placing.vm, placing.home, placing.based_on)
        except (VmMoved, VmDeleted) as error:
            raise DefinitionChanged(str(error), vm_id=placing.places) from error

    def delete(self, vm_id: VmId, based_on: int) -> None:
        """Delete a definition, and leave tombstones. Idempotent. As `write`.

        A definition that this node has read may be deleted although its home is away.
        """
        layout.check_id(vm_id)
        with self._changing, self._pool.spm.work() as term:
            found = self._find(vm_id)
            copies = found.copies.get(vm_id, {})
            at = vm_file.newest(copies)
            newest = copies[at] if at is not None else None
            if newest is not None and newest.vm is None:
                return
            generation = self._seen_away(vm_id, found)
            if newest is not None:
                generation = max(generation, newest.generation)
            if generation == 0 and found.unread:
                raise next(iter(found.unread.values()))
            if generation == 0:
                return
            _check_base(vm_id, generation, based_on)
            now = rfc3339(self._clock.now())
            tombstone = VmFile(vm_file.SCHEMA, vm_id, generation + 1, now)
            self._bury(term, vm_id, vm_file.write(tombstone))
            self.changes += 1
            self._seen.pop(vm_id, None)
        log.info("VM %s: deleted at generation %d", vm_id, generation + 1)

    def tidy(self) -> None:
        """Remove copies that lose, and tombstones that nothing can contradict."""
        oldest = self._clock.now() - timedelta(seconds=TOMBSTONE_KEPT_S)
        with self._changing, self._pool.spm.work() as term:
            found = self._find_all()
            is_complete = not found.unread and self._is_all_active()
            for vm_id, copies in sorted(found.copies.items()):
                if vm_id not in found.damaged:
                    losers = _losers(copies, oldest if is_complete else None)
                    self._drop(term, vm_id, losers)

    def _newest(self, vm_id: str, found: _Found) -> str | None:
        """Return where the newest copy lies; VmAway if this node has seen a newer."""
        copies = found.copies.get(vm_id, {})
        home = vm_file.newest(copies)
        generation = copies[home].generation if home is not None else 0
        away = self._seen_away(vm_id, found)
        if away > generation:
            _, where = self._seen[vm_id]
            raise VmAway(
                f"VM {vm_id} has generation {away} on storage domain {where}",
                vm_id=vm_id,
                storage_domain_id=where,
            )
        if home is not None and copies[home].vm is not None:
            self._seen[vm_id] = (generation, home)
        else:
            self._seen.pop(vm_id, None)
        return home

    def _seen_away(self, vm_id: str, found: _Found) -> int:
        """Return the generation that was seen on a storage domain that is away."""
        generation, where = self._seen.get(vm_id, (0, ""))
        return generation if where in found.unread else 0

    def _is_all_active(self) -> bool:
        return all(
            each.state is PoolDomainState.ACTIVE
            for each in self._pool.map.domains
            if each.domain_class is DomainClass.DATA
        )

    def _find(self, vm_id: str) -> _Found:
        """Return the copies of one VM; VmFileDamaged and NewerVmFile.

        All storage domains are asked at once: one that hangs costs its deadline once.
        """

        def read(storage_domain_id: str) -> _Found:
            own = _Found()
            with _noted(own, storage_domain_id):
                self._add(self._pool.access(storage_domain_id), vm_id, own)
            return own

        asked = sorted(pool_rules.active_data(self._pool.map))
        reads = [functools.partial(read, each) for each in asked]
        answers = aside.at_once("vm-definition", reads, DEADLINE_S + _ANSWER_S)
        found = _Found()
        for storage_domain_id, answer in zip(asked, answers, strict=True):
            if answer.done():
                found.add(answer.result())
            else:
                text = f"storage domain {storage_domain_id} takes long"
                found.unread[storage_domain_id] = DefinitionLate(text)
        if vm_id in found.damaged:
            raise found.damaged[vm_id].error
        return found

    def _find_all(self) -> _Found:
        found = _Found()
        for storage_domain_id in pool_rules.active_data(self._pool.map):
            with _noted(found, storage_domain_id):
                self._find_on(storage_domain_id, found)
        return found

    def _find_on(self, storage_domain_id: str, found: _Found) -> None:
        access = self._pool.access(storage_domain_id)
        files = access.files(self._guard, deadline_s=DEADLINE_S)
        for entry in files.list(str(access.layout.vms)):
            # Any other name is oVirt's, or nobody's: never made into a path.
            if layout.is_id(entry.name) and entry.kind is FileKind.FOLDER:
                self._add(access, entry.name, found)

    def _add(self, access: Access, vm_id: str, found: _Found) -> None:
        """Add one storage domain's copy of a VM; Unavailable."""
        files = access.files(self._guard, deadline_s=DEADLINE_S)
        where, path = access.storage_domain_id, access.layout.vm(vm_id) / vm_file.NAME
        try:
            file = vm_file.parse(files.read(str(path), vm_file.SIZE_MAX), vm_id)
        except Unavailable:
            raise
        except Error as error:
            if error.code != FileMissing.code:
                log.error("%s: %s", path, error)
                found.damaged[vm_id] = VmProblem(where, vm_id, error)
            return
        ours = (None, self._pool.pool_id)
        is_foreign = file.vm is not None and file.vm.spec.pool_id not in ours
        copies = found.foreign if is_foreign else found.copies
        copies.setdefault(vm_id, {})[where] = file

    def _put(self, term: Term, where: str, vm_id: str, data: bytes) -> None:
        access = self._pool.access(where)
        files = access.files(self._guard, term.needs(where), DEADLINE_S)
        folder = access.layout.vm(vm_id)
        files.make_folder(str(folder), FOLDER_MODE)
        files.write_whole(str(folder / vm_file.NAME), data, FILE_MODE)

    def _carry_variables(self, term: Term, vm_id: str, source: str, home: str) -> None:
        """Copy what a VM's firmware remembers to its new home; the VM is down."""
        old, new = self._pool.access(source), self._pool.access(home)
        path = str(old.layout.vm_variables(vm_id))
        try:
            data = old.files(self._guard, deadline_s=DEADLINE_S).read(path, DATA_MAX)
        except Error as error:
            if error.code != FileMissing.code:
                raise
            return
        files = new.files(self._guard, term.needs(home), DEADLINE_S)
        files.make_folder(str(new.layout.vm(vm_id)), FOLDER_MODE)
        files.write_whole(str(new.layout.vm_variables(vm_id)), data, FILE_MODE)

    def _bury(self, term: Term, vm_id: str, tombstone: bytes) -> None:
        """Put a tombstone everywhere; from the first on, on the master, it counts."""
        self._put(term, term.master_id, vm_id, tombstone)
        for each in pool_rules.active_data(self._pool.map):
            try:
                self._put(term, each, vm_id, tombstone)
                access = self._pool.access(each)
                files = access.files(self._guard, term.needs(each), DEADLINE_S)
                files.remove(str(access.layout.vm_variables(vm_id)))
            except (Unavailable, NotFound) as error:
                log.info("no tombstone of VM %s on %s: %s", vm_id, each, error)

    def _drop(self, term: Term, vm_id: str, where: Iterable[str]) -> None:
        """Remove copies that a newer one makes void; those out of reach stay void."""
        for storage_domain_id in sorted(where):
            access = self._pool.access(storage_domain_id)
            folder = access.layout.vm(vm_id)
            try:
                needs = term.needs(storage_domain_id)
                files = access.files(self._guard, needs, DEADLINE_S)
                files.remove(str(access.layout.vm_variables(vm_id)))
                files.remove(str(folder / vm_file.NAME))
                files.remove(str(folder))
            except Error as error:
                is_kept = error.code == FileExists.code  # somebody's file is in there
                if not is_kept and not isinstance(error, Unavailable):
                    raise
                log.info("old copy of VM %s on %s: %s", vm_id, storage_domain_id, error)


@contextlib.contextmanager
def _noted(found: _Found, storage_domain_id: str) -> Iterator[None]:
    """Write down that a storage domain cannot be read, and go on without it."""
    try:
        yield
    except Error as error:
        found.unread[storage_domain_id] = error


def _check_base(vm_id: str, generation: int, based_on: int) -> None:
    """Refuse a change of what has changed meanwhile."""
    if generation != based_on:
        raise VmMoved(
            f"VM {vm_id} has generation {generation}, not {based_on}",
            vm_id=vm_id,
            generation=generation,
        )


def _losers(copies: Mapping[str, VmFile], oldest: datetime | None) -> frozenset[str]:
    """Return the storage domains whose copies may go. Pure.

    Tombstones before `oldest` go as well; None: other copies may be somewhere.
    """
    try:
        home = vm_file.newest(copies)
    except vm_file.VmFilesDiffer:
        return frozenset()
    newest = copies[home] if home is not None else None
    if newest is None or home is None:
        return frozenset()
    if newest.vm is not None:
        return frozenset(copies) - {home}
    is_old = oldest is not None and parse_rfc3339(newest.written_at) <= oldest
    live = {key for key, each in copies.items() if each.vm is not None}
    return frozenset(copies if is_old else live)
