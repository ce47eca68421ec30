"""Make the pool of this node's own disk: nobody is asked, and it is there for ever.

Its ids follow from the node's (`node.policy.local_pool`), so that what was interrupted
is gone on with.
"""

import os
from pathlib import Path, PurePosixPath

from node.errors import Failed
from node.model.ids import NodeId
from node.model.storage import Connection, DomainClass, DomainType, StorageDomain
from node.policy import local_pool
from node.storage.domains import formatting
from node.storage.domains.access import Access
from node.storage.formats import domain_meta
from node.storage.formats.domain_meta import DESCRIPTION_MAX, DomainMeta
from node.storage.formats.layout import FOLDER_MODE, OWNER_ID, Layout
from node.storage.pools.seat import Founding, Seat
from node.storage.pools.wanted import WantedPool
from node.storage.pools.world import World


class LocalFolderFailed(Failed):
    """The folder of the local storage domain cannot be made."""

    code = "local_storage_folder"
    remedy = "Mend what the message names, or choose another folder (local_storage)."


def wanted(node_id: NodeId, node_name: str, folder: Path) -> WantedPool:
    """Return the local pool as it shall be. Pure."""
    pool_id = local_pool.pool_id(node_id)
    name = f"{node_name}-local"[:DESCRIPTION_MAX]  # a fleet has one for each node
    storage_domain = StorageDomain(
        local_pool.storage_domain_id(node_id),
        name,
        DomainClass.DATA,
        Connection(DomainType.LOCALFS, os.fspath(folder)),
        pool_id=pool_id,
    )
    return WantedPool(pool_id, name, is_local=True, domains=(storage_domain,))


def founding(world: World) -> Founding:
    """Return what makes the local pool; asked again, it goes on."""

    def found(seat: Seat) -> None:
        (known,) = seat.wanted.domains
        folder = Path(known.connection.path)
        _make_folder(folder)
        access = Access(
            Layout(PurePosixPath(folder) / known.storage_domain_id),
            known.connection.path,
            is_local=True,
            connection=known.connection,
        )
        meta = DomainMeta(
            known.storage_domain_id,
            domain_meta.DomainType.LOCALFS,
            domain_meta.DomainClass.DATA,
            known.name,
            access.source,
        )
        now_s = int(world.clock.now().timestamp())
        formatting.make(world.guard, access, meta, now_s, world.reach.local_folders)
        seat.pool.create(access, seat.wanted.name)
        made = seat.wanted
        world.memory.change(lambda before: before.with_pool(made))

    return found


def _make_folder(folder: Path) -> None:
    """Make a folder that the storage user may write to; what is there stays."""
    try:
        if folder.is_dir():
            return
        folder.mkdir(parents=True)
        folder.chmod(FOLDER_MODE)
        if os.geteuid() == 0:
            os.chown(folder, OWNER_ID, OWNER_ID)
    except OSError as error:
        raise LocalFolderFailed(f"{folder}: {error}", path=str(folder)) from error
