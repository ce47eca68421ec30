"""Draw the snapshots of a VM as a tree, and say what may be done with each. Pure.

The oldest stands first. What the VM goes on from is one straight line down to the VM
as it is now; what is no part of that line is indented.

    ● before the upgrade
    │ ● after it                (in preview of the one above)
    │ ○ as it was before the preview
    ◆ now
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from aggregator.dashboard.signs import Sign, Tone
from node.model.ids import SnapshotId
from node.model.storage import SnapshotState
from node.model.verbs import ActionGroup
from node.model.vm import Snapshot, Vm, VmState

SIGNS: Final[Mapping[SnapshotState, Sign]] = {
    SnapshotState.OK: Sign("●", Tone.GOOD, "OK"),
    SnapshotState.LOCKED: Sign("◑", Tone.BUSY, "Being taken"),
    SnapshotState.IN_PREVIEW: Sign("◆", Tone.WARN, "In preview"),
    SnapshotState.BROKEN: Sign("✕", Tone.WARN, "Being deleted"),
}
# Nobody works on it any more, as far as is known here.
_LEFT: Final[Mapping[SnapshotState, Sign]] = {
    SnapshotState.LOCKED: Sign("◑", Tone.WARN, "Interrupted"),
    SnapshotState.BROKEN: Sign("✕", Tone.WARN, "Not deleted yet"),
}
_REMEDIES: Final[Mapping[SnapshotState, str]] = {
    SnapshotState.LOCKED: "It was interrupted while it was taken: finish it.",
    SnapshotState.BROKEN: "Its deletion was interrupted: delete it again.",
}
_SILENT: Final = (
    "The node that runs the VM is silent, so nobody knows whether its guest writes to "
    "the new volumes. Wait until it answers, or is known to be dead; then finish it."
)
NOW: Final = Sign("◆", Tone.GOOD, "The VM is here")
BEFORE: Final = Sign("○", Tone.OFF, "As it was before the preview")


@dataclass(frozen=True, slots=True)
class SnapshotAction:
    """What a person may ask of a snapshot, and what to know before."""

    name: str
    label: str
    meaning: str
    group: ActionGroup = ActionGroup.MANIPULATE_SNAPSHOTS
    is_dangerous: bool = False


CREATE: Final = SnapshotAction(
    "new",
    "Take a snapshot",
    "All disks of the VM are kept as they are at one moment. A guest that runs goes "
    "on; with the guest agent its file systems are consistent.",
)
PREVIEW: Final = SnapshotAction(
    "preview",
    "Preview",
    "The VM, which is down, goes back to the snapshot to look at it. Nothing is lost: "
    "commit the preview to stay there, or undo it.",
)
RESTORE: Final = SnapshotAction(
    "restore",
    "Go back",
    "The VM, which is down, goes back to the snapshot for good. All that came after "
    "it, later snapshots included, is lost.",
    is_dangerous=True,
)
CLONE: Final = SnapshotAction(
    "clone",
    "Clone",
    "A VM of its own is made, with full copies of all that the disks held then. Its "
    "network cards get other addresses.",
    ActionGroup.CREATE_VM,
)
DELETE: Final = SnapshotAction(
    "delete",
    "Delete",
    "The snapshot is merged into what came after it. The VM keeps its data, and may "
    "run meanwhile; it cannot go back to this state any more.",
    is_dangerous=True,
)
FINISH: Final = SnapshotAction(
    "finish",
    "Finish",
    "The snapshot that was interrupted is taken to its end; it holds what the disks "
    "held at that moment. If the guest never turned to its new volumes, the snapshot "
    "goes again, and nothing is lost.",
)
COMMIT: Final = SnapshotAction(
    "commit",
    "Commit",
    "The VM stays with what it previews. What it was before, and all that came after "
    "the snapshot, is lost.",
    is_dangerous=True,
)
UNDO: Final = SnapshotAction(
    "undo",
    "Undo",
    "The VM is again what it was before the preview. What it wrote meanwhile is lost.",
    is_dangerous=True,
)
OF_ONE: Final = (PREVIEW, RESTORE, CLONE, DELETE, FINISH)
OF_PREVIEW: Final = (COMMIT, UNDO)
_WHOLE: Final = frozenset({SnapshotState.OK})
_DELETABLE: Final = frozenset({SnapshotState.OK, SnapshotState.BROKEN})


@dataclass(frozen=True, slots=True)
class SnapshotLine:
    """A snapshot, or the VM itself, as a row of the tree."""

    name: str
    sign: Sign
    depth: int = 0  # 0: the VM goes on from it
    snapshot_id: SnapshotId | None = None  # None: the VM itself
    created_at: str = ""
    disks: int = 0
    is_consistent: bool = False
    has_memory: bool = False
    actions: tuple[SnapshotAction, ...] = ()
    remedy: str = ""  # what to do about one that nobody ends by himself


def lines(
    vm: Vm, state: VmState, *, is_worked_on: bool = False
) -> tuple[SnapshotLine, ...]:
    """Return the tree of a VM; nothing if it has no snapshots.

    `is_worked_on`: somebody asked for a change of them, and it has not ended.
    """
    if not vm.snapshots:
        return ()
    known = {each.snapshot_id for each in vm.snapshots}
    below: dict[SnapshotId | None, list[Snapshot]] = {}
    for each in vm.snapshots:
        parent_id = each.parent_id if each.parent_id in known else None
        below.setdefault(parent_id, []).append(each)
    found = _walk(vm, state, None, below, 0)
    if is_worked_on:
        return tuple(found)
    states = {each.snapshot_id: each.state for each in vm.snapshots}
    return tuple(_left(each, states, state) for each in found)


def has_memory(snapshot: Snapshot) -> bool:
    """Tell whether a VM may go on with what a snapshot keeps."""
    return snapshot.memory is not None and snapshot.memory.is_saved


def of_vm(vm: Vm, state: VmState) -> tuple[SnapshotAction, ...]:
    """Return what may be asked of the VM as a whole."""
    if vm.preview is None:
        return (CREATE,)
    return OF_PREVIEW if state is VmState.DOWN else ()


def _walk(
    vm: Vm,
    state: VmState,
    parent_id: SnapshotId | None,
    below: Mapping[SnapshotId | None, list[Snapshot]],
    depth: int,
) -> Iterator[SnapshotLine]:
    """Yield what goes on from a snapshot: side lines first, then the VM's own."""
    own = _line_of(vm)
    found = sorted(below.get(parent_id, ()), key=lambda each: each.snapshot_id in own)
    for each in found:
        deeper = depth if each.snapshot_id in own or _is_alone(each, vm, found) else 1
        deeper = max(depth, deeper)
        yield _line(each, vm, state, deeper)
        yield from _walk(vm, state, each.snapshot_id, below, deeper)
    if vm.preview is not None and vm.preview.parent_id == parent_id:
        yield SnapshotLine("", BEFORE, max(depth, 1))
    if vm.snapshot_id == parent_id:
        yield SnapshotLine("", NOW, depth)


