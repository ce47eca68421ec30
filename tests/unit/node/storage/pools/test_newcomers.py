"""What came with a storage domain: another pool's, and one of oVirt's by hand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from node.clock import SystemClock
from node.model.ids import DiskId, PoolId, StorageDomainId, VmId
from node.model.storage import ContentType
from node.model.storage_requests import (
    ActOnStorageDomain,
    CreatePool,
    CreateStorageDomain,
    ImportStorageDomain,
)
from node.model.unregistered import Source
from node.model.vm import Disk, Vm, VmMemory
from node.storage.disks.verbs import first_volume
from node.storage.pools import ovf_stores
from node.storage.pools.newcomers import KEPT_S, LOOK_S, PoolNewcomers
from node.units import MiB
from tests.contract.disks import code_of
from tests.fakes.clock import FakeClock
from tests.unit.node.storage.ovf import ovirt_domain, samples
from tests.unit.node.storage.pools import test_service as scenes
from tests.unit.node.storage.pools.nodes import VM, Node, Nodes, wait_until
from tests.unit.node.storage.pools.test_service import ALPHA, BETA, DISK, POOL
from tests.unit.node.storage.small_qemu import write_qcow2
from tests.unit.node.vm.examples import SPEC

GAMMA = StorageDomainId("11111111-1111-4222-8333-00000000000f")
OTHER = PoolId("22222222-1111-4222-8333-00000000000f")
OVIRT = StorageDomainId(samples.STORAGE_DOMAIN)
OVIRT_VM = VmId(samples.VM)
AT = "2026-11-22T08:00:00.000Z"
LATER = "Sat Mar 02 00:00:00 UTC 2024"
ROOT = Disk(DISK, "root", MiB, None, True, BETA)
WEB = Vm(replace(SPEC, vm_id=VM, disks=(ROOT,), pool_id=POOL), 7, AT, home=BETA)

nodes = scenes.nodes
one = scenes.one
both = scenes.both


@dataclass(slots=True)
class Scene:
    nodes: Nodes
    node: Node  # manager of the pool that takes the storage domain over
    newcomers: PoolNewcomers

    def lying(self, where: StorageDomainId = BETA) -> list[tuple[str, str, int]]:
        found = self.newcomers.lying(where).vms
        return [(each.spec.vm_id, each.source, each.generation) for each in found]

    def problems(self, where: StorageDomainId = OVIRT) -> list[str]:
        return [each.code for each in self.newcomers.lying(where).problems]

    def root(self, where: StorageDomainId, name: str) -> Path:
        return self.nodes.shared / name / where


def take_over(nodes: Nodes) -> Scene:
    """Start a node with a pool of its own."""
    node = nodes.start(1)
    request = CreateStorageDomain(GAMMA, "gamma", nodes.connection("gamma"))
    node.done(node.storage.storage_domain_create(request))
    node.done(node.storage.pool_create(CreatePool(OTHER, "other", GAMMA)))
    return Scene(
        nodes, node, PoolNewcomers(node.storage.roster, node.guard, SystemClock())
    )


def import_to(scene: Scene, where: StorageDomainId, name: str) -> None:
    way = scene.nodes.connection(name)
    request = ImportStorageDomain(way, where, OTHER)
    scene.node.done(scene.node.storage.storage_domain_import(request))


@pytest.fixture
def scene(nodes: Nodes, both: Node) -> Scene:
    """Return a storage domain that left its pool with a VM, in another one."""
    scenes.make_disk(both, BETA)
    both.storage.roster.seat(POOL).vms.write(WEB, BETA, 0)
    act = ActOnStorageDomain()
    both.done(both.storage.storage_domain_maintain(BETA, act))
    both.done(both.storage.storage_domain_detach(BETA, act))
    assert both.storage.roster.seat(POOL).vms.list().vms == ()
    taken = take_over(nodes)
    import_to(taken, BETA, "beta")
    return taken


def definition_of(scene: Scene) -> Path:
    return scene.root(BETA, "beta") / "master" / "vms" / VM / "definition"


def test_vm_of_another_pool_waits_to_be_registered(scene: Scene) -> None:
    assert scene.lying() == [(VM, Source.DEFINITION, 7)]
    (told,) = scene.newcomers.lying(BETA).vms
    assert told.spec == replace(WEB.spec, pool_id=OTHER)
    assert (told.missing_disks, told.may_run, told.is_template) == ((), False, False)
    assert scene.node.storage.roster.seat(OTHER).vms.list().vms == ()
    assert scene.newcomers.find(BETA, VM).vm == replace(WEB, spec=told.spec)


@pytest.mark.parametrize(
    ("where", "is_told"),
    [
        pytest.param(BETA, True, id="it-came-too"),
        pytest.param(ALPHA, False, id="it-stayed-behind"),
    ],
)
def test_vm_that_was_suspended_waits_with_its_memory(
    nodes: Nodes, both: Node, where: StorageDomainId, is_told: bool
) -> None:
    memory = VmMemory(where, DISK)
    scenes.make_disk(both, BETA)
    vms = both.storage.roster.seat(POOL).vms
    vms.write(replace(WEB, memory=memory), BETA, 0)
    act = ActOnStorageDomain()
    both.done(both.storage.storage_domain_maintain(BETA, act))
    both.done(both.storage.storage_domain_detach(BETA, act))
    taken = take_over(nodes)
    import_to(taken, BETA, "beta")
    found = taken.newcomers.find(BETA, VM).vm
    assert found.memory == (memory if is_told else None)


def test_ovf_store_was_written_before_the_storage_domain_left(scene: Scene) -> None:
    definition_of(scene).unlink()
    assert scene.lying() == [(VM, Source.OVF_STORE, 7)]
    found = scene.newcomers.find(BETA, VM).vm
    assert (found.spec.name, found.spec.disks) == (WEB.spec.name, (ROOT,))
    assert not scene.newcomers.find(BETA, VM).may_run


def test_registered_vm_does_not_wait_any_more(scene: Scene) -> None:
    found = scene.newcomers.find(BETA, VM).vm
    store = scene.node.storage.roster.seat(OTHER).vms
    store.write(replace(found, generation=8), BETA, 0)
    assert scene.lying() == []
    assert code_of(lambda: scene.newcomers.find(BETA, VM)) == "vm_not_unregistered"
    store.delete(VM, 8)
    assert scene.lying() == []  # its OVF document is older than its tombstone


def test_list_is_read_once_in_a_while_or_when_something_has_changed(
    scene: Scene,
) -> None:
    """Pages ask again and again, and all that lies there would be read each time."""
    clock = FakeClock()
    newcomers = PoolNewcomers(scene.node.storage.roster, scene.node.guard, clock)
    before = newcomers.lying(BETA)
    data = definition_of(scene).read_bytes()
    definition_of(scene).write_bytes(b"nonsense")
    assert newcomers.lying(BETA) is before
    clock.advance(KEPT_S)
    assert [each.code for each in newcomers.lying(BETA).problems] == [
        "unregistered_vm_damaged"
    ]
    definition_of(scene).write_bytes(data)
    store = scene.node.storage.roster.seat(OTHER).vms
    store.write(replace(newcomers.find(BETA, VM).vm, generation=8), BETA, 0)
    assert newcomers.lying(BETA).vms == ()


def test_definition_that_names_lost_disks_says_so(scene: Scene) -> None:
    folder = scene.root(BETA, "beta") / "images" / DISK
    for each in folder.iterdir():
        each.unlink()
    folder.rmdir()
    seat = scene.node.storage.roster.seat(OTHER)
    seat.catalog.refresh(seat.pool.access(BETA))
    found = scene.newcomers.find(BETA, VM)
    assert (found.missing_disks, found.vm.spec.disks) == ((DISK,), ())


@pytest.mark.parametrize(
    ("leased_on", "may_run"),
    [(None, False), (BETA, False), (ALPHA, True)],
    ids=["home", "here", "not-here"],
)
def test_vm_may_run_when_its_lease_is_not_here(
    nodes: Nodes, both: Node, leased_on: StorageDomainId | None, may_run: bool
) -> None:
    scenes.make_disk(both, BETA)
    vm = replace(WEB, spec=replace(WEB.spec, lease_domain_id=leased_on))
    both.storage.roster.seat(POOL).vms.write(vm, BETA, 0)
    act = ActOnStorageDomain()
    both.done(both.storage.storage_domain_maintain(BETA, act))
    both.done(both.storage.storage_domain_detach(BETA, act))
    taken = take_over(nodes)
    import_to(taken, BETA, "beta")
    assert taken.newcomers.find(BETA, VM).may_run is may_run


def test_damaged_definition_is_told_and_its_ovf_serves(scene: Scene) -> None:
    definition_of(scene).write_bytes(b"garbage")
    told = scene.newcomers.lying(BETA)
    assert [each.code for each in told.problems] == ["unregistered_vm_damaged"]


def test_storage_domain_that_returns_brings_its_vms_back(
    nodes: Nodes, both: Node
) -> None:
    both.storage.roster.seat(POOL).vms.write(replace(WEB, generation=1), BETA, 0)
    act = ActOnStorageDomain()
    both.done(both.storage.storage_domain_maintain(BETA, act))
    both.done(both.storage.storage_domain_detach(BETA, act))
    way = nodes.connection("beta")
    request = ImportStorageDomain(way, BETA, POOL)
    both.done(both.storage.storage_domain_import(request))
    newcomers = PoolNewcomers(both.storage.roster, both.guard, SystemClock())
    assert newcomers.lying(BETA).vms == ()
    (stored,) = both.storage.roster.seat(POOL).vms.list().vms
    assert stored.vm.spec.vm_id == VM


def test_only_the_manager_of_an_active_storage_domain_tells(scene: Scene) -> None:
    with pytest.raises(Exception, match="is in no pool"):
        scene.newcomers.lying(ALPHA)
    act = ActOnStorageDomain()
    scene.node.done(scene.node.storage.storage_domain_maintain(BETA, act))
    assert code_of(lambda: scene.newcomers.lying(BETA)) == "storage_domain_inactive"


# oVirt's


def make_ovirt(scene: Scene, files: dict[str, bytes], **fields: object) -> None:
    """Make a storage domain with an OVF_STORE and the disk of the sample."""
    request = CreateStorageDomain(OVIRT, "ovirt", scene.nodes.connection("ovirt"))
    scene.node.done(scene.node.storage.storage_domain_create(request))
    root = scene.root(OVIRT, "ovirt")
    put_disk(root)
    data = ovirt_domain.tar(files)
    ovirt_domain.put_store(root, 0, data, **fields)  # type: ignore[arg-type]  # what a test names
    import_to(scene, OVIRT, "ovirt")


def put_disk(root: Path) -> None:
    """Put the disk of the sample there: a raw base, and a leaf over it."""
    folder = root / "images" / samples.DISK
    folder.mkdir()
    said = {"DISKTYPE": "DATA", "CAP": str(10 << 30)}
    for volume, others in (
        (samples.BASE, {"VOLTYPE": "INTERNAL"}),
        (samples.LEAF, {"FORMAT": "COW", "PUUID": samples.BASE}),
    ):
        path = folder / volume
        if volume == samples.BASE:
            path.touch()
        else:
            write_qcow2(path, samples.BASE, "raw")
        label = '{"DiskAlias":"web root"}'
        text = ovirt_domain.meta(root.name, samples.DISK, label, **said, **others)
        Path(f"{path}.meta").write_text(text)
        Path(f"{path}.lease").touch()


GOOD = {
    "info.json": ovirt_domain.info(LATER),
    f"{OVIRT_VM}.ovf": samples.DOCUMENT.encode(),
    "metadata.json": b'{"VM Status":{}}',
}


@pytest.fixture
def target(nodes: Nodes) -> Scene:
    return take_over(nodes)


def test_vm_of_ovirt_waits_to_be_registered(target: Scene) -> None:
    make_ovirt(target, GOOD)
    assert target.lying(OVIRT) == [(OVIRT_VM, Source.OVF_STORE, 17)]
    found = target.newcomers.find(OVIRT, OVIRT_VM)
    assert found.missing_disks == (samples.LUN,)
    (disk,) = found.vm.spec.disks
    assert (disk.disk_id, disk.volume_id) == (samples.DISK, samples.LEAF)
    assert (disk.size_bytes, disk.storage_domain_id) == (10 << 30, OVIRT)
    (snapshot,) = found.vm.snapshots
    assert snapshot.disks[0].volume_id == samples.BASE


@dataclass(slots=True)
class LateClock(FakeClock):
    """Each look at it comes much later than the one before."""

    def monotonic(self) -> float:
        self.elapsed_s += LOOK_S + 1
        return self.elapsed_s


def test_list_ends_in_time_and_says_so(target: Scene) -> None:
    make_ovirt(target, GOOD)
    newcomers = PoolNewcomers(
        target.node.storage.roster, target.node.guard, LateClock()
    )
    told = newcomers.lying(OVIRT)
    assert told.vms == ()
    assert [each.code for each in told.problems] == ["unregistered_vms_late"]
    assert newcomers.find(OVIRT, OVIRT_VM).vm.spec.vm_id == OVIRT_VM


def test_newest_whole_ovf_store_counts(target: Scene) -> None:
    newer = samples.DOCUMENT.replace("<Generation>17", "<Generation>18")
    make_ovirt(target, GOOD, when="Fri Mar 01 00:00:00 UTC 2024")
    root = target.root(OVIRT, "ovirt")
    files = {**GOOD, f"{OVIRT_VM}.ovf": newer.encode()}
    ovirt_domain.put_store(root, 1, ovirt_domain.tar(files), LATER)
    refresh(target)
    assert target.lying(OVIRT) == [(OVIRT_VM, Source.OVF_STORE, 18)]
    ovirt_domain.put_store(root, 1, ovirt_domain.tar(files), LATER, is_updated=False)
    refresh(target)
    assert target.lying(OVIRT) == [(OVIRT_VM, Source.OVF_STORE, 17)]


def refresh(scene: Scene) -> None:
    seat = scene.node.storage.roster.seat(OTHER)
    seat.catalog.refresh(seat.pool.access(OVIRT))
    scene.newcomers = PoolNewcomers(
        scene.node.storage.roster, scene.node.guard, SystemClock()
    )


def test_vm_that_was_not_down_may_run(target: Scene) -> None:
    status = f'{{"VM Status":{{"{OVIRT_VM}":1}}}}'.encode()
    make_ovirt(target, {**GOOD, "metadata.json": status})
    assert target.newcomers.find(OVIRT, OVIRT_VM).may_run


DAMAGES: Mapping[str, Callable[[str, str], str]] = {
    "another-id": lambda text, vm_id: text.replace(vm_id, samples.DISK),
    "entities": lambda text, _: '<!DOCTYPE a [<!ENTITY a "b">]>' + text,
    "truncated": lambda text, _: text[:2000],
    "path": lambda text, vm_id: text.replace(vm_id, "../../etc/passwd"),
    "memory": lambda text, _: text.replace("Quantity>2048<", f"Quantity>{'9' * 20}<"),
    "name": lambda text, _: text.replace("<Name>web<", f"<Name>{'w' * 2000}<"),
}


def test_damaged_and_hostile_documents_are_told_and_harm_no_other(
    target: Scene,
) -> None:
    """Each is of a VM of its own."""
    files, ids = dict(GOOD), []
    for number, damage in enumerate(DAMAGES.values()):
        ids.append(f"5e5a0fb0-1111-4b8e-9c53-00000000001{number}")
        text = samples.DOCUMENT.replace(samples.VM, ids[-1])
        files[f"{ids[-1]}.ovf"] = damage(text, ids[-1]).encode()
    make_ovirt(target, files)
    assert target.lying(OVIRT) == [(OVIRT_VM, Source.OVF_STORE, 17)]
    told = target.newcomers.lying(OVIRT).problems
    assert {each.code for each in told} == {"unregistered_vm_damaged"}
    assert [each.fields["name"] for each in told] == ids


def test_damaged_and_hostile_stores_are_told(target: Scene) -> None:
    make_ovirt(target, GOOD)
    alone = {f"{OVIRT_VM}.ovf": GOOD[f"{OVIRT_VM}.ovf"]}
    for files, size in (
        (GOOD, 700),  # it is cut off
        ({**GOOD, "../../x": b"1"}, None),
        ({**GOOD, "/etc/passwd": b"1"}, None),
        ({**GOOD, f"{OVIRT_VM}.ovf/x": b"1"}, None),
        (alone, None),  # without info.json
    ):
        data = ovirt_domain.tar(files)
        ovirt_domain.put_store(target.root(OVIRT, "ovirt"), 0, data, size=size)
        refresh(target)
        assert target.problems() == ["ovf_store_damaged"], (list(files), size)
        assert target.lying(OVIRT) == []


def test_store_that_says_it_is_larger_is_read_to_its_end(target: Scene) -> None:
    make_ovirt(target, GOOD, size=127 << 20)
    assert target.problems() == []
    assert len(target.lying(OVIRT)) == 1


def test_vm_whose_disks_another_vm_has_is_no_newcomer(target: Scene) -> None:
    make_ovirt(target, GOOD)
    found = target.newcomers.find(OVIRT, OVIRT_VM).vm
    twin = replace(found, spec=replace(found.spec, vm_id=VM), generation=1)
    target.node.storage.roster.seat(OTHER).vms.write(twin, OVIRT, 0)
    assert target.lying(OVIRT) == []


def test_ids_of_disks_are_kept(scene: Scene) -> None:
    wait_until(lambda: scene.node.storage.disk_list().disks)
    ids = {each.disk_id for each in scene.node.storage.disk_list().disks}
    assert DISK in ids
    (disk,) = (d for d in scene.node.storage.disk_list().disks if d.disk_id == DISK)
    assert disk.chain.volumes == (first_volume(DISK),)


def test_ovf_stores_are_shown_and_not_listed(scene: Scene) -> None:
    stores = {ovf_stores.store_id(BETA, number) for number in range(2)}
    storage = scene.node.storage
    wait_until(lambda: storage.disk_list().disks)
    assert stores.isdisjoint(each.disk_id for each in storage.disk_list().disks)
    for disk_id in stores:
        found = storage.disk_show(DiskId(disk_id))
        assert (found.content, found.name) == (ContentType.OVF_STORE, "OVF_STORE")
