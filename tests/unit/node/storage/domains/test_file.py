"""What is seen of the disks in a file domain."""

from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from node.storage.disks import chain
from node.storage.disks.chain_problems import Kind
from node.storage.domains.file import FileDomain
from node.storage.formats import volume_meta
from node.storage.formats.layout import Layout
from node.storage.formats.volume_meta import Allocation, Format, VolumeMeta, VolumeRole
from node.storage.operations import facts
from node.storage.operations.facts import Site
from node.units import GiB
from tests.fakes.guard import LocalFiles
from tests.unit.node.storage.examples import IMAGE, OTHER_IMAGE, SD
from tests.unit.node.storage.formats.test_qcow2 import file
from tests.unit.node.storage.images import name

META = VolumeMeta(SD, IMAGE, GiB, Format.COW, Allocation.SPARSE, VolumeRole.LEAF, 1)
QCOW2 = 0xE2792ACA  # the header's word for what format the backing has


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / SD
    for folder in Layout(PurePosixPath(root)).folders():
        Path(folder).mkdir()
    return root


def domain(root: Path) -> FileDomain:
    return FileDomain(LocalFiles(str(root)), PurePosixPath(root), Site(SD))


def put(root: Path, number: int, meta: VolumeMeta, data: bytes | None) -> Path:
    """Write the files of a volume by hand; return the data's."""
    folder = root / "images" / IMAGE
    folder.mkdir(exist_ok=True)
    path = folder / name(number)
    if data is not None:
        path.write_bytes(data)
    Path(f"{path}.meta").write_bytes(volume_meta.write(meta))
    Path(f"{path}.lease").touch()
    return path


def test_look_sees_a_chain(root: Path) -> None:
    put(root, 0, replace(META, role=VolumeRole.INTERNAL), file())
    top = replace(META, parent_id=name(0))
    put(root, 1, top, file(name(0).encode(), extensions=((QCOW2, b"qcow2"),)))
    place = domain(root).look(IMAGE, [name(1)])
    disk = place.require()
    assert chain.walk(disk.image, name(1)) == (name(1), name(0))
    assert chain.examine(disk.image) == ()
    facts.check_usable(disk)
    assert domain(root).images() == (IMAGE,)


def test_look_sees_nothing_and_remains(root: Path) -> None:
    assert domain(root).look(IMAGE).disk is None
    assert not domain(root).look(IMAGE).has_remains
    (root / "images" / f"_remove_me_{IMAGE}").mkdir()
    assert domain(root).look(IMAGE).has_remains
    assert domain(root).images() == ()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        pytest.param(bytes(4096), Kind.NOT_QCOW2, id="raw"),
        pytest.param(file(b"/etc/shadow"), Kind.FOREIGN_BACKING, id="backing"),
        pytest.param(file(features=4), Kind.FOREIGN_BACKING, id="data-file"),
        pytest.param(None, Kind.DATA_MISSING, id="no-data"),
    ],
)
def test_look_sees_what_qemu_must_not_open(
    root: Path, data: bytes | None, kind: Kind
) -> None:
    put(root, 0, META, data)
    disk = domain(root).look(IMAGE).require()
    assert [each.kind for each in chain.examine(disk.image)] == [kind]
    with pytest.raises(chain.ImageDamaged):
        facts.check_usable(disk)


def test_look_sees_damaged_metadata_and_no_link(root: Path) -> None:
    path = put(root, 0, META, file())
    Path(f"{path}.meta").write_bytes(b"DOMAIN=x\n")
    disk = domain(root).look(IMAGE).require()
    assert [each.kind for each in chain.examine(disk.image)] == [Kind.META_DAMAGED]
    path.unlink()
    path.symlink_to("/etc/passwd")
    disk = domain(root).look(IMAGE).require()
    assert disk.image.volumes[name(0)].has_data is False


def test_check_usable_refuses_a_backing_of_unsaid_format(root: Path) -> None:
    put(root, 0, replace(META, role=VolumeRole.INTERNAL), file())
    put(root, 1, replace(META, parent_id=name(0)), file(name(0).encode()))
    with pytest.raises(chain.ImageDamaged, match="guess"):
        facts.check_usable(domain(root).look(IMAGE).require())


def test_users_are_the_images_that_hold_a_link(root: Path) -> None:
    path = put(root, 0, replace(META, role=VolumeRole.SHARED), file())
    assert domain(root).users(IMAGE) == ()
    other = root / "images" / OTHER_IMAGE
    other.mkdir()
    (other / name(0)).hardlink_to(path)
    assert domain(root).users(IMAGE) == (OTHER_IMAGE,)
