"""Plan what a change of a VM's snapshots does to its disks, all in one journal.

Pure. The definition decides (`node.contract.snapshots`): what is new is made before it,
what goes does so after it, and it is written in between, as the step at which the plan
commits. Refused there, nothing has happened. Leaves of a VM that is stopped are
ILLEGAL from before that step on, so that no guest starts on what is about to change.

    freeze │ build │ define ║ switch            take, preview
    freeze │ define ║ close, discard …           undo, commit
    freeze │ commit ║ define, switch, remove     fold: a merge of one disk

A guest that runs goes on with the old leaf, which is the new one's parent by then and
still has all that it writes; the new one is blank until libvirt has turned to it. So
whoever stops where, a guest that is started with what the definition names finds its
newest data. Source: docs/formats/storage-domain.md.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from node.storage.formats.volume_meta import Legality, VolumeMeta, VolumeRole
from node.storage.operations import (
    add_volume,
    discard,
    facts,
    live_merge,
    merge,
    plan,
)
from node.storage.operations import volumes as files
from node.storage.operations.facts import Place
from node.storage.operations.plan import Action, Plan, Step
from node.storage.operations.volumes import NewVolume


@dataclass(frozen=True, slots=True)
class Growth:
    """A disk that gets a new leaf."""

    place: Place
    volume: NewVolume
    parent_id: str
    leaf_id: str  # what the VM writes to until now


@dataclass(frozen=True, slots=True)
class Cut:
    """A disk that loses a branch."""

    place: Place
    leaf_id: str
    kept_id: str


def define(path: PurePosixPath, change: str) -> Action:
    """Return what applies a change to the definition of a VM."""
    return Action(plan.Verb.DEFINE, str(path), text=change)


def grow(disks: Sequence[Growth], defined: Action, *, is_running: bool) -> Plan:
    """Return the plan that gives disks new leaves. Raises as `add_volume.make`."""
    build, switch, undo = list[Action](), list[Action](), list[Action]()
    freeze, thaw = list[Action](), list[Action]()
    for each in disks:
        disk = each.place.require()
        made = add_volume.make(each.place, each.volume, each.parent_id)
        if not made.steps:
            continue
        *before, last = made.steps
        build += (action for step in before for action in step.do)
        undo[:0] = (action for step in reversed(before) for action in step.undo)
        switch += last.do
        if is_running:
            continue
        freeze.append(files.mark(disk, each.leaf_id, Legality.ILLEGAL))
        thaw.append(files.rewrite(disk, each.leaf_id))
        if each.leaf_id != each.parent_id:
            switch.append(files.rewrite(disk, each.leaf_id))
    steps = (
        *_step("freeze", freeze, thaw),
        *_step("build", build, undo),
    )
    rest = (_define(defined), *_step("switch", switch))
    return Plan((*steps, *rest), commit=len(steps))


def cut(disks: Sequence[Cut], defined: Action) -> Plan:
    """Return the plan that takes branches away. Raises as `discard.make`."""
    freeze, thaw, rest = list[Action](), list[Action](), list[Step]()
    for each in disks:
        made = discard.make(each.place, each.leaf_id, each.kept_id)
        if not made.steps:
            continue
        disk = each.place.require()
        freeze.append(files.mark(disk, each.leaf_id, Legality.ILLEGAL))
        thaw.append(files.rewrite(disk, each.leaf_id))
        rest += (Step(f"{each.place.image_id} {s.name}", s.do) for s in made.steps)
    steps = tuple(_step("freeze", freeze, thaw))
    return Plan((*steps, _define(defined), *rest), commit=len(steps))


def fold(place: Place, base_id: str, top_id: str, defined: Action) -> Plan:
    """Return the plan that merges one disk; no guest runs. As `merge.make`.

    A guest may have ended right after its QEMU had taken the upper volume out.
    """
    image = place.require().image
    if top_id not in image.volumes:
        return Plan((Step("define", (defined,)),))
    above = image.children(top_id)
    if above and all(image.volumes[each].backing_id == base_id for each in above):
        return fold_running(place, base_id, top_id, defined)
    made = merge.make(place, base_id, top_id)
    copied = made.commit + 1
    # Never refused: the change is one that can be applied at any time.
    step = Step("define", (defined,))
    steps = (*made.steps[:copied], step, *made.steps[copied:])
    return Plan(steps, made.commit)


def fold_running(place: Place, base_id: str, top_id: str, defined: Action) -> Plan:
    """Return the plan when QEMU has taken a volume out of the chain of a guest.

    If that was what the guest wrote to, it is held since before it turned away: until
    the definition names the lower one, both are alike. As `live_merge.finish`.
    """
    top = facts.meta_of(place.require(), top_id)
    closed: tuple[Step, ...] = ()
    if top.role is VolumeRole.LEAF:
        closed = live_merge.prepare(place, base_id, top_id).steps
        place = _with_meta(place, top_id, replace(top, legality=Legality.ILLEGAL))
    made = live_merge.finish(place, base_id, top_id)
    steps = (*closed, Step("define", (defined,)), *made.steps)
    return Plan(steps, commit=len(closed))


def _with_meta(place: Place, volume_id: str, meta: VolumeMeta) -> Place:
    """Return what will lie there when a volume's metadata are others."""
    disk = place.require()
    volume = replace(disk.image.volumes[volume_id], meta=meta)
    volumes = {**disk.image.volumes, volume_id: volume}
    return replace(
        place, disk=replace(disk, image=replace(disk.image, volumes=volumes))
    )


def _define(defined: Action) -> Step:
    return Step("define", (defined,), may_refuse=True)


def _step(
    name: str, do: Sequence[Action], undo: Sequence[Action] = ()
) -> Iterator[Step]:
    """Yield a step, unless there is nothing to do."""
    if do:
        yield Step(name, tuple(do), tuple(undo))
