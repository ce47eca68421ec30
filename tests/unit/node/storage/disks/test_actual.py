"""What is said of a disk's volumes: each after its parent."""

from dataclasses import replace

import pytest

from node.model.storage import Allocation, DiskFormat, Legality, VolumeKind
from node.storage.disks import actual
from node.storage.disks.chain import Image, Volume
from node.storage.formats import volume_meta
from node.storage.formats.volume_meta import Format, VolumeMeta, VolumeRole
from node.storage.operations.facts import Disk, Site
from tests.unit.node.storage.examples import IMAGE, OTHER_IMAGE, SD

BASE, MIDDLE, LEAF = (f"cccccccc-0000-4000-8000-00000000000{n}" for n in (3, 2, 1))
META = VolumeMeta(
    *(SD, IMAGE, 1 << 20, Format.COW, volume_meta.Allocation.SPARSE),
    *(VolumeRole.INTERNAL, 1_700_000_000),
)


def disk(**parents: str | None) -> Disk:
    """Return a disk of volumes that are built on others."""
    ids = {"base": BASE, "middle": MIDDLE, "leaf": LEAF}
    volumes = {
        ids[name]: Volume(ids[name], replace(META, parent_id=parent))
        for name, parent in parents.items()
    }
    return Disk(Site(SD), Image(SD, IMAGE, volumes), {})


def test_volumes_come_after_what_they_are_built_on() -> None:
    found = actual.volumes(disk(base=None, middle=BASE, leaf=MIDDLE), {MIDDLE: 7})
    assert [each.volume_id for each in found] == [BASE, MIDDLE, LEAF]
    assert [each.parent_id for each in found] == [None, BASE, MIDDLE]
    assert [each.allocated_bytes for each in found] == [0, 7, 0]


def test_volume_is_told_as_its_metadata_say() -> None:
    (found,) = actual.volumes(disk(base=None), {})
    assert (found.disk_id, found.storage_domain_id) == (IMAGE, SD)
    assert (found.size_bytes, found.kind) == (1 << 20, VolumeKind.INTERNAL)
    assert (found.disk_format, found.allocation, found.legality) == (
        DiskFormat.QCOW2,
        Allocation.THIN,
        Legality.LEGAL,
    )
    assert found.created_at == "2023-11-14T22:13:20.000Z"


@pytest.mark.parametrize(
    ("parents", "expected"),
    [
        ({"base": None, "leaf": MIDDLE}, [BASE]),
        ({"middle": LEAF, "leaf": MIDDLE}, []),
        ({"leaf": LEAF}, []),
    ],
    ids=["parent-missing", "ring", "its-own-parent"],
)
def test_volumes_that_nobody_can_run_on_are_left_out(
    parents: dict[str, str | None], expected: list[str]
) -> None:
    found = actual.volumes(disk(**parents), {})
    assert [each.volume_id for each in found] == expected


def test_volume_on_a_template_comes_without_it() -> None:
    made = disk(base=None, leaf=BASE)
    volumes = dict(made.image.volumes)
    volumes[BASE] = Volume(BASE, replace(META, image_id=OTHER_IMAGE))
    linked = replace(made, image=replace(made.image, volumes=volumes))
    (found,) = actual.volumes(linked, {})
    assert (found.volume_id, found.parent_id) == (LEAF, BASE)


def test_moment_that_no_calendar_has_is_none() -> None:
    made = disk(base=None)
    meta = replace(META, created_at_s=10**17)
    image = replace(made.image, volumes={BASE: Volume(BASE, meta)})
    (found,) = actual.volumes(replace(made, image=image), {})
    assert found.created_at is None
