"""OVF_STOREs on real folders: one of two is whole, wherever writing stops."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from node.errors import Unavailable
from node.model.ids import DiskId, PoolId, StorageDomainId, VmId
from node.model.storage import ContentType
from node.model.storage_requests import ActOnDisk
from node.model.vm import Disk, TemplateMark, Vm, VmSpec
from node.storage.formats import volume_meta
from node.storage.guard import Guard
from node.storage.ovf import description, reading
from node.storage.ovf.description import StoreLabel
from node.storage.ovf.store import STORE_MAX
from node.storage.pools import ovf_stores
from node.storage.pools.ovf_stores import GAP_S, OvfStores
from node.storage.process.protocol import Need
from node.storage.spm import vm_leases
from node.storage.spm.vm_store import VmStore
from node.units import GiB, MiB
from tests.contract.disks import code_of
from tests.fakes import leasing_guard
from tests.fakes.pool_guard import PoolGuard
from tests.unit.node.storage import pool_disks
from tests.unit.node.storage.examples import IMAGE, OTHER_SD, POOL, SD
from tests.unit.node.storage.ovf import ovirt_domain, samples
from tests.unit.node.storage.pool_disks import Agent

VM_ID = VmId("aaaaaaaa-0000-4000-8000-000000000001")
OTHER_ID = VmId("aaaaaaaa-0000-4000-8000-000000000002")
AT = "2026-11-22T08:00:00.000Z"
DISK = Disk(DiskId(IMAGE), "root", MiB, None, True, StorageDomainId(SD))


def vm(generation: int = 1, vm_id: VmId = VM_ID, name: str = "web") -> Vm:
    disks = (DISK,) if vm_id == VM_ID else ()
    spec = VmSpec(vm_id, name, GiB, disks=disks, pool_id=PoolId(POOL))
    return Vm(spec, generation, AT, home=StorageDomainId(SD))


class Cut(Unavailable):
    code = "cut_off"


@dataclass(slots=True)
class Shears:
    """A storage process that answers no more after some requests."""

    guard: PoolGuard
    left: int | None = None

    def file(
        self,
        domain: str,
        root: str,
        operations: Sequence[Mapping[str, Any]],
        deadline_s: float = 10.0,
        needs: Sequence[Need] = (),
    ) -> tuple[Any, ...]:
        if self.left is not None and self.left <= 0:
            raise Cut("the node is dead")
        if self.left is not None:
            self.left -= 1
        return self.guard.file(domain, root, operations, deadline_s, needs)


@dataclass(slots=True)
class Scene:
    agent: Agent
    vms: VmStore
    shears: Shears
    stores: OvfStores

    def again(self) -> OvfStores:
        """Return what the next agent has."""
        return OvfStores(
            self.agent.pool,
            cast(Guard, self.shears),
            self.agent.world.clock,
            self.agent.catalog,
            self.vms,
            self.agent.disks,
            self.agent.jobs,
        )

    def read(self, where: str = SD) -> dict[str, int]:
        """Return the generations of the VMs that are read."""
        found = self.stores.read(self.agent.world.access(where)).store
        documents = found.documents if found is not None else {}
        return {key: reading.read(each).generation for key, each in documents.items()}

    def labels(self) -> list[StoreLabel]:
        found = []
        for number in range(2):
            meta = volume_meta.parse(self.meta(number).read_bytes())
            assert meta.disk_type == "OVFS"
            label = description.read(meta.description)
            assert isinstance(label, StoreLabel)
            found.append(label)
        return found

    def meta(self, number: int) -> Path:
        return Path(f"{self.data(number)}.meta")

    def data(self, number: int) -> Path:
        image_id = ovf_stores.store_id(SD, number)
        volume_id = pool_disks.volume_of(image_id)
        return Path(self.agent.world.access(SD).layout.volume(image_id, volume_id))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with pool_disks.managing(tmp_path) as agent:
        vms = VmStore(agent.pool, agent.guard, agent.world.clock)
        ended = agent.end_of(agent.disks.create(pool_disks.new_disk(IMAGE)))
        assert ended.error is None
        shears = Shears(agent.guard)
        made = Scene(agent, vms, shears, cast(OvfStores, None))
        made.stores = made.again()
        yield made


def test_write_fills_two_stores_in_turn(scene: Scene) -> None:
    for generation in (1, 2, 3):
        scene.vms.write(vm(generation), SD, generation - 1)
        scene.stores.write(SD)
        assert scene.read() == {VM_ID: generation}
    first, second = scene.labels()
    assert first.is_updated
    assert second.is_updated
    assert first.storage_domain_ids == (SD,)
    assert None not in (first.updated_at, second.updated_at)
    assert first.updated_at != second.updated_at
    assert scene.data(0).stat().st_size == STORE_MAX
    assert scene.data(0).stat().st_blocks * 512 < MiB
    sight = scene.agent.catalog.sight(SD)
    assert sight is not None
    contents = sorted(each.content for each in sight.images.values())
    assert contents == [ContentType.DATA, ContentType.OVF_STORE, ContentType.OVF_STORE]
    assert all(each.is_well for each in sight.images.values())


def test_document_of_a_vm_that_did_not_change_stays(scene: Scene) -> None:
    """Each tells when it was made; another manager's are made anew."""

    def document() -> bytes:
        found = scene.stores.read(scene.agent.world.access(SD)).store
        assert found is not None
        return found.documents[OTHER_ID]

    scene.vms.write(vm(vm_id=OTHER_ID, name="db"), SD, 0)
    seen = []
    for generation in (1, 2, 3):
        scene.vms.write(vm(generation), SD, generation - 1)
        scene.stores.write(SD)
        seen.append(document())
        assert scene.read() == {VM_ID: generation, OTHER_ID: 1}
    assert seen == seen[:1] * 3
    scene.again().write(SD)
    assert document() != seen[0]
    scene.agent.world.clock.advance(GAP_S)
    scene.stores.write(SD)
    scene.vms.write(vm(2, vm_id=OTHER_ID, name="db"), SD, 1)
    scene.stores.write(SD)
    assert scene.read() == {VM_ID: 3, OTHER_ID: 2}


