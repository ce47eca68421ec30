"""Plan a new disk: blank, a thin clone of a template's, or a copy of a base image.

Pure. It is built where oVirt does not look and gets its name when it is complete.
"""

from dataclasses import replace

from node.storage.formats import disk_options
from node.storage.formats.disk_options import DiskOptions
from node.storage.formats.volume_meta import Allocation, Format, VolumeMeta
from node.storage.operations import facts, plan, volumes
from node.storage.operations.facts import QEMU_FORMATS, Disk, DiskExists, Place
from node.storage.operations.plan import Action, Plan, Step
from node.storage.operations.volumes import BadAllocation, NewVolume


def make(
    place: Place,
    request: NewVolume,
    template: Disk | None = None,
    options: DiskOptions = disk_options.DEFAULT,
    image: str | None = None,
) -> Plan:
    """Return the plan, which is empty if the disk is there already.

    `template` is the disk that a thin clone is built on, `image` the base image that
    it starts as a copy of. Raises BadSize, DiskExists,
    DiskGoing, NotATemplate, BadAllocation, BadDiskQos and NotShareable.
    """
    disk_options.check(options, request.volume_format)
    facts.check_size(place.site, request.size_bytes)
    parent_id = backing = None
    if template is not None:
        parent_id = facts.template_of(place.site, template)
        base = facts.meta_of(template, parent_id)
        backing = base.volume_format
        _check_clone(request, base)
    meta = request.meta(place.site, parent_id)
    if place.disk is not None:
        check_same(place.disk, request.volume_id, meta)
        return Plan()
    place.check_remains()
    workshop = place.workshop
    links = () if template is None else volumes.link_template(template, workshop)
    data = volumes.make_data(workshop, request.volume_id, meta, backing)
    # The lease last: all else is made in one go then.
    *files, lease = outfit(place, request.volume_id, meta)
    path = workshop / request.volume_id
    filled = (
        (plan.fill(path, QEMU_FORMATS[meta.volume_format], image),) if image else ()
    )
    return publish(place, (*links, *files, *data, lease, *filled), options)


def outfit(place: Place, volume_id: str, meta: VolumeMeta) -> tuple[Action, ...]:
    """Return what makes a volume's metadata and lease in the workshop."""
    if not place.site.has_leases:
        words = (place.workshop, volume_id, meta)
        return (volumes.write_meta(*words, is_exported=True),)
    return (
        volumes.write_meta(place.workshop, volume_id, meta),
        *volumes.make_lease(place.site, place.workshop, volume_id),
    )


def publish(
    place: Place, build: tuple[Action, ...], options: DiskOptions | None
) -> Plan:
    """Return the plan that builds an image in its workshop and names it then."""
    keep, forget = volumes.set_options(place, options)
    return Plan(
        (
            Step(
                "build",
                (*keep, plan.make_folder(place.workshop), *build),
                (plan.remove_tree(place.workshop), *forget),
            ),
            Step("publish", (plan.rename(place.workshop, place.folder),)),
        ),
        commit=1,
    )


def check_same(disk: Disk, volume_id: str, meta: VolumeMeta) -> None:
    """Refuse to make a disk where another one is; DiskExists."""
    volume = disk.image.volumes.get(volume_id)
    found = volume.meta if volume is not None else None
    if found is None or found != replace(
        meta,
        created_at_s=found.created_at_s,
        description=found.description,
        generation=found.generation,
    ):
        raise DiskExists(f"disk {disk.image_id} exists", id=disk.image_id)


def _check_clone(request: NewVolume, base: VolumeMeta) -> None:
    """Refuse a thin clone that is not thin, or smaller than its template."""
    if (request.volume_format, request.allocation) != (Format.COW, Allocation.SPARSE):
        raise BadAllocation("a clone of a template's disk is a thin qcow2 volume")
    if request.size_bytes < base.capacity_bytes:
        raise facts.BadSize(
            f"the template's disk has {base.capacity_bytes} bytes",
            size_bytes=request.size_bytes,
        )
