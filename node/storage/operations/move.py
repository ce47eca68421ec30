"""Plan the move of a disk to another storage domain, with all its snapshots.

Pure. Volumes are copied byte for byte as files, so that the chain, its headers and
the dirty bitmaps in them stay what they are. The original is ILLEGAL from before the
copying until it is gone: nobody may start a guest with it whose writes would be lost.
Definitions of VMs follow when the copy has its name: until they do, no guest starts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from node.errors import Conflict, Invalid
from node.storage.formats.volume_meta import Allocation, Legality, VolumeMeta
from node.storage.operations import create, delete, facts, plan, volumes
from node.storage.operations.facts import Disk, Place
from node.storage.operations.plan import Action, Plan, Step
from node.storage.operations.volumes import DIRECT


class SamePlace(Invalid):
    code = "disk_is_there"
    remedy = "Choose another storage domain."


class TemplateElsewhere(Conflict):
    """The disk is built on a template that is not on the other storage domain."""

    code = "template_elsewhere"
    remedy = "Copy the template's disk there first, or copy the disk instead."


def make(
    source: Place,
    target: Place,
    template: Disk | None = None,
    *,
    defined: Sequence[Action] = (),
    is_wiped: bool = False,
) -> Plan:
    """Return the plan, which is empty if the disk is there and no longer here.

    `template` is, on the other storage domain, the disk that this one is built on;
    `defined` is what definitions of VMs have to follow. Raises DiskMissing,
    DiskExists, DiskGoing, TemplateInUse, TemplateElsewhere and ImageDamaged.
    """
    if source.site.storage_domain_id == target.site.storage_domain_id:
        raise SamePlace(f"disk {source.image_id} is there already")
    if source.disk is None and target.disk is not None and not source.has_remains:
        return Plan()
    disk = source.require()
    target.check_remains()
    if target.disk is not None:
        raise facts.DiskExists(f"disk {target.image_id} exists", id=target.image_id)
    facts.check_usable(disk)
    delete.check_unused(disk, ())
    _check_template(disk, target, template)
    keep, forget = volumes.set_options(target, source.options)
    base_id = volumes.base_of(disk, disk.own()[0])
    links = () if template is None else volumes.link_template(template, target.workshop)
    copies = (action for each in disk.own() for action in _copy(disk, each, target))
    return Plan(
        (
            Step(
                "freeze",
                (volumes.mark(disk, base_id, Legality.ILLEGAL),),
                (volumes.rewrite(disk, base_id),),
            ),
            Step(
                "copy",
                (*keep, plan.make_folder(target.workshop), *links, *copies),
                (plan.remove_tree(target.workshop), *forget),
            ),
            Step("publish", (plan.rename(target.workshop, target.folder),)),
            *([Step("define", tuple(defined))] if defined else []),
            Step("retire", (plan.rename(source.folder, source.workshop),)),
            *delete.purge(source, is_wiped=is_wiped),
        ),
        commit=2,
    )


def _copy(disk: Disk, volume_id: str, target: Place) -> Iterator[Action]:
    """Yield what makes one volume in the target's workshop."""
    meta = facts.meta_of(disk, volume_id)
    moved = replace(meta, storage_domain_id=target.site.storage_domain_id)
    yield from create.outfit(target, volume_id, moved)
    yield volumes.make_empty(target.workshop / volume_id)
    words = ["convert", "-p", *DIRECT, "-f", "raw", "-O", "raw", *_allocate(meta)]
    words += [str(disk.folder / volume_id), volume_id]
    yield plan.move_data(target.workshop / volume_id, *words)


def _allocate(meta: VolumeMeta) -> list[str]:
    is_allocated = meta.allocation is Allocation.PREALLOCATED
    return ["-o", "preallocation=falloc"] if is_allocated else []


def _check_template(disk: Disk, target: Place, template: Disk | None) -> None:
    """Refuse to move a disk without what it is built on."""
    linked = disk.linked()
    if not linked:
        return
    if template is None:
        raise TemplateElsewhere(
            f"disk {disk.image_id} is built on template volume {', '.join(linked)}",
            id=disk.image_id,
        )
    if (facts.template_of(target.site, template),) != linked:
        raise TemplateElsewhere(
            f"disk {template.image_id} is another template's", id=template.image_id
        )