def test_write_makes_nothing_where_no_vm_is(scene: Scene) -> None:
    scene.vms.write(vm(), SD, 0)
    scene.stores.write(OTHER_SD)
    assert scene.read(OTHER_SD) == {}
    assert list(Path(scene.agent.world.access(OTHER_SD).layout.images).iterdir()) == []


def test_write_tells_of_a_disk_as_it_lies(scene: Scene) -> None:
    scene.vms.write(vm(), SD, 0)
    scene.stores.write(SD)
    store = scene.stores.read(scene.agent.world.access(SD)).store
    assert store is not None
    ovf = reading.read(store.documents[VM_ID])
    (disk,) = ovf.disks
    assert (disk.disk_id, disk.volume_id) == (IMAGE, pool_disks.volume_of(IMAGE))
    assert (disk.storage_domain_id, disk.pool_id) == (SD, POOL)
    assert ovf.snapshots[0].snapshot_id == disk.snapshot_id
    assert store.storage_domain_ids == (SD,)


def test_one_store_is_whole_wherever_writing_stops(scene: Scene) -> None:
    """Stop before each request to the storage process, and look."""
    scene.vms.write(vm(1), SD, 0)
    scene.stores.write(SD)
    generation, points, ends = 1, 0, set()
    while True:
        scene.vms.write(vm(generation + 1), SD, generation)
        scene.shears.left = points
        is_cut = False
        try:
            scene.stores.write(SD)
        except Cut:
            is_cut = True
        scene.shears.left = None
        found = scene.read()
        ends.add(found.get(VM_ID, 0) - generation)
        assert found in ({VM_ID: generation}, {VM_ID: generation + 1}), points
        scene.stores = scene.again()
        generation += 1
        scene.stores.write(SD)
        assert scene.read() == {VM_ID: generation}
        if not is_cut:
            break
        points += 1
    steps = ("the lease", "read the newest", "not updated", "the tar", "updated")
    assert points == len(steps)
    assert ends == {0, 1}


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:700],
        lambda data: b"\0" * len(data),
        lambda data: data.replace(b"info.json", b"../passwd"),
        lambda data: data[:150] + b"xxxx" + data[154:],
    ],
    ids=["truncated", "blank", "hostile-name", "checksum"],
)
def test_read_takes_the_older_one_if_the_newer_is_damaged(
    scene: Scene, damage: Any
) -> None:
    for generation in (1, 2):
        scene.vms.write(vm(generation), SD, generation - 1)
        scene.stores.write(SD)
    (newer,) = (
        number
        for number in range(2)
        if scene.labels()[number].updated_at
        == max(str(each.updated_at) for each in scene.labels())
    )
    data = scene.data(newer).read_bytes()[: 64 * 1024]
    scene.data(newer).write_bytes(damage(data))
    found = scene.stores.read(scene.agent.world.access(SD))
    assert scene.read() == {VM_ID: 1}
    assert [each.code for each in found.problems] == ["ovf_store_damaged"]


