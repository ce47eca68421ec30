"""Plan the removal of a disk: renamed, then wiped if asked, then purged.

Pure. It has lost its name before it is decided that the removal is finished, whoever
does it: so no guest starts with it in between, and one that was faster is seen, for
the disk to get its name back. VMs that are down lose it at the moment of decision. A
template's volume that is linked into the disk loses a name only, and is never wiped.
"""

from collections.abc import Iterable, Iterator, Sequence

from node.errors import Conflict
from node.storage.operations import plan, volumes
from node.storage.operations.facts import Disk, Place
from node.storage.operations.plan import Action, Plan, Step


class TemplateInUse(Conflict):
    """Other disks are built on the template's."""

    code = "template_in_use"
    remedy = "Remove the disks that the message names, or copy them first."


class LastCopy(Conflict):
    """No other storage domain in reach has the template's disk."""

    code = "disk_last_copy"
    remedy = "Copy the disk to another storage domain first, or delete the template."


def make(
    place: Place,
    *,
    is_wiped: bool = False,
    users: Sequence[str] = (),
    defined: Sequence[Action] = (),
) -> Plan:
    """Return the plan, which is empty if there is no disk.

    `is_wiped`: even if the disk's options do not ask for it.
    `users` are the other images that hold one of its volumes, `defined` is what
    definitions of VMs have to follow. Raises DiskGoing and TemplateInUse.
    """
    place.check_remains()
    if place.disk is None:
        return Plan()
    check_unused(place.disk, users)
    retire = Step(
        "retire",
        (plan.rename(place.folder, place.workshop),),
        (plan.rename(place.workshop, place.folder),),
    )
    define = [Step("define", tuple(defined), may_refuse=True)] if defined else []
    return Plan((retire, *define, *purge(place, is_wiped=is_wiped)), commit=1)


def check_unused(disk: Disk, users: Sequence[str]) -> None:
    """Refuse to take away a template that others are built on."""
    is_linked = any(
        volume.is_template and volume.links > 1
        for volume in (disk.image.volumes[each] for each in disk.own())
    )
    if users or is_linked:
        raise TemplateInUse(
            f"disks are built on {disk.image_id}: {', '.join(users) or 'unknown ones'}",
            id=disk.image_id,
            users=", ".join(users),
        )


def check_not_last(disk: Disk, others: Iterable[Place]) -> None:
    """Refuse to remove the last copy of a template's disk; LastCopy."""
    if not any(each.disk is not None and _is_template(each.disk) for each in others):
        raise LastCopy(
            f"no other storage domain in reach has a copy of disk {disk.image_id}",
            disk_id=disk.image_id,
        )


def _is_template(disk: Disk) -> bool:
    return all(disk.image.volumes[each].is_template for each in disk.own())


def purge(place: Place, *, is_wiped: bool) -> Iterator[Step]:
    """Yield what destroys an image that has been renamed, and its options."""
    disk = place.require()
    is_wiped = is_wiped or (
        place.options is not None and place.options.wipe_after_delete
    )
    ids = tuple(volumes.wiped(disk, disk.own())) if is_wiped else ()
    if ids:
        yield Step("wipe", tuple(volumes.wipe(place.workshop, each) for each in ids))
    options = place.site.layout.disk_options(place.image_id)
    forget = (plan.remove(options),) if place.options is not None else ()
    yield Step("purge", (plan.remove_tree(place.workshop), *forget))
