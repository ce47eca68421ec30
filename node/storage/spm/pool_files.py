"""Read and write what a storage domain says of its pool: map, metadata, our folders.

Who writes names the leases without which it may not; `pool` decides. Reading asks all
storage domains at once, so that one that hangs costs no more than its own answer.
"""

import functools
import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from node.errors import Error
from node.storage import aside
from node.storage.domains.access import LOOK_S, Access
from node.storage.formats import domain_meta, journal, pool_map
from node.storage.formats.domain_meta import DomainMeta
from node.storage.formats.layout import FILE_MODE, FOLDER_MODE, Special
from node.storage.formats.pool_map import OtherPool, PoolMap
from node.storage.guard import Guard
from node.storage.process.file_operations import FileMissing
from node.storage.process.protocol import Need
from node.storage.spm import presence

log = logging.getLogger(__name__)

# The storage process gives up after LOOK_S; then its answer has to reach us.
_ANSWER_S: Final = 1.0


def read_map(guard: Guard, access: Access, pool_id: str) -> PoolMap | None:
    """Return a storage domain's map; None: it has none. OtherPool."""
    files = access.files(guard, deadline_s=LOOK_S)
    try:
        data = files.read(str(access.layout.pool_map), pool_map.SIZE_MAX)
    except Error as error:
        if error.code != FileMissing.code:
            raise
        return None
    found = pool_map.parse(data)
    if found.pool_id != pool_id:
        raise OtherPool(
            f"storage domain {access.storage_domain_id} has the map of pool "
            f"{found.pool_id}",
            pool_id=found.pool_id,
        )
    return found


def read_maps(
    guard: Guard, accesses: Iterable[Access], pool_id: str
) -> dict[str, PoolMap | None]:
    """Return the maps of those storage domains that answer in time; None: no map.

    One that cannot be read, or has another pool's map, is passed over.
    """
    everybody = sorted(accesses, key=lambda each: each.storage_domain_id)
    reads = [functools.partial(read_map, guard, each, pool_id) for each in everybody]
    answers = aside.at_once("pool-map", reads, LOOK_S + _ANSWER_S)
    found: dict[str, PoolMap | None] = {}
    for access, answer in zip(everybody, answers, strict=True):
        storage_domain_id = access.storage_domain_id
        if not answer.done():
            log.info("map of %s does not count: it takes long", storage_domain_id)
            continue
        try:
            found[storage_domain_id] = answer.result()
        except Error as error:
            log.info("map of %s does not count: %s", storage_domain_id, error)
    return found


def put_map(
    guard: Guard, access: Access, new: PoolMap, needs: tuple[Need, ...]
) -> None:
    """Write a storage domain's copy of the map."""
    path = str(access.layout.pool_map)
    files = access.files(guard, needs)
    files.make_folder(str(access.layout.pool_map.parent), FOLDER_MODE)
    files.write_whole(path, pool_map.write(new), FILE_MODE)


def remove_map(guard: Guard, access: Access, needs: tuple[Need, ...]) -> None:
    """Remove a storage domain's copy of the map. Idempotent."""
    access.files(guard, needs).remove(str(access.layout.pool_map))


def put_meta(
    guard: Guard,
    access: Access,
    new: DomainMeta,
    old: DomainMeta,
    needs: tuple[Need, ...],
) -> None:
    """Write metadata if they are not what was read."""
    if new == old:
        return
    path = str(access.layout.special(Special.METADATA))
    access.files(guard, needs).write_whole(path, domain_meta.write(new), FILE_MODE)


def mend_role(
    guard: Guard, access: Access, known: PoolMap, needs: tuple[Need, ...]
) -> None:
    """Let a storage domain's metadata name the role that the map gives it."""
    meta = access.meta(guard, LOOK_S)
    role = known.role(access.storage_domain_id)
    put_meta(guard, access, replace(meta, role=role), meta, needs)


def make_ready(guard: Guard, access: Access, needs: tuple[Need, ...]) -> None:
    """Let a storage domain have all that a master has, and nothing of other times.

    The last of the needs is its own. Idempotent.
    """
    _set_aside(guard, access, needs)
    place, files = access.layout, access.files(guard, needs)
    files.make_folder(str(place.pool_map.parent), FOLDER_MODE)
    files.make_folder(str(place.journals), FOLDER_MODE)
    area, size_bytes = str(place.presence), presence.AREA_BYTES
    files.make_file(area, size_bytes, FILE_MODE, is_preallocated=False)


def _set_aside(guard: Guard, access: Access, needs: tuple[Need, ...]) -> None:
    """Let nobody go on with what another master's time left there.

    Since then the disks went on without it: a master that was dead has journals of
    what was undone or mended elsewhere. They are kept for people to read.
    """
    place, files = access.layout, access.files(guard, needs)
    if found := journals(guard, access):
        kept = str(place.old_journals(needs[-1].version))
        log.warning("%d journals of another time are now in %s", len(found), kept)
        files.rename(str(place.journals), kept)
    files.remove(str(place.data_jobs))


def journals(guard: Guard, access: Access) -> tuple[str, ...]:
    """Return the journals there: jobs that have not ended."""
    files = access.files(guard, deadline_s=LOOK_S)
    try:
        entries = files.list(str(access.layout.journals))
    except Error as error:
        if error.code != FileMissing.code:
            raise
        return ()
    names = (each.name for each in entries)
    return tuple(sorted(each for each in names if journal.read_name(each)))