def test_write_leaves_the_only_one_that_can_be_read(scene: Scene) -> None:
    """Stop before each request to the storage process, and look."""
    newer, older = foreign_store(scene, OTHER_ID), scene.data(0)
    for generation in (1, 2):
        scene.vms.write(vm(generation), SD, generation - 1)
        scene.stores.write(SD)
    newer.write_bytes(b"garbage")
    before = older.read_bytes()
    for points in itertools.count():
        scene.shears.left = points
        is_cut = code_of(lambda: scene.stores.write(SD)) == Cut.code
        scene.shears.left = None
        assert older.read_bytes() == before, points
        assert OTHER_ID in scene.read(), points
        if not is_cut:
            break
    assert scene.read() == {VM_ID: 2, OTHER_ID: 17}


def test_write_refuses_to_write_over_what_nobody_can_read(scene: Scene) -> None:
    files = (foreign_store(scene, OTHER_ID), scene.data(0))
    for generation in (1, 2):
        scene.vms.write(vm(generation), SD, generation - 1)
        scene.stores.write(SD)
    for each in files:
        each.write_bytes(b"garbage")
    assert code_of(lambda: scene.stores.write(SD)) == "ovf_store_damaged"
    assert [each.read_bytes() for each in files] == [b"garbage"] * 2


def test_keep_writes_a_change_once_and_after_a_while(scene: Scene) -> None:
    scene.vms.write(vm(), SD, 0)
    scene.stores.keep(scene.vms.list())
    assert scene.read() == {}
    scene.agent.world.clock.advance(GAP_S)
    scene.stores.keep(scene.vms.list())
    assert scene.read() == {VM_ID: 1}
    labels = scene.labels()
    scene.agent.world.clock.advance(GAP_S)
    scene.stores.keep(scene.vms.list())
    assert scene.labels() == labels
    scene.vms.write(vm(2), SD, 1)
    scene.stores.keep(scene.vms.list())
    assert scene.read() == {VM_ID: 1}
    scene.agent.world.clock.advance(GAP_S)
    scene.stores.keep(scene.vms.list())
    assert scene.read() == {VM_ID: 2}


def lease(scene: Scene, *, is_free: bool) -> None:
    """Let a node have, or have given back, the lease of the VM."""
    access = scene.agent.world.access(SD)
    with scene.agent.pool.spm.work() as term:
        place = vm_leases.add(scene.agent.guard, access, term, VM_ID)
    timestamp = 0 if is_free else 1
    leasing_guard.write(place, leasing_guard.record(place, 1, 1, 1, timestamp))


def not_down(scene: Scene) -> frozenset[VmId]:
    store = scene.stores.read(scene.agent.world.access(SD)).store
    assert store is not None
    return store.not_down()


@pytest.mark.parametrize("is_template", [False, True], ids=["vm", "template"])
def test_write_says_that_a_vm_may_run_while_nothing_says_that_it_is_down(
    scene: Scene, is_template: bool
) -> None:
    mark = TemplateMark() if is_template else None
    scene.vms.write(replace(vm(), template=mark), SD, 0)
    scene.stores.write(SD)
    assert not_down(scene) == (frozenset() if is_template else {VM_ID})


def test_keep_tells_by_its_lease_whether_a_vm_is_down(scene: Scene) -> None:
    scene.vms.write(vm(), SD, 0)
    for is_free in (True, False, True):
        lease(scene, is_free=is_free)
        scene.agent.world.clock.advance(GAP_S)
        scene.stores.keep(scene.vms.list())
        assert not_down(scene) == (frozenset() if is_free else {VM_ID})


def test_write_says_of_an_idle_storage_domain_that_its_vms_are_down(
    scene: Scene,
) -> None:
    scene.vms.write(vm(), SD, 0)
    scene.stores.write(SD, is_idle=True)
    assert not_down(scene) == frozenset()


def test_write_leaves_out_what_was_deleted(scene: Scene) -> None:
    scene.vms.write(vm(), SD, 0)
    scene.vms.write(vm(1, OTHER_ID, "db"), SD, 0)
    scene.stores.write(SD)
    scene.vms.delete(OTHER_ID, 1)
    scene.stores.write(SD)
    assert scene.read() == {VM_ID: 1}


