"""Plan copies of several disks that one definition names: all of them, or none.

Pure. A template of a VM, or a VM that is a full clone. The copies are made where
oVirt does not look; the definition decides, and then they get their names. Leaves
that are copied are ILLEGAL from before the first byte until all is done.

    freeze │ build, one disk at a time ║ define, publish, thaw
    retire │                           ║ define, purge          the way out
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from node.storage.formats.disk_options import DiskOptions
from node.storage.operations import copy, delete
from node.storage.operations.copy import CopyOf
from node.storage.operations.facts import Place
from node.storage.operations.plan import Action, Plan, Step


@dataclass(frozen=True, slots=True)
class Twin:
    """A state of a disk, and where its copy shall lie."""

    source: Place
    volume_id: str
    target: Place
    copy: CopyOf


@dataclass(frozen=True, slots=True)
class Copies:
    """What makes copies, before the commit point and after it."""

    steps: tuple[Step, ...]
    publish: tuple[Action, ...]  # gives them their names
    thaw: tuple[Action, ...]


def make(twins: Sequence[Twin], defined: Action) -> Plan:
    """Return the plan to make copies and their definition. As `copy.make`."""
    made = copies(twins)
    rest = [Step("define", (defined,), may_refuse=True)]
    rest += [Step("publish", made.publish)] if made.publish else []
    rest += [Step("thaw", made.thaw)] if made.thaw else []
    return Plan((*made.steps, *rest), commit=len(made.steps))


def copies(twins: Sequence[Twin]) -> Copies:
    """Return what makes copies of several disks; none of what is there. `copy.make`."""
    freeze, thaw, publish = list[Action](), list[Action](), list[Action]()
    builds: list[Step] = []
    for each in twins:
        source = each.source.require()
        words = (source, each.volume_id, each.target, each.copy)
        made = copy.make(*words, _own(each.source.options))
        if not made.steps:
            continue
        *before, build = made.steps[: made.commit]
        named, *after = made.steps[made.commit :]
        builds.append(replace(build, name=f"{each.copy.image_id} {build.name}"))
        publish += named.do
        for step in before:
            freeze += step.do
        for step in after:
            thaw += step.do
    first = (Step("freeze", tuple(freeze), tuple(thaw)),) if freeze else ()
    return Copies((*first, *builds), tuple(publish), tuple(thaw))


def end(disks: Sequence[tuple[Place, Sequence[str]]], defined: Action) -> Plan:
    """Return the plan to remove disks with their definition. As `delete.make`.

    Each comes with the images that are known to be built on it.
    """
    retire, back, rest = list[Action](), list[Action](), list[Step]()
    for place, users in disks:
        made = delete.make(place, users=users)
        if not made.steps:
            continue
        first, *others = made.steps
        retire += first.do
        back[:0] = first.undo
        name = place.image_id
        rest += (replace(each, name=f"{name} {each.name}") for each in others)
    steps = (Step("retire", tuple(retire), tuple(back)),) if retire else ()
    decide = Step("define", (defined,), may_refuse=True)
    return Plan((*steps, decide, *rest), commit=len(steps))


def _own(options: DiskOptions | None) -> DiskOptions | None:
    """Return the options of a copy: it is no disk that several VMs share."""
    return None if options is None else replace(options, is_shared=False)