def _left(
    line: SnapshotLine, states: Mapping[SnapshotId, SnapshotState], vm_state: VmState
) -> SnapshotLine:
    """Return a line that says what to do if its snapshot is not whole."""
    state = states[line.snapshot_id] if line.snapshot_id is not None else None
    if state is None or state not in _LEFT:
        return line
    is_locked = state is SnapshotState.LOCKED
    is_silent = is_locked and vm_state is VmState.UNKNOWN
    actions = (FINISH,) if is_locked else line.actions
    remedy = _SILENT if is_silent else _REMEDIES[state]
    return replace(line, sign=_LEFT[state], actions=actions, remedy=remedy)


def _is_alone(snapshot: Snapshot, vm: Vm, beside: list[Snapshot]) -> bool:
    """Tell whether nothing else goes on from where a snapshot does."""
    return len(beside) == 1 and vm.snapshot_id != snapshot.parent_id


def _line_of(vm: Vm) -> frozenset[SnapshotId]:
    """Return what the VM goes on from."""
    parents = {each.snapshot_id: each.parent_id for each in vm.snapshots}
    found: set[SnapshotId] = set()
    step = vm.snapshot_id
    while step is not None and step in parents and step not in found:
        found.add(step)
        step = parents[step]
    return frozenset(found)


def _line(each: Snapshot, vm: Vm, state: VmState, depth: int) -> SnapshotLine:
    return SnapshotLine(
        each.description or each.snapshot_id,
        SIGNS[each.state],
        depth,
        each.snapshot_id,
        each.created_at,
        len(each.disks),
        each.is_consistent,
        has_memory(each),
        tuple(_actions(each, vm, state)),
    )


def _actions(each: Snapshot, vm: Vm, state: VmState) -> Iterator[SnapshotAction]:
    if vm.preview is not None:
        return
    if each.state in _WHOLE and state is VmState.DOWN:
        yield PREVIEW
        yield RESTORE
    if each.state in _WHOLE:
        yield CLONE
    if each.state in _DELETABLE:
        yield DELETE
