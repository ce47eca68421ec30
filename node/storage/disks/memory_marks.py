"""Write down, in a volume that keeps a guest's memory, what may be done with it.

Pure. What is used is marked as a leaf that its guest has left (`turned`): that mark is
a file of its own, which nothing takes away but the volume's end. That it is saved is
a key of its metadata: who lost it would let the VM boot, and nothing worse.
"""

from dataclasses import replace
from typing import Final

from node.contract.memories import MemoryMark
from node.storage.disks import turned
from node.storage.formats.volume_meta import VolumeMeta

_KEY: Final = "MEM"
_VALUE: Final = "1"


def save(meta: VolumeMeta) -> VolumeMeta:
    """Return the metadata of a volume with a whole memory."""
    others = {**dict(meta.others), _KEY: _VALUE}
    return replace(meta, others=tuple(sorted(others.items())))


def read(meta: VolumeMeta | None) -> MemoryMark:
    """Return what the metadata say; None: there is no such volume."""
    if meta is None:
        return MemoryMark.BLANK
    if turned.is_left(meta):
        return MemoryMark.USED
    is_saved = dict(meta.others).get(_KEY) == _VALUE
    return MemoryMark.SAVED if is_saved else MemoryMark.BLANK
