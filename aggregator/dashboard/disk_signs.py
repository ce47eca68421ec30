"""Give each state of a disk a sign; say what may be done with it. Pure tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aggregator.dashboard.signs import Sign, Tone
from node.model.storage import ContentType, DiskState
from node.model.verbs import ActionGroup
from node.model.vm import DiskInterface

DISK_SIGNS: Final[Mapping[DiskState, Sign]] = {
    DiskState.OK: Sign("●", Tone.GOOD, "OK"),
    DiskState.LOCKED: Sign("◑", Tone.BUSY, "Locked"),
    DiskState.ILLEGAL: Sign("✕", Tone.BAD, "Damaged"),
    DiskState.UNREACHABLE: Sign("✕", Tone.BAD, "Unreachable"),
}
# What a disk holds, in words; unnamed ones are parts of something else.
CONTENTS: Final[Mapping[ContentType, str]] = {
    ContentType.DATA: "data of a guest",
    ContentType.ISO: "CD image",
    ContentType.OVF_STORE: "definitions of VMs, for oVirt",
    ContentType.MEMORY_DUMP: "memory of a snapshot",
    ContentType.MEMORY_METADATA: "memory of a snapshot",
    ContentType.BACKUP_SCRATCH: "scratch space of a backup",
}
BUSES: Final[Mapping[DiskInterface, str]] = {
    DiskInterface.VIRTIO: "virtio",
    DiskInterface.VIRTIO_SCSI: "SCSI (virtio)",
    DiskInterface.SATA: "SATA",
    DiskInterface.IDE: "IDE",
}
_OURS: Final = frozenset({ContentType.DATA, ContentType.ISO})


@dataclass(frozen=True, slots=True)
class DiskAction:
    """What a person may ask of a disk, and what to know before."""

    name: str
    label: str
    group: ActionGroup
    meaning: str
    states: frozenset[DiskState] = frozenset({DiskState.OK})
    is_of_unused: bool = False  # not while a VM names it
    is_of_vms: bool = False  # while one does
    is_for_vms: bool = False  # templates keep theirs
    is_of_copies: bool = False  # of a template's, in several places
    is_of_data: bool = False  # CD images are never changed
    is_dangerous: bool = False


DISK_ACTIONS: Final = (
    DiskAction(
        "attach",
        "Attach to a VM",
        ActionGroup.ATTACH_DISK,
        "A VM that runs gets it at once, on virtio or SCSI; for SATA or IDE, shut it "
        "down first. Several VMs may have it only if it is shared. A VM that is "
        "down, and has it, changes its bus.",
        is_of_data=True,
        is_for_vms=True,
    ),
    DiskAction(
        "resize",
        "Enlarge",
        ActionGroup.EDIT_DISK,
        "Disks only grow. The guest sees the new size; its partitions and file "
        "systems are enlarged in the guest.",
        is_of_data=True,
    ),
    DiskAction(
        "move",
        "Move",
        ActionGroup.CONFIGURE_DISK_STORAGE,
        "All of it is copied to another storage domain of the pool, then deleted "
        "where it was. VMs that use it must be down.",
    ),
    DiskAction(
        "copy",
        "Copy",
        ActionGroup.CONFIGURE_DISK_STORAGE,
        "A disk of its own is made, with what this one holds now. VMs that use it "
        "must be down.",
    ),
    DiskAction(
        "edit",
        "Edit",
        ActionGroup.EDIT_DISK,
        "Raw disks may be shared, with a file system that is made for that. A VM that "
        "has the disk already must be given it anew to share it.",
    ),
    DiskAction(
        "limit",
        "Limit",
        ActionGroup.EDIT_DISK,
        "What a VM may ask of the storage with this disk; one that runs is "
        "limited within some seconds. Empty is no limit. Limit operations as a whole, "
        "or reads and writes apart; likewise MB.",
        is_of_data=True,
    ),
    DiskAction(
        "profile",
        "Disk profile",
        ActionGroup.ATTACH_DISK_PROFILE,
        "A disk profile with a storage QoS limits the disk, in the place of limits of "
        "its own. One that runs is limited within some seconds.",
        is_of_data=True,
    ),
    DiskAction(
        "sparsify",
        "Give back free space",
        ActionGroup.SPARSIFY_DISK,
        "Space that holds nothing but zeros is given back to the storage. VMs that "
        "use the disk must be down.",
        is_of_data=True,
    ),
    DiskAction(
        "detach",
        "Detach",
        ActionGroup.ATTACH_DISK,
        "The VM loses the disk, at once if it runs: unmount it there first. What it "
        "holds stays.",
        frozenset({DiskState.OK, DiskState.ILLEGAL}),
        is_of_vms=True,
    ),
    DiskAction(
        "uncopy",
        "Delete a copy",
        ActionGroup.DELETE_DISK,
        "VMs can be made of the template there no more. A copy that VMs are built on "
        "stays, and so does the one that the template was made with.",
        is_of_copies=True,
        is_dangerous=True,
    ),
    DiskAction(
        "delete",
        "Delete",
        ActionGroup.DELETE_DISK,
        "The disk and all that it holds is deleted. Nothing brings it back.",
        frozenset({DiskState.OK, DiskState.ILLEGAL}),
        is_of_unused=True,
        is_dangerous=True,
    ),
)
DISK_ACTION_BY_NAME: Final = {action.name: action for action in DISK_ACTIONS}


def disk_actions(
    state: DiskState,
    content: ContentType,
    *,
    is_used: bool,
    has_vm: bool = False,
    has_copies: bool = False,
) -> tuple[DiskAction, ...]:
    """Return what may be asked of a disk as it is, the usual first.

    `is_used`: by VMs or as a template's; `has_vm`: a VM names it;
    `has_copies`: it lies on several storage domains.
    """
    return tuple(
        action
        for action in DISK_ACTIONS
        if state in action.states
        and content in _OURS
        and not (is_used and action.is_of_unused)
        and (has_vm or not action.is_of_vms)
        and (has_copies or not action.is_of_copies)
        and (has_vm or not (is_used and action.is_for_vms))
        and (content is ContentType.DATA or not action.is_of_data)
    )
