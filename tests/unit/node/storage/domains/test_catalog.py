"""What is known of the images on a storage domain, and how little is read for it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from node.errors import Unavailable
from node.storage.disks import sights
from node.storage.disks.chain_problems import Kind
from node.storage.domains import catalog as catalogs
from node.storage.domains.access import Access
from node.storage.domains.catalog import Catalog
from node.storage.formats.volume_meta import Legality, VolumeRole
from node.storage.guard import FILE_DEADLINE_S
from node.storage.process.protocol import Need
from tests.fakes.guard import FakeGuard
from tests.fakes.pool_guard import PoolGuard
from tests.fakes.pool_nodes import PoolWorld
from tests.unit.node.storage.examples import IMAGE, OTHER_IMAGE, POOL, SD
from tests.unit.node.storage.images import name
from tests.unit.node.storage.pool_disks import link, put, touch

LATER_S = 10.0


@dataclass(slots=True)
class ReadingGuard(PoolGuard):
    """Remembers which images were read."""

    read: list[str] = field(default_factory=list)
    hangs_at: str = ""  # the image that makes the storage hang

    def file(
        self,
        domain: str,
        root: str,
        operations: Sequence[Mapping[str, Any]],
        deadline_s: float = FILE_DEADLINE_S,
        needs: Sequence[Need] = (),
    ) -> tuple[Any, ...]:
        for each in operations:
            if each["name"] == "stat":
                self.read.append(Path(each["path"]).name)
                if self.read[-1] == self.hangs_at:
                    self.hanging.add(domain)
        return FakeGuard.file(self, domain, root, operations, deadline_s, needs)


@dataclass(slots=True)
class Scene:
    world: PoolWorld
    guard: ReadingGuard
    access: Access
    catalog: Catalog

    def image(self, number: int) -> str:
        return f"{number:08x}-1111-4222-8333-000000000000"

    def fill(self, count: int) -> None:
        for number in range(count):
            put(self.access, self.image(number), name(0))

    def folder(self, image_id: str) -> Path:
        return Path(self.access.layout.image(image_id))

    def refresh(self, after_s: float = LATER_S) -> list[str]:
        """Do one round; return which images were read."""
        self.world.clock.advance(after_s)
        self.guard.read.clear()
        self.catalog.refresh(self.access)
        return sorted(self.guard.read)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    world = PoolWorld(tmp_path, POOL)
    guard = ReadingGuard(storage=world.storage, machine="node-1")
    node = world.node("node-1", guard=guard)
    access = world.make(node, SD)
    return Scene(world, guard, access, Catalog(guard, world.clock))


def test_refresh_reads_what_is_there(scene: Scene) -> None:
    path = put(scene.access, IMAGE, name(0))
    (sight,) = scene.catalog.refresh(scene.access).images.values()
    assert (sight.image_id, sight.volumes) == (IMAGE, (name(0),))
    assert sight.allocated_bytes == path.stat().st_blocks * 512
    assert scene.catalog.find(IMAGE) == (sight,)
    assert scene.catalog.find(OTHER_IMAGE) == ()


def test_refresh_reads_an_image_again_only_when_it_changed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogs, "AGAIN_MAX", 0)
    scene.fill(3)
    assert len(scene.refresh()) == 3
    assert len(scene.refresh()) == 3  # a change may hide behind the same time
    assert scene.refresh() == []
    touch(scene.folder(scene.image(1)), 5)
    assert scene.refresh() == [scene.image(1)]
    assert scene.refresh(after_s=1.0) == [scene.image(1)]
    assert scene.refresh() == [scene.image(1)]
    assert scene.refresh() == []


def test_refresh_reads_some_again_in_turn(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogs, "AGAIN_MAX", 2)
    scene.fill(5)
    scene.refresh()
    scene.refresh()
    read = [each for _ in range(3) for each in scene.refresh()]
    assert len(read) == 6
    assert set(read) == {scene.image(number) for number in range(5)}


def test_refresh_reads_images_with_problems_first(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogs, "AGAIN_MAX", 1)
    scene.fill(3)
    Path(f"{scene.folder(scene.image(2))}/{name(0)}.lease").unlink()
    scene.refresh()
    scene.refresh()
    assert scene.refresh() == [scene.image(2)]


def test_refresh_forgets_what_is_gone(scene: Scene) -> None:
    scene.fill(2)
    scene.refresh()
    gone = scene.folder(scene.image(0))
    gone.rename(gone.with_name(f"_remove_me_{gone.name}"))
    scene.refresh()
    assert scene.catalog.find(scene.image(0)) == ()
    assert scene.catalog.find(scene.image(1))


@pytest.mark.parametrize("is_listed", [False, True], ids=["at-once", "midway"])
def test_refresh_keeps_what_is_known_when_the_storage_hangs(
    scene: Scene, is_listed: bool
) -> None:
    scene.fill(2)
    scene.refresh()
    before = scene.catalog.sights()
    if is_listed:
        scene.guard.hangs_at = scene.image(1)
    else:
        scene.guard.hanging.add(SD)
    with pytest.raises(Unavailable):
        scene.catalog.refresh(scene.access)
    assert scene.catalog.sights() == before


def test_hostile_content_is_a_problem_of_its_image(scene: Scene) -> None:
    scene.fill(1)
    images = Path(scene.access.layout.images)
    (images / "..x").mkdir()
    (images / "a file").touch()
    (images / OTHER_IMAGE).symlink_to("/etc")
    large = scene.folder(scene.image(7))
    large.mkdir()
    (large / f"{name(0)}.meta").write_bytes(bytes(9000))
    (large / name(0)).symlink_to("/etc/passwd")
    os.mkfifo(large / name(1))
    scene.refresh()
    sight = scene.catalog.sight(SD)
    assert sight is not None
    assert set(sight.images) == {scene.image(0), scene.image(7)}
    assert sight.foreign == 3
    (finding,) = sights.findings(sight.images[scene.image(7)])
    assert finding.kind == sights.UNREADABLE


def test_refresh_has_bounds(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogs, "IMAGES_MAX", 2)
    monkeypatch.setattr(catalogs, "FILES_MAX", 3)
    scene.fill(3)
    put(scene.access, scene.image(0), name(1), parent_id=name(0))
    scene.refresh()
    sight = scene.catalog.sight(SD)
    assert sight is not None
    assert (len(sight.images), sight.passed_over) == (2, 1)
    assert "has 6 files" in sight.images[scene.image(0)].error


def test_read_image_says_nothing_of_the_others_that_were_never_read(
    scene: Scene,
) -> None:
    """Else they would seem to be gone until the next round."""
    put(scene.access, IMAGE, name(0))
    assert scene.catalog.read_image(scene.access, IMAGE) is not None
    assert scene.catalog.find(IMAGE)
    assert scene.catalog.sight(scene.access.storage_domain_id) is None


def test_read_image_knows_at_once(scene: Scene) -> None:
    scene.refresh()
    put(scene.access, IMAGE, name(0))
    sight = scene.catalog.read_image(scene.access, IMAGE)
    assert sight is not None
    assert scene.catalog.find(IMAGE) == (sight,)
    scene.folder(IMAGE).rename(scene.folder(OTHER_IMAGE))
    assert scene.catalog.read_image(scene.access, IMAGE) is None
    assert scene.catalog.find(IMAGE) == ()


def test_check_names_problems_and_what_mends_them(scene: Scene) -> None:
    put(scene.access, IMAGE, name(0), legality=Legality.ILLEGAL)
    put(scene.access, OTHER_IMAGE, name(1))
    Path(f"{scene.folder(OTHER_IMAGE)}/{name(1)}.lease").unlink()
    found = {each.image_id: each for each in scene.catalog.check(scene.access)}
    assert found[IMAGE].kind == Kind.ILLEGAL_ALONE
    assert (found[IMAGE].repair, found[IMAGE].volume_id) == ((), name(0))
    assert found[OTHER_IMAGE].kind == Kind.LEASE_MISSING
    assert found[OTHER_IMAGE].repair
    assert all(each.explanation for each in found.values())


def test_check_knows_templates_wherever_they_lie(scene: Scene) -> None:
    put(scene.access, OTHER_IMAGE, name(0), role=VolumeRole.SHARED)
    put(scene.access, IMAGE, name(1), parent_id=name(0))
    (finding,) = scene.catalog.check(scene.access)
    assert finding.kind == Kind.TEMPLATE_MISSING
    assert finding.repair
    link(scene.access, OTHER_IMAGE, IMAGE, name(0))
    assert scene.catalog.check(scene.access) == ()
    sight = scene.catalog.sight(SD)
    assert sight is not None
    assert sight.users(OTHER_IMAGE) == (IMAGE,)
