"""Read and write whether a guest has turned away from a leaf; see `disks.turned`.

It is written by the node that runs the guest, whose storage process holds the VM's
lease then: without it the write is refused, however late it comes.
"""

from typing import Final

from node.contract.snapshots import Leaf
from node.model.ids import DiskId
from node.storage.disks import turned
from node.storage.domains.access import Access
from node.storage.domains.catalog import Catalog
from node.storage.formats import volume_meta
from node.storage.formats.layout import FILE_MODE
from node.storage.formats.volume_meta import VolumeMeta
from node.storage.guard import Guard
from node.storage.process.protocol import Need

_DEADLINE_S: Final = 10.0  # a guest stands still meanwhile


def is_closed(catalog: Catalog, access: Access, leaf: Leaf) -> bool:
    """Tell whether a leaf's guest has turned to its parent for good."""
    return turned.is_closed(_meta(catalog, access, leaf), leaf.parent_id)


def close(
    guard: Guard, catalog: Catalog, access: Access, leaf: Leaf, need: Need | None
) -> None:
    """Mark a leaf. Idempotent. `need` None: no other node can start the VM."""
    meta = _meta(catalog, access, leaf)
    if meta is None or turned.is_closed(meta, leaf.parent_id):
        return
    needs = () if need is None else (need,)
    files = access.files(guard, needs, _DEADLINE_S)
    mark = access.layout.volume_turned(leaf.disk_id, leaf.volume_id)
    files.write_whole(str(mark), b"", FILE_MODE)
    path = access.layout.volume_meta(leaf.disk_id, leaf.volume_id)
    files.write_whole(str(path), volume_meta.write(turned.close(meta)), FILE_MODE)


def _meta(catalog: Catalog, access: Access, leaf: Leaf) -> VolumeMeta | None:
    """Return what lies there of a leaf; None: it is gone, or was never made."""
    disk = catalog.place(access, DiskId(leaf.disk_id)).disk
    volume = disk.image.volumes.get(leaf.volume_id) if disk is not None else None
    return volume.meta if volume is not None else None
