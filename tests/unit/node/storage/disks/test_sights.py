"""What is kept of an image, whatever it holds."""

import pytest
from hypothesis import given

from node.errors import Failed
from node.model.storage import Allocation, ContentType, DiskFormat
from node.storage.disks import chain, sights
from node.storage.disks.chain_problems import Kind
from node.storage.disks.sights import DomainSight, ImageSight
from node.storage.operations.facts import Disk, Site
from node.units import GiB
from tests.unit.node.storage import images
from tests.unit.node.storage.examples import IMAGE, OTHER_IMAGE, SD
from tests.unit.node.storage.images import (
    LEAF,
    SHARED,
    name,
    template,
    volume,
    with_meta,
)


def see(image: chain.Image, **allocated: int) -> ImageSight:
    disk = Disk(Site(SD), image, dict.fromkeys(image.volumes, "qcow2"))
    return sights.summarise(disk, allocated, 7.0, {})


def test_summarise_tells_of_a_chain() -> None:
    label = '{"DiskAlias":"root","DiskDescription":"of web"}'
    top = with_meta(volume(1, 0, LEAF), description=label, disk_type="ISOF")
    sight = see(
        images.image(volume(0, None), top), **{name(0): 10, name(1): 5, name(9): 99}
    )
    assert sight.volumes == (name(0), name(1))
    assert (sight.name, sight.description) == ("root", "of web")
    assert (sight.size_bytes, sight.allocated_bytes) == (GiB, 15)
    assert (sight.disk_format, sight.allocation, sight.content) == (
        DiskFormat.QCOW2,
        Allocation.THIN,
        ContentType.ISO,
    )
    assert (sight.template, sight.is_template, sight.problems) == (None, False, ())


def test_summarise_names_a_disk_whose_leaf_has_no_description() -> None:
    base = with_meta(volume(0, None), description='{"DiskAlias":"root"}')
    assert see(images.image(base, volume(1, 0, LEAF))).name == "root"


def test_summarise_names_no_disk_as_its_template() -> None:
    base = with_meta(template(0), description='{"DiskAlias":"root"}')
    assert see(images.image(base, volume(1, 0, LEAF))).name == ""


def test_summarise_leaves_a_templates_volume_to_the_template() -> None:
    sight = see(images.image(template(0), volume(1, 0, LEAF)), **{name(0): 10})
    assert (sight.volumes, sight.template) == ((name(1),), name(0))
    assert sight.allocated_bytes == 0


@pytest.mark.parametrize(
    ("wanted", "leaf"),
    [
        pytest.param((), name(3), id="the-newest"),
        pytest.param((2,), name(2), id="the-one-that-a-vm-names"),
    ],
)
def test_summarise_chooses_among_leaves(wanted: tuple[int, ...], leaf: str) -> None:
    newest = with_meta(volume(3, 0, LEAF), sequence=2)
    image = images.image(volume(0, None), volume(2, 0, LEAF), newest, wanted=wanted)
    assert see(image).volumes[-1] == leaf


@given(images.any_images())
def test_summarise_takes_any_image(image: chain.Image) -> None:
    sight = see(image)
    assert len(sight.problems) <= sights.PROBLEMS_MAX
    assert len(sights.findings(sight)) == len(sight.problems)


def test_findings_explain_what_could_not_be_read() -> None:
    error = Failed("cannot be read")
    (finding,) = sights.findings(sights.unreadable(SD, IMAGE, 1.0, error))
    assert (finding.kind, finding.explanation) == (sights.UNREADABLE, "cannot be read")
    assert finding.repair == ()


def test_findings_carry_the_repair() -> None:
    lost = images.image(volume(0, None, LEAF, has_lease=False))
    (finding,) = sights.findings(see(lost))
    assert finding.kind == Kind.LEASE_MISSING
    assert finding.repair
    assert "made anew" in finding.explanation


def test_users_are_those_built_on_the_templates_volume() -> None:
    base = images.image(volume(0, None, SHARED, links=2))
    clone = ImageSight(SD, OTHER_IMAGE, 0.0, volumes=(name(1),), template=name(0))
    seen = DomainSight(SD, {IMAGE: see(base), OTHER_IMAGE: clone})
    assert seen.templates() == {name(0): IMAGE}
    assert seen.users(IMAGE) == (OTHER_IMAGE,)
    assert seen.users(OTHER_IMAGE) == ()
