"""Make an empty file storage domain, look for those that exist, destroy one.

What is made is complete only when its metadata are there: they are written last, so
what was interrupted is no storage domain yet and is made again over its remains.
Destroying goes the other way round: under the storage domain's own lease its metadata
get another name, after which no pool can take it; the rest goes when the lease is back.
 Layout: docs/formats/storage-domain.md.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from node.errors import Conflict, Denied, Error
from node.model.ids import NodeId
from node.storage.domains import DomainFiles, FileKind
from node.storage.domains.access import Access, LocalFolders
from node.storage.formats import domain_meta, layout, xlease_index
from node.storage.formats.domain_meta import DomainMeta
from node.storage.formats.layout import (
    FILE_MODE,
    FOLDER_MODE,
    MAILBOX_SIZE,
    OWNER_ID,
    Layout,
    Special,
)
from node.storage.guard import Guard
from node.storage.process.file_operations import FileMissing
from node.storage.process.protocol import Need
from node.storage.spm import pool_rules, presence, structure_lease
from node.system.leases import IO_TIMEOUT_S

log = logging.getLogger(__name__)

_DENIED: Final = frozenset({"EACCES", "EPERM", "EROFS"})
_REMOVED: Final = "_remove_me_"


class FolderTaken(Conflict):
    """Another storage domain lies in the folder."""

    code = "storage_folder_taken"
    remedy = "Import the storage domain that is there, or choose an empty folder."


class WrongOwner(Denied):
    """The storage user cannot write where the storage domain shall be."""

    code = "storage_folder_denied"
    remedy = (
        f"On the server: chown {OWNER_ID}:{OWNER_ID} and chmod 0771 the folder that "
        "the message names; export it for writing."
    )


class StillAttached(Conflict):
    """A pool uses the storage domain."""

    code = "storage_domain_in_pool"
    remedy = "Detach it from its pool first."


def make(
    guard: Guard,
    access: Access,
    meta: DomainMeta,
    now_s: int,
    local_folders: LocalFolders,
    io_timeout_s: int = IO_TIMEOUT_S,
) -> None:
    """Make a storage domain that has no disk and belongs to no pool. Idempotent.

    Raises FolderTaken, WrongOwner, NotLocal, and what files and leases raise.
    """
    local_folders.check(access)
    above = access.files_above(guard)
    place = access.layout
    with explained(place.root.parent):
        _check_folder(above, place)
        if _is_file(above, place.special(Special.METADATA)):
            if access.meta(guard).storage_domain_id == meta.storage_domain_id:
                return  # asked again
            raise FolderTaken(f"{place.root} bears another storage domain")
        for folder in place.folders():
            above.make_folder(str(folder), FOLDER_MODE)
        if above.list(str(place.images)):
            raise FolderTaken(f"{place.images} holds disks, but nothing says whose")
        files = access.files(guard)
        _make_special(guard, access, files, now_s, io_timeout_s)
        files.write_whole(
            str(place.special(Special.METADATA)), domain_meta.write(meta), FILE_MODE
        )
    log.info("made storage domain %s in %s", meta.storage_domain_id, place.root)


def look(files: DomainFiles, folder: PurePosixPath) -> tuple[Layout, ...]:
    """Return the storage domains in a folder, whatever their state."""
    with explained(folder):
        names = [
            each.name
            for each in files.list(str(folder))
            if each.kind is FileKind.FOLDER and layout.is_id(each.name)
        ]
        places = [Layout(folder / name) for name in names]
        return tuple(
            place
            for place in places
            if _is_file(files, place.special(Special.METADATA))
        )


def destroy(
    guard: Guard, access: Access, node_id: NodeId, io_timeout_s: int = IO_TIMEOUT_S
) -> None:
    """Destroy a storage domain and all that is on it. Idempotent.

    Raises StillAttached, SpmHeld while somebody claims it, and what joining raises.
    """
    above, place = access.files_above(guard), access.layout
    metadata = place.special(Special.METADATA)
    doomed = metadata.with_name(f"{_REMOVED}{metadata.name}")
    gone = place.root.with_name(f"{_REMOVED}{place.root.name}")
    with explained(place.root.parent):
        if _is_file(above, metadata):
            _check_unattached(access.meta(guard))
            with _claimed(guard, access, node_id, io_timeout_s) as needs:
                _check_unattached(access.meta(guard))
                access.files(guard, needs).rename(str(metadata), str(doomed))
        if _is_file(above, doomed):
            structure_lease.release(guard, access)
            structure_lease.leave(guard, access)
            above.rename(str(place.root), str(gone))
        above.remove_tree(str(gone))
    log.info("destroyed storage domain %s", place.root.name)


@contextlib.contextmanager
def explained(folder: PurePosixPath) -> Iterator[None]:
    """Say what to do where the storage user may not write: WrongOwner."""
    try:
        yield
    except Error as error:
        if error.fields.get("errno") not in _DENIED:
            raise
        path = str(error.fields.get("path", folder))
        raise WrongOwner(
            f"the storage user ({OWNER_ID}:{OWNER_ID}) may not write {path}", path=path
        ) from error


@contextlib.contextmanager
def _claimed(
    guard: Guard, access: Access, node_id: NodeId, io_timeout_s: int
) -> Iterator[tuple[Need, ...]]:
    """Hold the storage domain's own lease; oVirt's ISO storage domains have none."""
    if not pool_rules.has_leases(access.meta(guard)):
        yield ()
        return
    with structure_lease.holding(guard, access, node_id, io_timeout_s) as need:
        yield (need,)


def _check_unattached(meta: DomainMeta) -> None:
    if meta.pool_ids:
        raise StillAttached(
            f"storage domain {meta.storage_domain_id} belongs to pool "
            f"{meta.pool_ids[0]}",
            pool_id=meta.pool_ids[0],
        )


def _make_special(
    guard: Guard, access: Access, files: DomainFiles, now_s: int, io_timeout_s: int
) -> None:
    place, alignment = access.layout, access.alignment_bytes
    index = xlease_index.index_offset(alignment)
    sizes = {
        Special.IDS: alignment,
        Special.LEASES: (layout.SPM_SLOT + 1) * alignment,
        Special.XLEASES: index + alignment,
        Special.INBOX: MAILBOX_SIZE,
        Special.OUTBOX: MAILBOX_SIZE,
    }
    for name, size_bytes in sizes.items():
        special = str(place.special(name))
        files.make_file(special, size_bytes, FILE_MODE, is_preallocated=False)
    area = str(place.presence)
    files.make_file(area, presence.AREA_BYTES, FILE_MODE, is_preallocated=False)
    guard.write_lockspace(access.lockspace, io_timeout_s)
    guard.write_resource(access.spm_lease)
    path = str(place.special(Special.XLEASES))
    lockspace = place.storage_domain_id
    for is_updating in (True, False):
        data = xlease_index.empty(lockspace, now_s, is_updating=is_updating)
        files.write_at(path, index, data)


def _check_folder(files: DomainFiles, place: Layout) -> None:
    others = [found for found in look(files, place.root.parent) if found != place]
    if others:
        raise FolderTaken(
            f"{place.root.parent} holds storage domain {others[0].storage_domain_id}",
            storage_domain_id=others[0].storage_domain_id,
        )


def _is_file(files: DomainFiles, path: PurePosixPath) -> bool:
    try:
        return files.stat(str(path)).kind is FileKind.FILE
    except Error as error:
        if error.code != FileMissing.code:
            raise
        return False