def test_write_keeps_the_document_of_a_vm_that_cannot_be_read(scene: Scene) -> None:
    scene.vms.write(vm(), SD, 0)
    scene.vms.write(vm(1, OTHER_ID, "db"), SD, 0)
    scene.stores.write(SD)
    folder = Path(scene.agent.world.access(SD).layout.vm(OTHER_ID))
    (folder / "definition").write_bytes(b"garbage")
    scene.vms.write(vm(2), SD, 1)
    scene.stores.write(SD)
    assert scene.read() == {VM_ID: 2, OTHER_ID: 1}


def test_write_refuses_more_than_fits(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.vms.write(vm(), SD, 0)
    scene.stores.write(SD)
    size_max = max(each.size_bytes or 0 for each in scene.labels())
    wordy = replace(vm(1, OTHER_ID, "db").spec, description="x" * size_max)
    scene.vms.write(replace(vm(1, OTHER_ID), spec=wordy), SD, 0)
    monkeypatch.setattr("node.storage.ovf.store.STORE_MAX", size_max)
    assert code_of(lambda: scene.stores.write(SD)) == "ovf_store_full"
    monkeypatch.undo()
    assert scene.read() == {VM_ID: 1}


def test_write_makes_a_lost_store_again(scene: Scene) -> None:
    scene.vms.write(vm(), SD, 0)
    scene.stores.write(SD)
    disk_id = ovf_stores.store_id(SD, 0)
    where = StorageDomainId(SD)
    ended = scene.agent.end_of(scene.agent.disks.delete(disk_id, ActOnDisk(), where))
    assert ended.error is None
    scene.stores.write(SD)
    assert scene.read() == {VM_ID: 1}
    assert len(scene.labels()) == 2


def foreign_store(scene: Scene, *names: str, pool: str = OTHER_SD) -> Path:
    """Let oVirt have written VMs there; of some it says that they run."""
    root = Path(scene.agent.world.access(SD).layout.root)
    documents = {
        f"{name}.ovf": samples.DOCUMENT.replace(samples.VM, name)
        .replace(samples.POOL, pool)
        .encode()
        for name in names
    }
    files = {
        "info.json": ovirt_domain.info("Fri Mar 01 00:00:00 UTC 2024"),
        **documents,
        "metadata.json": f'{{"VM Status":{{"{names[0]}":1}}}}'.encode(),
    }
    made = ovirt_domain.put_store(root, 0, ovirt_domain.tar(files))
    scene.agent.catalog.refresh(scene.agent.world.access(SD))
    return made


def test_write_keeps_what_waits_to_be_registered(scene: Scene) -> None:
    foreign_store(scene, OTHER_ID, samples.VM)
    for generation in (1, 2, 3):
        scene.vms.write(vm(generation), SD, generation - 1)
        scene.stores.write(SD)
        assert scene.read() == {VM_ID: generation, OTHER_ID: 17, samples.VM: 17}
    assert not_down(scene) == {VM_ID, OTHER_ID}


def test_all_vms_are_known_only_if_every_store_can_be_read(scene: Scene) -> None:
    file = foreign_store(scene, OTHER_ID)
    assert scene.stores.all_vms() == frozenset({OTHER_ID})
    file.write_bytes(b"garbage")
    assert scene.stores.all_vms() is None


def test_write_leaves_a_store_alone_where_no_vm_is_ours(scene: Scene) -> None:
    foreign_store(scene, OTHER_ID)
    folder = Path(scene.agent.world.access(SD).layout.images)
    before = sorted(folder.iterdir())
    scene.agent.world.clock.advance(GAP_S)
    scene.stores.keep(scene.vms.list())
    scene.stores.write(SD)
    assert sorted(folder.iterdir()) == before
    assert scene.read() == {OTHER_ID: 17}


def test_write_drops_what_was_ours_and_is_not_any_more(scene: Scene) -> None:
    foreign_store(scene, OTHER_ID, pool=POOL)
    scene.vms.write(vm(), SD, 0)
    scene.stores.write(SD)
    assert scene.read() == {VM_ID: 1}


def test_write_keeps_what_was_ours_while_a_storage_domain_is_away(
    scene: Scene,
) -> None:
    foreign_store(scene, OTHER_ID, pool=POOL)
    scene.vms.write(vm(), SD, 0)
    scene.agent.pool.maintain(OTHER_SD)
    scene.stores.write(SD)
    assert scene.read() == {VM_ID: 1, OTHER_ID: 17}
