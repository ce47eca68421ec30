"""Plan what mends one problem of an image, as `chain.examine` offers it.

Pure. A repair may stop after any action, so what the storage refuses ends it, and a
crash in it is finished. Nobody may use the image meanwhile.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from node.errors import Conflict
from node.storage.disks import chain
from node.storage.disks.chain_problems import Kind, Problem, Step, Verb
from node.storage.formats.volume_meta import VolumeMeta
from node.storage.operations import facts, plan, volumes
from node.storage.operations.facts import Disk, Place
from node.storage.operations.plan import Action, Plan


class NeedsPerson(Conflict):
    """No repair is safe: a person has to decide."""

    code = "repair_needs_person"
    remedy = "Do what the message says; it tells why no repair is safe."


class RepairOutOfTurn(Conflict):
    """Another problem has to be mended first; this one may be gone then."""

    code = "repair_out_of_turn"
    remedy = "Mend the problem that the message names first, then look again."


def make(
    place: Place,
    kind: Kind,
    volume_id: str,
    templates: Mapping[str, Disk],
) -> Plan:
    """Return the plan, which is empty if the problem is gone.

    `volume_id` "" is the image; `templates` are the disks of templates, by their
    volumes. Raises NeedsPerson, RepairOutOfTurn, DiskMissing and DiskGoing.
    """
    if kind is Kind.REMAINS:
        return _purge(place)
    if kind is Kind.OPTIONS_LEFT:
        return _forget_options(place)
    disk = place.require()
    known = {each: template.image_id for each, template in templates.items()}
    problems = chain.examine(replace(disk.image, templates=known))
    asked = [
        each for each in problems if (each.kind, each.volume_id) == (kind, volume_id)
    ]
    if not asked:
        return Plan()
    _check_repair(place, asked[0])
    _check_turn(place, asked[0], problems)
    actions = tuple(_actions(place, disk, asked[0], templates))
    return Plan((plan.Step("mend", actions, may_refuse=True),))


def _purge(place: Place) -> Plan:
    """Return the plan to purge what no journal names; the executor looks for one."""
    if not place.has_remains:
        return Plan()
    image = place.disk.image if place.disk is not None else None
    _check_repair(place, chain.examine_remains(image))
    return Plan((plan.Step("purge", (plan.remove_tree(place.workshop),)),))


def _forget_options(place: Place) -> Plan:
    """Return the plan to remove the options of a disk that is not there."""
    if place.disk is not None or place.has_remains or place.options is None:
        return Plan()
    return Plan((plan.Step("forget", volumes.write_options(place, None)),))


def _check_repair(place: Place, problem: Problem) -> None:
    if not problem.repair:
        raise NeedsPerson(
            f"disk {place.image_id}: {problem.explanation}",
            image_id=place.image_id,
            problem=problem.kind,
        )


def _check_turn(place: Place, asked: Problem, problems: tuple[Problem, ...]) -> None:
    first = next(each for each in problems if each.repair)
    if first != asked:
        raise RepairOutOfTurn(
            f"disk {place.image_id}: mend {first.kind} of volume "
            f"{first.volume_id or '(none)'} first",
            image_id=place.image_id,
            problem=first.kind,
            volume_id=first.volume_id,
        )


def _actions(
    place: Place, disk: Disk, problem: Problem, templates: Mapping[str, Disk]
) -> Iterator[Action]:
    """Yield what the steps of a repair do, each on what the one before left."""
    metas: dict[str, VolumeMeta] = {}
    for step in problem.repair:
        if step.verb in (Verb.SET_PARENT, Verb.SET_ROLE, Verb.SET_LEGALITY):
            before = metas.get(step.volume_id) or facts.meta_of(disk, step.volume_id)
            metas[step.volume_id] = _changed(before, step)
            yield volumes.write_meta(
                place.folder, step.volume_id, metas[step.volume_id]
            )
        else:
            yield from _file_actions(place, step, templates)


def _file_actions(
    place: Place, step: Step, templates: Mapping[str, Disk]
) -> tuple[Action, ...]:
    match step.verb:
        case Verb.MAKE_LEASE:
            return volumes.make_lease(place.site, place.folder, step.volume_id)
        case Verb.REMOVE_LEASE:
            return (plan.remove(place.folder / f"{step.volume_id}.lease"),)
        case Verb.REMOVE_VOLUME:
            return volumes.remove_volume(place.folder, step.volume_id)
        case Verb.LINK_TEMPLATE:
            return volumes.link_template(templates[step.volume_id], place.folder)
    assert step.verb is Verb.REMOVE_IMAGE, step
    return (plan.remove(place.folder),)  # refused if anything is in it


def _changed(meta: VolumeMeta, step: Step) -> VolumeMeta:
    if step.verb is Verb.SET_PARENT:
        return replace(meta, parent_id=step.parent_id)
    if step.role is not None:
        return replace(meta, role=step.role)
    assert step.legality is not None, step
    return replace(meta, legality=step.legality)
