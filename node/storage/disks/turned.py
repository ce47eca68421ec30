"""Write down, beside a leaf, that its guest has turned away for good.

Pure. The node that runs a guest decides, not the pool's manager: nothing is written
past the leaf before this lies there, nothing to the leaf after it. The VM's lease is
held by that node's storage process meanwhile, so nobody else starts the VM, and what
comes late is refused. Whoever finds it knows where the newest data are: in the volume
that it is built on. No guest is started on the leaf any more; the manager takes it out
of the chain when it comes to it.

The mark is a file of its own: an older manager's journal that is finished or undone
writes the leaf's metadata as they were, and must not take it away. Who reads the leaf
sees it in the metadata, and it lies there, too, for who does not know the file.

    newest: the leaf ──► both alike, the guest is held ──► ILLEGAL, turned
                                                           newest: the parent
"""

from dataclasses import replace
from typing import Final

from node.storage.formats.volume_meta import Legality, VolumeMeta

# Ours; who does not know it keeps it, and sees a volume that must not be used. As
# short as can be: it has to fit beside the longest description.
_KEY: Final = "TURN"
_VALUE: Final = "1"


def close(meta: VolumeMeta) -> VolumeMeta:
    """Return the metadata of a leaf whose guest has turned to its parent."""
    others = {**dict(meta.others), _KEY: _VALUE}
    return replace(
        meta, legality=Legality.ILLEGAL, others=tuple(sorted(others.items()))
    )


def is_closed(meta: VolumeMeta | None, parent_id: str) -> bool:
    """Tell whether a leaf's guest has turned to its parent; None: it is not there."""
    return (
        meta is not None
        and meta.legality is Legality.ILLEGAL
        and meta.parent_id == parent_id
        and is_left(meta)
    )


def is_left(meta: VolumeMeta) -> bool:
    """Tell whether a volume bears the mark."""
    return dict(meta.others).get(_KEY) == _VALUE
