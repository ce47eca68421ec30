"""What becomes of a definition that came with a storage domain."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from node.contract import templates
from node.contract.memories import MemoryMark
from node.contract.templates import TemplateNameTaken
from node.contract.unregistered import Found, NotUnregistered
from node.errors import Conflict, Error
from node.jobs import Jobs, Progress
from node.model.ids import DiskId, JobId, NodeId, SnapshotId, StorageDomainId, VmId
from node.model.job import ENDED, Job, JobState
from node.model.storage import SnapshotKind, SnapshotState
from node.model.unregistered import MacChange, NetworkChange, RegisterVm, Source
from node.model.vm import (
    Cpu,
    CpuMode,
    Snapshot,
    TemplateMark,
    Vm,
    VmMemory,
    VmSpec,
    Wanted,
)
from node.store import Store
from node.vm import domxml, registering
from node.vm.importing import Importer
from node.vm.pool_editing import PoolEditor
from node.vm.register import VmRegister
from node.vm.registering import Registrar
from tests.contract.disks import code_of
from tests.fakes.clock import FakeClock
from tests.fakes.hooks import FakeHooks
from tests.fakes.hypervisor import FakeHypervisor
from tests.fakes.kept_exports import FakeExports
from tests.fakes.volumes import SD_ID, FakeVolumes, of_pool
from tests.unit.node.vm.examples import AT, DISK, HOST, NIC, NODE_ID, OTHER_ID, SPEC

VM_ID = SPEC.vm_id
ADDRESSES = domxml.assign_addresses(SPEC)
LYING = Vm(of_pool(SPEC), 7, AT, Wanted.UP, ADDRESSES, SD_ID)
FOUND = Found(LYING, Source.DEFINITION)
ASKED = RegisterVm(VM_ID)
OTHER_NODE = NodeId("00000000-0000-4000-8000-0000000000ee")
MEMORY = VmMemory(SD_ID, DiskId("aaaaaaaa-0000-4000-8000-00000000000f"), is_saved=True)
LOST = DiskId("bbbbbbbb-0000-4000-8000-00000000000f")


def lying(**fields: object) -> Found:
    spec = replace(LYING.spec, **fields)  # type: ignore[arg-type]  # what a test names
    return replace(FOUND, vm=replace(LYING, spec=spec))


def made(found: Found = FOUND, **asked: object) -> Vm:
    request = replace(ASKED, **asked)  # type: ignore[arg-type]  # what a test names
    return registering.wanted(found, request, HOST)


def test_wanted_is_what_lies_there_one_generation_later() -> None:
    assert made() == replace(LYING, generation=8, wanted=Wanted.DOWN)


@pytest.mark.parametrize(
    ("found", "asked", "field_name", "value"),
    [
        (FOUND, {"name": "new"}, "name", "new"),
        (FOUND, {"as_vm_id": OTHER_ID}, "vm_id", OTHER_ID),
        (
            FOUND,
            {"macs": (MacChange(NIC.nic_id, "52:54:00:00:00:09"),)},
            "nics",
            (replace(NIC, mac="52:54:00:00:00:09"),),
        ),
        (
            FOUND,
            {"networks": (NetworkChange("lan0", "lan1"),)},
            "nics",
            (replace(NIC, network="lan1"),),
        ),
        (FOUND, {"networks": (NetworkChange("lan0", ""),)}, "nics", ()),
        (
            lying(nics=(replace(NIC, network="ovirtmgmt"),)),
            {"may_lose_nics": True},
            "nics",
            (),
        ),
        (lying(machine="pc-q35-rhel8.4.0"), {}, "machine", "pc-q35-10.0"),
        (lying(machine=None), {}, "machine", "pc-q35-10.0"),
        (
            lying(cpu=Cpu(CpuMode.NAMED, "Skylake-Client")),
            {},
            "cpu",
            Cpu(CpuMode.HOST_MODEL),
        ),
        (
            lying(cpu=Cpu(CpuMode.NAMED, "Nehalem")),
            {},
            "cpu",
            Cpu(CpuMode.NAMED, "Nehalem"),
        ),
    ],
    ids=[
        *("name", "id", "mac", "network", "card-dropped", "card-lost"),
        *("foreign-machine", "no-machine", "foreign-model", "known-model"),
    ],
)
def test_wanted_is_what_this_node_can_have(
    found: Found, asked: Mapping[str, object], field_name: str, value: object
) -> None:
    assert getattr(made(found, **asked).spec, field_name) == value


@pytest.mark.parametrize(
    ("found", "asked", "code"),
    [
        (replace(FOUND, may_run=True), {}, "vm_may_run_elsewhere"),
        (replace(FOUND, missing_disks=(LOST,)), {}, "vm_disks_missing"),
        (lying(nics=(replace(NIC, network="x"),)), {}, "vm_network_missing"),
        (FOUND, {"networks": (NetworkChange("lan0", "x"),)}, "vm_network_missing"),
        (FOUND, {"name": "a/b"}, "bad_vm"),
        (lying(memory_bytes=1 << 50), {}, "bad_vm"),
        (lying(nics=(replace(NIC, mac=""),)), {}, "bad_vm"),
        (FOUND, {"as_vm_id": VmId("../x")}, "bad_vm"),
    ],
    ids=[
        *("may-run", "disks-missing", "network-missing", "mapped-to-none"),
        *("bad-name", "absurd-memory", "no-mac", "bad-id"),
    ],
)
def test_wanted_refuses(found: Found, asked: Mapping[str, object], code: str) -> None:
    assert code_of(lambda: made(found, **asked)) == code


@pytest.mark.parametrize(
    ("found", "asked"),
    [
        (replace(FOUND, may_run=True), {"is_forced": True}),
        (replace(FOUND, missing_disks=(LOST,)), {"may_lose_disks": True}),
    ],
    ids=["may-run", "disks-missing"],
)
def test_wanted_takes_what_was_permitted(
    found: Found, asked: Mapping[str, object]
) -> None:
    assert made(found, **asked).spec == LYING.spec


# the job


@dataclass(slots=True)
class Newcomers:
    """What lies on one storage domain, until it is a definition of the pool."""

    volumes: FakeVolumes
    lying: dict[VmId, Found] = field(default_factory=dict)

    def find(self, storage_domain_id: StorageDomainId, vm_id: VmId) -> Found:
        if vm_id not in self.lying or vm_id in self.volumes.storage.definitions:
            raise NotUnregistered(f"VM {vm_id} does not wait")
        return self.lying[vm_id]

    def check_name(self, storage_domain_id: StorageDomainId, vm: Vm) -> None:
        templates.check_name_free(vm, self.volumes.storage.definitions.values())


@dataclass(slots=True)
class Scene:
    volumes: FakeVolumes
    register: VmRegister
    newcomers: Newcomers
    jobs: Jobs
    registrar: Registrar

    def ask(self, request: RegisterVm = ASKED) -> Job:
        job = self.jobs.get(self.registrar.register(SD_ID, request).job_id, 20.0)
        assert job.state in ENDED
        return job


class NoMaker:
    def make(self, vm: Vm, copy: Callable[[Vm], None], progress: Progress) -> None:
        raise AssertionError("nothing here was exported")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    clock = FakeClock()
    store = Store(tmp_path / "node.db", clock, NODE_ID, HOST.boot_id)
    jobs = Jobs(store, clock)
    volumes = FakeVolumes(NODE_ID)
    volumes.storage.disks[DISK.disk_id] = DISK.size_bytes
    register = VmRegister(store, clock, lambda: HOST.name, 30)
    known = (FakeHypervisor(), register, volumes, clock, lambda: HOST)
    editor = PoolEditor(*known, FakeHooks())
    newcomers = Newcomers(volumes, {VM_ID: FOUND})
    importer = Importer(FakeExports(), volumes, editor, NoMaker())
    registrar = Registrar(editor, newcomers, importer, jobs, lambda: HOST)
    jobs.recover(registrar.job_handlers())
    jobs.start()
    yield Scene(volumes, register, newcomers, jobs, registrar)
    jobs.stop(20.0)
    store.close()


def test_register_writes_the_definition_and_makes_the_lease(scene: Scene) -> None:
    assert scene.ask().state is JobState.DONE
    assert scene.volumes.storage.definitions == {VM_ID: made()}
    assert VM_ID in scene.volumes.storage.leases
    assert scene.register.get(VM_ID).vm == made()


def test_register_twice_with_one_job_is_one_job(scene: Scene) -> None:
    request = replace(ASKED, job_id=JobId("00000000-0000-4000-8000-00000000000a"))
    assert scene.ask(request) == scene.ask(request)


def test_register_again_is_refused_as_it_waits_no_more(scene: Scene) -> None:
    scene.ask()
    assert code_of(lambda: scene.ask()) == "vm_not_unregistered"


def test_register_that_was_done_before_a_restart_is_done(scene: Scene) -> None:
    scene.ask()
    again = scene.registrar.job_handlers()[registering.VERB]
    job = scene.jobs.list()[0]
    arguments = {
        "storage_domain_id": SD_ID,
        "request": {"vm_id": VM_ID},
    }
    run = again(job, arguments)
    assert callable(run)
    before = dict(scene.volumes.storage.definitions)
    run(_Steps())  # type: ignore[arg-type]  # all that is asked of progress
    assert scene.volumes.storage.definitions == before


class _Steps:
    def step(self, percent: int, text: str) -> None:
        """Hear how far it is."""


def other(name: str, mac: str, disk_id: str) -> VmSpec:
    disk = replace(DISK, disk_id=DiskId(disk_id))
    nic = replace(NIC, mac=mac)
    return of_pool(replace(SPEC, vm_id=OTHER_ID, name=name, disks=(disk,), nics=(nic,)))


FREE_MAC = "52:54:00:00:00:77"


@pytest.mark.parametrize(
    ("there", "code"),
    [
        (other(SPEC.name, FREE_MAC, LOST), "vm_name_taken"),
        (other("db", NIC.mac, LOST), "mac_taken"),
        (other("db", FREE_MAC, DISK.disk_id), "disk_taken"),
    ],
    ids=["name", "mac", "disk"],
)
def test_register_refuses_what_clashes_and_changes_nothing(
    scene: Scene, there: VmSpec, code: str
) -> None:
    scene.newcomers.lying[OTHER_ID] = Found(
        Vm(there, 1, AT, home=SD_ID), Source.DEFINITION
    )
    scene.ask(RegisterVm(OTHER_ID))
    before = dict(scene.volumes.storage.definitions)
    job = scene.ask()
    assert job.error is not None
    assert job.error.code == code
    assert scene.volumes.storage.definitions == before


def test_register_under_another_id_leaves_what_lies_there(scene: Scene) -> None:
    assert scene.ask(replace(ASKED, as_vm_id=OTHER_ID)).state is JobState.DONE
    assert list(scene.volumes.storage.definitions) == [OTHER_ID]


@pytest.mark.parametrize(
    "request_",
    [ASKED, replace(ASKED, as_vm_id=OTHER_ID), replace(ASKED, is_forced=True)],
    ids=["as-it-is", "another-id", "forced"],
)
def test_register_is_refused_when_another_node_has_its_lease(
    scene: Scene, request_: RegisterVm
) -> None:
    """Whatever id it gets, the guest that runs has the same disks."""
    scene.volumes.make(LYING)
    scene.volumes.storage.take(VM_ID, OTHER_NODE)
    job = scene.ask(request_)
    assert job.error is not None
    assert job.error.code == "vm_runs_elsewhere"
    assert scene.volumes.storage.definitions == {}
    assert list(scene.volumes.storage.leases) == [VM_ID]


def test_register_keeps_the_lease_of_what_lies_there_while_it_writes(
    scene: Scene,
) -> None:
    scene.volumes.make(LYING)
    kept: list[set[VmId]] = []
    scene.volumes.on_write = lambda _vm: kept.append(set(scene.volumes.kept))
    assert scene.ask(replace(ASKED, as_vm_id=OTHER_ID)).state is JobState.DONE
    assert kept == [{VM_ID}]
    assert scene.volumes.is_given_back(LYING)


@pytest.mark.parametrize("has_lease", [True, False], ids=["leased", "without"])
@pytest.mark.parametrize("vm_id", [VM_ID, OTHER_ID], ids=["as-it-is", "another-id"])
def test_register_lets_a_suspended_vm_boot_and_its_memory_go(
    scene: Scene, vm_id: VmId, has_lease: bool
) -> None:
    """The definition names the disk, which is used up: the manager removes both."""
    vm = replace(LYING, memory=MEMORY)
    if has_lease:
        scene.volumes.make(vm)
    scene.volumes.storage.disks[MEMORY.disk_id] = 1
    scene.volumes.storage.marks[MEMORY.disk_id] = MemoryMark.SAVED
    scene.newcomers.lying[VM_ID] = Found(vm, Source.DEFINITION)
    assert scene.ask(replace(ASKED, as_vm_id=vm_id)).state is JobState.DONE
    made = scene.volumes.storage.definitions[vm_id]
    assert made.memory == replace(MEMORY, is_saved=False)
    assert scene.volumes.memories.look(made) is MemoryMark.USED
    scene.volumes.memories.settle(made)
    assert MEMORY.disk_id not in scene.volumes.storage.disks


@pytest.mark.parametrize(
    ("vm_id", "is_saved"),
    [
        pytest.param(VM_ID, True, id="as-it-is"),
        pytest.param(OTHER_ID, False, id="another-id"),
    ],
)
def test_wanted_keeps_the_memory_of_a_snapshot_for_the_vm_that_it_knows(
    vm_id: VmId, is_saved: bool
) -> None:
    snapshot = Snapshot(
        *(SnapshotId("s"), VM_ID, SnapshotKind.REGULAR, SnapshotState.OK, AT),
        memory=MEMORY,
    )
    found = replace(FOUND, vm=replace(LYING, snapshots=(snapshot,)))
    (kept,) = made(found, as_vm_id=vm_id).snapshots
    assert kept.memory == replace(MEMORY, is_saved=is_saved)


def test_register_of_a_template_makes_no_vm(scene: Scene) -> None:
    nics = (replace(NIC, mac=""),)
    vm = replace(LYING, spec=replace(LYING.spec, nics=nics), template=TemplateMark())
    scene.newcomers.lying[VM_ID] = Found(vm, Source.DEFINITION)
    assert scene.ask().state is JobState.DONE
    made = scene.volumes.storage.definitions[VM_ID]
    assert (made.template, made.generation) == (TemplateMark(), 8)
    assert made.spec.nics == nics
    assert scene.register.find(VM_ID) is None
    assert scene.volumes.storage.leases == {}


def test_template_is_registered_by_another_name_if_its_own_is_taken(
    scene: Scene,
) -> None:
    nics = (replace(NIC, mac=""),)
    vm = replace(LYING, spec=replace(LYING.spec, nics=nics), template=TemplateMark())
    scene.newcomers.lying[VM_ID] = Found(vm, Source.DEFINITION)
    known = replace(vm, spec=replace(vm.spec, vm_id=OTHER_ID, disks=()))
    scene.volumes.storage.definitions[OTHER_ID] = known
    with pytest.raises(TemplateNameTaken):
        scene.ask()
    assert scene.ask(replace(ASKED, name="newer")).state is JobState.DONE
    assert scene.volumes.storage.definitions[VM_ID].spec.name == "newer"


def test_register_is_the_managers(scene: Scene) -> None:
    scene.volumes.manages = False
    job = scene.ask()
    assert job.error is not None
    assert job.error.code == "not_spm"
    assert isinstance(job.error.message, str)
    with pytest.raises(Error):
        scene.registrar.register(SD_ID, RegisterVm(OTHER_ID))


def test_register_that_was_cut_off_is_done_when_it_goes_on(scene: Scene) -> None:
    """Stop after the lease, before the definition: it is not begun, or done."""

    def die(_vm: Vm) -> None:
        raise Conflict("it is cut off")

    scene.volumes.on_write = die
    registered = scene.registrar.job_handlers()[registering.VERB]
    arguments = {"storage_domain_id": SD_ID, "request": {"vm_id": VM_ID}}
    run = registered(scene.jobs.get(scene.ask().job_id), arguments)
    assert callable(run)
    assert scene.volumes.storage.definitions == {}
    assert scene.register.find(VM_ID) is None
    scene.volumes.on_write = lambda _vm: None
    for _ in range(2):
        run(_Steps())  # type: ignore[arg-type]  # all that is asked of progress
    assert scene.volumes.storage.definitions == {VM_ID: made()}
    assert scene.register.get(VM_ID).vm == made()


@pytest.mark.parametrize(
    ("source", "target"),
    [(Source.EXPORT, None), (Source.DEFINITION, SD_ID), (Source.OVF_STORE, SD_ID)],
    ids=["exported", "ours", "oVirt's"],
)
def test_only_what_was_exported_has_a_place_to_go(
    scene: Scene, source: Source, target: StorageDomainId | None
) -> None:
    scene.newcomers.lying[VM_ID] = replace(FOUND, source=source)
    request = replace(ASKED, to_storage_domain_id=target)
    assert code_of(lambda: scene.registrar.register(SD_ID, request)) == (
        "bad_import_target"
    )
