"""VMs on a pool: whole nodes on a hypervisor and a pool's storage in memory."""

import grp
import itertools
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node.config import Config
from node.contract.snapshots import Leaf
from node.contract.volumes import DiskTaken, PoolVms, VmHasLease, VmRunsElsewhere
from node.errors import Busy, NotFound, Unavailable
from node.guest import facts
from node.jobs import AgentStopping, Jobs
from node.model.feed import Kind
from node.model.ids import DiskId, NodeId, SnapshotId, StorageDomainId, VmId, VolumeId
from node.model.job import ENDED, Job, JobState
from node.model.requests import (
    ActOnVm,
    AttachDisk,
    CreateVm,
    DeleteVm,
    DetachDisk,
    ResizeVmDisk,
    StartVm,
    StopManner,
    StopVm,
)
from node.model.storage import DiskFormat, DiskQos, SnapshotKind, SnapshotState
from node.model.vm import (
    DiskInterface,
    EndCause,
    Firmware,
    ResumeBehavior,
    Snapshot,
    SnapshotDisk,
    Vm,
    VmRun,
    VmState,
    Wanted,
)
from node.storage import images
from node.store import Store
from node.system.hypervisor import Activity, DomainLeased
from node.vm import creating, domxml, files, pausing
from node.vm import pool_vms as watching
from node.vm.creating import LocalPoolNotReady, VmGone
from node.vm.definition import BadVm, VmDiffers
from node.vm.devices import firmware
from node.vm.lifecycle import Lifecycle, StaleGeneration
from node.vm.pool_editing import STRAY_S, DiskNotAttached
from node.vm.pool_vms import LEASES_S, LIMITS_S, DefinitionsIncomplete
from node.vm.register import VmUnknown
from tests.fakes.clock import FakeClock
from tests.fakes.hooks import FakeHooks
from tests.fakes.hypervisor import FakeHypervisor
from tests.fakes.volumes import (
    POOL_ID,
    SD_ID,
    FakeVolumes,
    PoolStorage,
    StorageAway,
    of_pool,
)
from tests.unit.node.vm.examples import DISK, HOST, SPEC, VM_ID

_GROUP = grp.getgrgid(os.getgid()).gr_name
_WAIT_S = 20.0
_TURN_S = 0.2  # the watch needs a hundredth of it
_POOLED = of_pool(SPEC)
_FORCE = StopVm(manner=StopManner.FORCE)
_FAULT = "eio on disk-1"


class _Node:
    """A node of the pool. Its watch goes round when the test says so."""

    def __init__(self, folder: Path, name: str, storage: PoolStorage) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        (self.folder / "logs").mkdir()
        self.node_id = NodeId(f"{name}-0000")
        self.hypervisor = FakeHypervisor()
        self.volumes = FakeVolumes(self.node_id, storage)
        self.hypervisor.on_run = self._run
        self.hypervisor.on_rest = self.volumes.rest
        self.clock = FakeClock()
        self.start_agent()

    def start_agent(self) -> None:
        host = replace(HOST, node_id=self.node_id)
        self.store = Store(
            self.folder / "store.db", self.clock, self.node_id, HOST.boot_id
        )
        self.jobs = Jobs(self.store, self.clock)
        config = Config(
            state_folder=str(self.folder), qemu_group=_GROUP, guest_wait_s=30
        )
        self.vms = Lifecycle(
            *(self.hypervisor, self.store, self.jobs, self.clock),
            *(config, lambda: host, images.list_images, facts.GuestPoller),
            *(self.volumes, FakeHooks(), self.folder / "logs"),
        )
        self.jobs.recover(self.vms.job_handlers())
        self.vms.run()
        self.jobs.start()
        assert self.vms.wait_surveyed(_WAIT_S)

    def stop_agent(self) -> None:
        self.jobs.stop(_WAIT_S)
        self.vms.close()
        self.store.close()

    def do(self, verb: str, request: Any) -> Job:
        job = getattr(self.vms, verb)(VM_ID, request)
        ended = self.jobs.get(job.job_id, _WAIT_S)
        assert ended.state in ENDED, f"{ended} does not end"
        return ended

    def done(self, verb: str, request: Any) -> None:
        job = self.do(verb, request)
        assert job.state is JobState.DONE, job

    def refusal(self, verb: str, request: Any) -> str:
        job = self.do(verb, request)
        assert job.error is not None, job
        return job.error.code

    def create(self, **fields: Any) -> None:
        self.vms.create(CreateVm(replace(_POOLED, **fields)))

    def look_after(self) -> None:
        self.vms.pool_vms.go_round()

    def wait_definitions(self) -> None:
        self.vms.pool_vms.read_definitions()

    @property
    def run(self) -> VmRun:
        return self.vms.show(VM_ID).run

    def await_state(self, state: VmState) -> VmRun:
        for _ in range(100):
            rev = self.store.rev
            if self.run.state is state:
                return self.run
            self.store.wait(rev, _WAIT_S / 10)
        raise AssertionError(f"it is {self.run}, not {state}")

    def _run(self, vm_id: VmId) -> None:
        try:
            self.volumes.run(vm_id)
        except VmRunsElsewhere as error:
            raise DomainLeased(error.message) from error


@pytest.fixture
def storage() -> PoolStorage:
    return PoolStorage()


@pytest.fixture
def oak(tmp_path: Path, storage: PoolStorage) -> Iterator[_Node]:
    """Return the node that manages the pool."""
    made = _Node(tmp_path, "oak", storage)
    yield made
    made.stop_agent()


@pytest.fixture
def elm(tmp_path: Path, storage: PoolStorage) -> Iterator[_Node]:
    made = _Node(tmp_path, "elm", storage)
    made.volumes.manages = False
    yield made
    made.stop_agent()


@pytest.mark.skipif(not files.has_uefi(), reason="needs ovmf")
def test_uefi_variables_go_where_the_vm_goes(
    oak: _Node, elm: _Node, storage: PoolStorage, tmp_path: Path
) -> None:
    storage.folder = tmp_path / "beside"
    storage.folder.mkdir()
    oak.create(firmware=Firmware.UEFI)
    oak.done("start", StartVm())
    kept = storage.folder / VM_ID
    assert f">{kept}</nvram>" in oak.hypervisor.observe(VM_ID).xml
    assert kept.read_bytes() == firmware.OVMF_VARIABLES.read_bytes()
    kept.write_bytes(b"boot order")
    oak.done("stop", _FORCE)
    elm.done("start", StartVm())
    assert f">{kept}</nvram>" in elm.hypervisor.observe(VM_ID).xml
    assert kept.read_bytes() == b"boot order"


@pytest.mark.skipif(not files.has_uefi(), reason="needs ovmf")
def test_uefi_variables_that_the_node_kept_come_along(
    oak: _Node, storage: PoolStorage, tmp_path: Path
) -> None:
    oak.create(firmware=Firmware.UEFI)
    oak.done("start", StartVm())  # by an agent that kept them on the node
    own = oak.folder / "nvram" / f"{VM_ID}.fd"
    assert f">{own}</nvram>" in oak.hypervisor.observe(VM_ID).xml
    own.write_bytes(b"boot order")
    oak.done("stop", _FORCE)
    storage.folder = tmp_path / "beside"
    storage.folder.mkdir()
    oak.done("start", StartVm())
    assert (storage.folder / VM_ID).read_bytes() == b"boot order"


# --- definitions


def test_create_puts_the_definition_on_the_pool(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create()
    entry = oak.vms.show(VM_ID)
    assert storage.definitions == {VM_ID: entry.vm}
    assert entry.vm.home is not None
    assert storage.disks == {DISK.disk_id: DISK.size_bytes}
    assert not (oak.folder / "disks" / VM_ID).exists()
    oak.create()


def test_create_is_the_managers(elm: _Node, storage: PoolStorage) -> None:
    with pytest.raises(Exception, match="another node manages"):
        elm.create()
    assert storage.definitions == {}


def test_create_goes_on_from_what_lies_on_the_pool(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create()
    before = oak.vms.show(VM_ID).vm
    oak.stop_agent()
    (oak.folder / "store.db").unlink()  # as if it stopped before it kept the VM
    oak.start_agent()
    oak.vms.create(CreateVm(_POOLED))
    assert oak.vms.show(VM_ID).vm == before == storage.definitions[VM_ID]


def test_create_refuses_an_id_that_is_another_vm_on_the_pool(
    oak: _Node, elm: _Node
) -> None:
    oak.create()
    elm.volumes.manages = True
    with pytest.raises(VmDiffers):
        elm.create(name="db", nics=())


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"disks": (DISK,)}, id="a-disk-of-the-node"),
        pytest.param({"pool_id": None}, id="disks-without-a-pool"),
        pytest.param(
            {"disks": (replace(_POOLED.disks[0], is_shared=True),)},
            id="qcow2-that-is-shared",
        ),
        pytest.param(
            {"disks": (replace(_POOLED.disks[0], image="debian"),)}, id="an-image"
        ),
        pytest.param(
            {"disks": (replace(_POOLED.disks[0], qos=DiskQos(10, read_iops=5)),)},
            id="a-total-beside-its-parts",
        ),
        pytest.param(
            {"disks": (replace(_POOLED.disks[0], qos=DiskQos(-1)),)},
            id="less-than-none",
        ),
        pytest.param(
            {"disks": (replace(_POOLED.disks[0], volume_id=VolumeId("../x")),)},
            id="a-path",
        ),
    ],
)
def test_create_refuses_what_no_pool_has(oak: _Node, fields: dict[str, Any]) -> None:
    oak.volumes.is_shared = fields.get("pool_id", POOL_ID) is not None
    with pytest.raises(BadVm):
        oak.create(**fields)


def test_manager_takes_on_what_lies_on_the_pool(oak: _Node, elm: _Node) -> None:
    oak.create()
    elm.volumes.manages = True
    elm.wait_definitions()
    assert elm.vms.show(VM_ID).vm == oak.vms.show(VM_ID).vm
    elm.volumes.manages = False
    elm.wait_definitions()
    with pytest.raises(VmUnknown):
        elm.vms.show(VM_ID)


def test_vm_that_is_created_while_definitions_are_read_stays(
    oak: _Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = FakeVolumes.definitions

    def read_slowly(volumes: FakeVolumes) -> tuple[PoolVms, ...]:
        found = read(volumes)
        oak.create()
        return found

    monkeypatch.setattr(FakeVolumes, "definitions", read_slowly)
    oak.wait_definitions()
    assert oak.vms.show(VM_ID).vm.spec.vm_id == VM_ID


def test_delete_takes_all_of_it_from_the_pool(oak: _Node, storage: PoolStorage) -> None:
    oak.create()
    oak.done("delete", DeleteVm())
    assert (storage.definitions, storage.disks, storage.leases) == ({}, {}, {})
    with pytest.raises(VmGone):
        oak.create()


def test_delete_refuses_a_vm_that_runs_elsewhere(oak: _Node, elm: _Node) -> None:
    oak.create()
    elm.done("start", StartVm())
    assert oak.refusal("delete", DeleteVm()) == "vm_runs_elsewhere"
    elm.done("stop", _FORCE)
    oak.done("delete", DeleteVm())


# --- starting


def test_start_needs_no_manager_and_no_definition_here(
    oak: _Node, elm: _Node, storage: PoolStorage
) -> None:
    oak.create()
    elm.done("start", StartVm())
    assert elm.run.state is VmState.POWERING_UP
    xml = elm.hypervisor.observe(VM_ID).xml
    assert "<lease>" in xml
    assert "/leaf" in xml
    version = storage.leases[VM_ID].version
    assert elm.run.lease_version == version
    assert (storage.leases[VM_ID].holder, version > 0) == (elm.node_id, True)


def test_start_takes_the_definition_that_comes_with_it(oak: _Node, elm: _Node) -> None:
    oak.create()
    vm = oak.vms.show(VM_ID).vm
    elm.done("start", StartVm(vm=vm, generation=1))
    assert elm.vms.show(VM_ID).vm == replace(vm, wanted=Wanted.UP)


def test_start_refuses_a_definition_of_another_generation(
    oak: _Node, elm: _Node
) -> None:
    oak.create()
    vm = oak.vms.show(VM_ID).vm
    for request in (
        StartVm(vm=vm, generation=2),
        StartVm(vm=replace(vm, generation=2), generation=2),
    ):
        with pytest.raises(StaleGeneration):
            elm.vms.start(VM_ID, request)
    elm.done("start", StartVm())  # and nothing of it stays


def test_start_believes_the_storage_alone(oak: _Node, elm: _Node) -> None:
    oak.create()
    vm = oak.vms.show(VM_ID).vm
    other = replace(vm, spec=replace(vm.spec, name="another"))
    elm.done("start", StartVm(vm=other))
    assert elm.vms.show(VM_ID).vm.spec == vm.spec


def test_start_takes_the_newest_definition(
    oak: _Node, elm: _Node, storage: PoolStorage
) -> None:
    oak.create()
    elm.done("start", StartVm())
    elm.done("stop", _FORCE)
    vm = storage.definitions[VM_ID]
    storage.definitions[VM_ID] = replace(vm, generation=2)
    elm.done("start", StartVm())
    assert elm.run.generation == 2


def test_start_refuses_a_vm_that_was_deleted_meanwhile(oak: _Node, elm: _Node) -> None:
    oak.create()
    elm.done("start", StartVm())
    elm.done("stop", _FORCE)
    oak.done("delete", DeleteVm())
    assert elm.refusal("start", StartVm()) == "vm_gone"


def test_start_refuses_what_runs_elsewhere_before_a_disk_is_opened(
    oak: _Node, elm: _Node
) -> None:
    oak.create()
    oak.done("start", StartVm())
    assert elm.refusal("start", StartVm()) == "vm_runs_elsewhere"
    end = elm.run.end
    assert end is not None
    assert (end.cause, "oak" in end.detail) == (EndCause.START_FAILED, True)
    assert "create" not in elm.hypervisor.calls


def test_start_that_libvirt_refuses_says_that_another_was_quicker(
    oak: _Node, elm: _Node, storage: PoolStorage
) -> None:
    oak.create()

    def take(_xml: str) -> None:
        storage.take(VM_ID, oak.node_id)

    elm.hypervisor.on_create = take
    assert elm.refusal("start", StartVm()) == "vm_runs_elsewhere"


def test_start_ends_what_libvirt_took_no_lease_for(oak: _Node) -> None:
    oak.create()
    oak.hypervisor.on_run = lambda _vm_id: None
    assert oak.refusal("start", StartVm()) == "vm_lease_not_taken"
    assert "kill" in oak.hypervisor.calls
    end = oak.await_state(VmState.DOWN).end
    assert end is not None
    assert end.cause is EndCause.START_FAILED


def test_start_reads_the_chain_while_it_has_the_lease(
    oak: _Node, storage: PoolStorage
) -> None:
    """Who changes disks has the lease as well: he comes before, or after."""
    oak.create()
    seen: list[bool] = []
    oak.volumes.on_open = lambda _disk: seen.append(storage.leases[VM_ID].is_parked)
    oak.done("start", StartVm())
    assert seen == [True]


def test_start_refuses_a_definition_that_changed_before_it_had_the_lease(
    oak: _Node, elm: _Node, storage: PoolStorage
) -> None:
    oak.create()
    vm = storage.definitions[VM_ID]

    def change(vm_id: VmId) -> None:
        if storage.leases[vm_id].is_parked:
            storage.definitions[vm_id] = replace(vm, generation=2)

    elm.volumes.on_find = change
    assert elm.refusal("start", StartVm()) == "vm_changed_meanwhile"
    assert storage.leases[VM_ID].is_free
    assert "create" not in elm.hypervisor.calls


def test_start_kills_what_read_its_disks_before_somebody_had_the_lease(
    oak: _Node, elm: _Node, storage: PoolStorage
) -> None:
    oak.create()

    def between(_xml: str) -> None:
        storage.take(VM_ID, oak.node_id)
        storage.free(VM_ID)

    elm.hypervisor.on_create = between
    assert elm.refusal("start", StartVm()) == "vm_runs_elsewhere"
    assert "kill" in elm.hypervisor.calls


def test_start_of_a_vm_that_is_to_be_paused_keeps_its_lease(
    oak: _Node, elm: _Node
) -> None:
    oak.create()
    oak.done("start", StartVm(is_paused=True))
    assert elm.refusal("start", StartVm()) == "vm_runs_elsewhere"
    oak.done("resume", ActOnVm())
    assert oak.hypervisor.observe(VM_ID).activity is Activity.RUNNING


def test_start_on_a_local_pool_has_no_lease(oak: _Node) -> None:
    oak.volumes.is_shared = False
    oak.create()
    oak.done("start", StartVm())
    assert "<lease>" not in oak.hypervisor.observe(VM_ID).xml
    assert oak.run.lease_version is None


def test_vm_that_names_no_pool_lies_on_the_nodes_own(oak: _Node) -> None:
    oak.volumes.is_shared = False
    oak.vms.create(CreateVm(SPEC))
    made = oak.vms.show(VM_ID).vm
    assert (made.spec, made.home) == (_POOLED, SD_ID)
    assert oak.volumes.find(VM_ID) == made
    assert oak.vms.create(CreateVm(SPEC)).vm == made
    assert not (oak.folder / "disks" / VM_ID).exists()


def test_create_says_why_the_own_pool_is_not_ready(
    oak: _Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(creating, "OWN_POOL_WAIT_S", 0.01)
    oak.volumes.is_shared = oak.volumes.manages = False
    with pytest.raises(LocalPoolNotReady, match="it is far away") as caught:
        oak.vms.create(CreateVm(SPEC))
    assert "skerry-storage" in caught.value.remedy


def test_create_waits_for_the_own_pool(oak: _Node) -> None:
    oak.volumes.is_shared = oak.volumes.manages = False
    timer = threading.Timer(0.1, lambda: setattr(oak.volumes, "manages", True))
    timer.start()
    oak.vms.create(CreateVm(SPEC))
    timer.join()


def test_create_waits_for_a_job_that_is_at_its_disk_since_a_restart(
    oak: _Node, storage: PoolStorage
) -> None:
    storage.locked.add(DISK.disk_id)
    timer = threading.Timer(0.1, storage.locked.clear)
    timer.start()
    oak.create()
    timer.join()


def test_create_does_not_wait_for_a_locked_disk_for_ever(
    oak: _Node, storage: PoolStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(creating, "DISKS_WAIT_S", 0.01)
    storage.locked.add(DISK.disk_id)
    with pytest.raises(Busy) as caught:
        oak.create()
    assert caught.value.code == "disk_locked"


def test_create_leaves_a_vm_that_was_made_meanwhile_as_it_is(oak: _Node) -> None:
    """Who asks twice at once waits in the queue, while the VM starts."""
    oak.create()
    oak.done("start", StartVm())
    again = oak.vms.editor.create(_POOLED, {}, None)
    assert again.run.state is oak.run.state is VmState.POWERING_UP


def test_vm_on_the_own_pool_is_not_forgotten_before_that_is_managed(
    oak: _Node,
) -> None:
    oak.volumes.is_shared = False
    oak.create()
    oak.volumes.manages = False
    oak.wait_definitions()
    assert oak.vms.show(VM_ID).vm.spec == _POOLED


@pytest.mark.parametrize(
    ("verb", "request_"), [("start", StartVm()), ("delete", DeleteVm())]
)
def test_job_waits_until_the_own_pool_is_managed(
    oak: _Node, verb: str, request_: Any
) -> None:
    oak.volumes.is_shared = False
    oak.create()
    oak.volumes.manages, oak.volumes.is_away = False, True

    def come_back() -> None:
        oak.volumes.is_away, oak.volumes.manages = False, True

    timer = threading.Timer(0.1, come_back)
    timer.start()
    oak.done(verb, request_)
    timer.join()


def test_vm_that_runs_is_taken_back_by_a_node_that_lost_its_memory(
    oak: _Node,
) -> None:
    oak.create()
    oak.done("start", StartVm())
    oak.stop_agent()
    (oak.folder / "store.db").unlink()
    oak.start_agent()
    with pytest.raises(VmUnknown):
        oak.vms.show(VM_ID)
    oak.look_after()
    run = oak.run
    assert (run.state, run.generation) == (VmState.POWERING_UP, 1)
    oak.look_after()
    assert oak.run.lease_version is not None


# --- pausing


def test_paused_vm_is_refused_elsewhere_and_goes_on(
    oak: _Node, elm: _Node, storage: PoolStorage
) -> None:
    oak.create()
    oak.done("start", StartVm())
    oak.done("pause", ActOnVm())
    assert elm.refusal("start", StartVm()) == "vm_runs_elsewhere"
    oak.done("resume", ActOnVm())
    assert oak.run.lease_version == storage.leases[VM_ID].version
    assert oak.hypervisor.observe(VM_ID).activity is Activity.RUNNING


def _run_elsewhere(storage: PoolStorage, node: _Node) -> None:
    """Let another node run the VM and stop it, although it is paused here."""
    storage.free(VM_ID)
    node.volumes.run(VM_ID)
    node.volumes.rest(VM_ID)


def test_resume_kills_a_vm_that_ran_elsewhere_meanwhile(
    oak: _Node, elm: _Node, storage: PoolStorage
) -> None:
    oak.create()
    oak.done("start", StartVm())
    oak.done("pause", ActOnVm())
    _run_elsewhere(storage, elm)
    assert oak.refusal("resume", ActOnVm()) == "vm_lease_moved"
    assert "resume" not in oak.hypervisor.calls
    assert "kill" in oak.hypervisor.calls
    end = oak.await_state(VmState.DOWN).end
    assert end is not None
    assert end.cause is EndCause.LEASE_MOVED


def test_resume_kills_what_goes_on_under_a_lease_that_moved_in_between(
    oak: _Node, elm: _Node, storage: PoolStorage
) -> None:
    oak.create()
    oak.done("start", StartVm())
    oak.done("pause", ActOnVm())
    run = oak.hypervisor.on_run

    def late(vm_id: VmId) -> None:
        _run_elsewhere(storage, elm)
        run(vm_id)

    oak.hypervisor.on_run = late
    assert oak.refusal("resume", ActOnVm()) == "vm_lease_moved"
    assert oak.await_state(VmState.DOWN).end is not None


def test_pause_leaves_the_lease_free_while_the_storage_is_away(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create()
    oak.done("start", StartVm())
    oak.volumes.is_away = True
    oak.done("pause", ActOnVm())
    assert storage.leases[VM_ID].is_free
    oak.volumes.is_away = False
    oak.look_after()
    assert storage.leases[VM_ID].is_parked


def test_lease_is_kept_for_a_memory_that_waits_to_be_marked(
    oak: _Node, storage: PoolStorage
) -> None:
    """Its agent has started again, and the job that marks it has not come so far."""
    oak.create()
    may_end = threading.Event()
    job = oak.jobs.submit(
        *("vm_suspend", Kind.VM, VM_ID, lambda _progress: _wait_for(may_end)),
        job_id=None,
        arguments={"vm_id": VM_ID},
    )
    oak.volumes.park(oak.vms.show(VM_ID).vm, None)
    oak.look_after()
    assert storage.leases[VM_ID].is_parked
    may_end.set()
    assert oak.jobs.get(job.job_id, _WAIT_S).state is JobState.DONE
    oak.look_after()
    assert storage.leases[VM_ID].is_free


def test_vm_that_its_own_qemu_still_has_is_not_ended(
    oak: _Node, storage: PoolStorage
) -> None:
    """Libvirt says that it is paused, and sanlock has not heard of it yet."""
    oak.create()
    oak.done("start", StartVm())
    oak.hypervisor.on_rest = lambda _vm_id: None
    oak.done("pause", ActOnVm())
    oak.look_after()
    assert oak.run.state is VmState.PAUSED
    assert "kill" not in oak.hypervisor.calls
    storage.free(VM_ID)
    oak.look_after()
    assert storage.leases[VM_ID].is_parked


def test_resume_and_the_watch_take_turns(oak: _Node) -> None:
    """Between the lease's owners nobody may step, or libvirt would not get it."""
    oak.create()
    oak.done("start", StartVm())
    oak.done("pause", ActOnVm())
    run, threads = oak.hypervisor.on_run, [threading.Thread(target=oak.look_after)]

    def late(vm_id: VmId) -> None:
        threads[0].start()
        threads[0].join(_TURN_S)
        run(vm_id)

    oak.hypervisor.on_run = late
    oak.done("resume", ActOnVm())
    threads[0].join(_WAIT_S)
    assert "kill" not in oak.hypervisor.calls


def test_lease_of_a_vm_that_ended_paused_is_given_back(oak: _Node, elm: _Node) -> None:
    oak.create()
    oak.done("start", StartVm())
    oak.done("pause", ActOnVm())
    oak.done("stop", _FORCE)
    oak.look_after()
    elm.done("start", StartVm())


@pytest.mark.parametrize("is_away", [False, True])
def test_stop_kills_a_paused_vm_that_may_have_run_elsewhere(
    oak: _Node, elm: _Node, storage: PoolStorage, is_away: bool
) -> None:
    """A destroy begins with SIGTERM, on which QEMU writes out what it has."""
    oak.create()
    oak.done("start", StartVm())
    oak.done("pause", ActOnVm())
    if is_away:
        oak.volumes.is_away = True
    else:
        _run_elsewhere(storage, elm)
    oak.done("stop", _FORCE)
    assert ("kill" in oak.hypervisor.calls, "destroy" in oak.hypervisor.calls) == (
        True,
        False,
    )
    end = oak.run.end
    assert end is not None
    assert end.cause is EndCause.KILLED


def test_stop_destroys_a_paused_vm_whose_lease_is_here(oak: _Node) -> None:
    oak.create()
    oak.done("start", StartVm())
    oak.done("pause", ActOnVm())
    oak.done("stop", _FORCE)
    assert "kill" not in oak.hypervisor.calls


def test_agent_that_stopped_during_a_resume_does_not_kill(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create()
    oak.done("start", StartVm())
    oak.done("pause", ActOnVm())
    # The lease was handed over, and QEMU paused again, before that was written down.
    storage.free(VM_ID)
    oak.volumes.run(VM_ID)
    oak.volumes.rest(VM_ID)
    oak.done("resume", ActOnVm())
    assert "kill" not in oak.hypervisor.calls


def test_second_run_is_not_measured_by_the_lease_of_the_first(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create()
    oak.done("start", StartVm())
    oak.done("stop", _FORCE)
    first = storage.leases[VM_ID].version

    def hide(_xml: str) -> None:
        oak.volumes.is_unreadable = True

    oak.hypervisor.on_create = hide
    oak.done("start", StartVm())
    assert oak.run.lease_version == storage.leases[VM_ID].version == first + 2
    oak.volumes.is_unreadable = False
    oak.done("pause", ActOnVm())
    oak.look_after()
    assert "kill" not in oak.hypervisor.calls


def _forget_version(node: _Node) -> None:
    """Let the agent have stopped before it wrote down what its run's lease was."""
    entry = node.vms.show(VM_ID)
    with node.store.change() as change:
        change.put(Kind.VM_RUN, VM_ID, replace(entry.run, lease_version=None))
    node.stop_agent()
    node.start_agent()


def test_paused_run_of_unknown_version_ends_if_another_node_had_its_lease(
    oak: _Node, elm: _Node, storage: PoolStorage
) -> None:
    oak.create()
    oak.done("start", StartVm())
    oak.hypervisor.fault(VM_ID, _FAULT)
    oak.await_state(VmState.PAUSED)
    _run_elsewhere(storage, elm)
    _forget_version(oak)
    oak.look_after()
    end = oak.await_state(VmState.DOWN).end
    assert end is not None
    assert end.cause is EndCause.LEASE_MOVED


def test_paused_run_of_unknown_version_stays_if_its_lease_is_here(oak: _Node) -> None:
    oak.create()
    oak.done("start", StartVm())
    oak.done("pause", ActOnVm())
    _forget_version(oak)
    oak.look_after()
    assert oak.run.state is VmState.PAUSED
    assert oak.run.lease_version is not None


def test_stop_by_force_does_not_wait_for_whoever_moves_the_lease(
    oak: _Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    oak.create()
    oak.done("start", StartVm())
    oak.done("pause", ActOnVm())
    monkeypatch.setattr(pausing, "STALE_AFTER_S", 0.01)
    with oak.vms.pool_vms._pauser.turn(VM_ID):
        oak.done("stop", _FORCE)
    assert "kill" in oak.hypervisor.calls


# --- merges of the newest volume


_VOLUME = VolumeId("cccccccc-0000-4000-8000-000000000009")
_MERGED = Leaf(DISK.disk_id, _VOLUME, VolumeId("leaf"))  # the fake's guests write there


def _turn_past(node: _Node, storage: PoolStorage, state: SnapshotState) -> None:
    """Let the guest write to another volume than the definition names."""
    node.create()
    node.done("start", StartVm())
    known = storage.definitions[VM_ID]
    disks = tuple(replace(disk, volume_id=_VOLUME) for disk in known.spec.disks)
    snapshot = Snapshot(
        SnapshotId("s1"), VM_ID, SnapshotKind.REGULAR, state, known.created_at, "now"
    )
    vm = replace(
        known,
        spec=replace(known.spec, disks=disks),
        generation=known.generation + 1,
        snapshots=(snapshot,),
    )
    storage.definitions[VM_ID] = vm
    node.vms.adopt(vm)


def test_resume_waits_until_the_storage_names_what_the_guest_has_turned_to(
    oak: _Node, storage: PoolStorage
) -> None:
    _turn_past(oak, storage, SnapshotState.BROKEN)
    oak.done("pause", ActOnVm())
    assert oak.refusal("resume", ActOnVm()) == "vm_merge_unmarked"
    assert oak.hypervisor.observe(VM_ID).activity is Activity.PAUSED
    storage.closed.add(_MERGED)
    oak.done("resume", ActOnVm())
    assert oak.hypervisor.observe(VM_ID).activity is Activity.RUNNING


def test_guest_that_has_turned_does_not_go_on_as_its_storage_does(
    oak: _Node, storage: PoolStorage
) -> None:
    _turn_past(oak, storage, SnapshotState.BROKEN)
    oak.hypervisor.fault(VM_ID, _FAULT)
    oak.await_state(VmState.PAUSED)
    oak.look_after()
    assert oak.hypervisor.observe(VM_ID).activity is Activity.FAULTED


def test_resume_does_not_wait_for_a_snapshot_whose_leaf_is_blank(
    oak: _Node, storage: PoolStorage
) -> None:
    _turn_past(oak, storage, SnapshotState.LOCKED)
    oak.done("pause", ActOnVm())
    oak.done("resume", ActOnVm())


# --- disks


_NEW = replace(
    _POOLED.disks[0], disk_id=DiskId("bbbbbbbb-0000-4000-8000-000000000009"), name="new"
)
_ALIAS = f"disk-{_NEW.disk_id}"


def _aliases(node: _Node) -> frozenset[str]:
    return domxml.disk_aliases(node.hypervisor.observe(VM_ID).xml)


def test_attach_changes_the_definition_of_a_vm_that_is_down(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create()
    oak.done("attach_disk", AttachDisk(_NEW))
    oak.done("attach_disk", AttachDisk(_NEW))
    vm = storage.definitions[VM_ID]
    assert (vm.spec.disks[-1], vm.generation) == (_NEW, 2)
    assert oak.vms.show(VM_ID).vm == vm
    assert _ALIAS in dict(vm.addresses)
    oak.done("start", StartVm(generation=2))
    assert _ALIAS in _aliases(oak)


def test_attach_keeps_a_disk_and_plugs_it_in(oak: _Node, storage: PoolStorage) -> None:
    oak.create()
    oak.done("start", StartVm())
    oak.done("attach_disk", AttachDisk(_NEW))
    assert _ALIAS in _aliases(oak)
    assert storage.definitions[VM_ID].spec.disks[-1] == _NEW
    assert oak.vms.show(VM_ID).vm.wanted is Wanted.UP
    oak.done("attach_disk", AttachDisk(_NEW))
    assert oak.hypervisor.calls.count("attach") == 1


def test_attach_that_the_hypervisor_refuses_changes_nothing(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create()
    oak.done("start", StartVm())
    before = storage.definitions[VM_ID]
    oak.volumes.is_away = True
    assert oak.refusal("attach_disk", AttachDisk(_NEW)) == "storage_away"
    assert storage.definitions[VM_ID] == before


def test_attach_on_another_node_plugs_what_the_manager_has_written(
    oak: _Node, elm: _Node, storage: PoolStorage
) -> None:
    oak.create()
    elm.done("start", StartVm())
    oak.done("attach_disk", AttachDisk(_NEW))
    assert storage.definitions[VM_ID].spec.disks[-1] == _NEW
    elm.done("attach_disk", AttachDisk(_NEW))
    assert _ALIAS in _aliases(elm)
    assert storage.definitions[VM_ID].generation == 2
    assert elm.vms.show(VM_ID).vm.generation == 2


def test_attach_on_another_node_plugs_nothing_that_no_definition_names(
    oak: _Node, elm: _Node, storage: PoolStorage
) -> None:
    """Else its manager would let the disk be deleted under the guest."""
    oak.create()
    elm.done("start", StartVm())
    assert elm.refusal("attach_disk", AttachDisk(_NEW)) == "not_spm"
    assert _ALIAS not in _aliases(elm)
    assert storage.definitions[VM_ID].generation == 1


@pytest.mark.parametrize("verb", ["attach_disk", "detach_disk"])
def test_who_managed_the_pool_does_not_say_that_it_is_done(
    oak: _Node, elm: _Node, storage: PoolStorage, verb: str
) -> None:
    oak.create()
    elm.done("start", StartVm())
    oak.volumes.manages = False
    request = {"attach_disk": AttachDisk(_NEW), "detach_disk": DetachDisk(DISK.disk_id)}
    assert oak.refusal(verb, request[verb]) == "not_spm"
    assert storage.definitions[VM_ID].generation == 1


def test_detach_on_another_node_leaves_the_definition_to_the_manager(
    oak: _Node, elm: _Node, storage: PoolStorage
) -> None:
    oak.create(disks=(*_POOLED.disks, _NEW))
    elm.done("start", StartVm())
    elm.done("detach_disk", DetachDisk(_NEW.disk_id))
    assert _ALIAS not in _aliases(elm)
    assert storage.definitions[VM_ID].spec.disks[-1] == _NEW
    version = elm.run.lease_version
    oak.done("detach_disk", DetachDisk(_NEW.disk_id, lease_version=version))
    assert storage.definitions[VM_ID].spec.disks == _POOLED.disks


@pytest.mark.parametrize("gap", [None, 1])
def test_detach_refuses_a_run_elsewhere_that_has_not_let_the_disk_go(
    oak: _Node, elm: _Node, storage: PoolStorage, gap: int | None
) -> None:
    """Else it counts as nobody's, and the guest writes to it."""
    oak.create(disks=(*_POOLED.disks, _NEW))
    elm.done("start", StartVm())
    version = None if gap is None else storage.leases[VM_ID].version - gap
    request = DetachDisk(_NEW.disk_id, lease_version=version)
    assert oak.refusal("detach_disk", request) == "vm_runs_elsewhere"
    assert storage.definitions[VM_ID].generation == 1


def test_detach_lets_nobody_start_the_vm_meanwhile(
    oak: _Node, elm: _Node, storage: PoolStorage
) -> None:
    oak.create(disks=(*_POOLED.disks, _NEW))
    answers: list[str] = []
    oak.volumes.on_write = lambda _vm: answers.append(elm.refusal("start", StartVm()))
    oak.done("detach_disk", DetachDisk(_NEW.disk_id))
    assert answers == ["vm_runs_elsewhere"]
    elm.done("start", StartVm())
    assert _ALIAS not in _aliases(elm)


@pytest.mark.parametrize("is_away", [False, True], ids=["there", "away"])
def test_definition_follows_the_disks_that_are_left(
    oak: _Node, storage: PoolStorage, is_away: bool
) -> None:
    """Else it would go with a storage domain that has nothing of the VM any more."""
    there = StorageDomainId("5d5d5d5d-0000-4000-8000-000000000002")
    oak.create(disks=(*_POOLED.disks, replace(_NEW, storage_domain_id=there)))
    before = storage.definitions[VM_ID].home
    if is_away:
        storage.silent.add(there)
    oak.done("detach_disk", DetachDisk(DISK.disk_id))
    assert storage.definitions[VM_ID].home == (before if is_away else there)


_THERE = StorageDomainId("5d5d5d5d-0000-4000-8000-000000000002")


def _look_long(oak: _Node) -> None:
    """Read the definitions, and again when nobody has changed them for a while."""
    oak.wait_definitions()
    oak.clock.advance(STRAY_S)
    oak.wait_definitions()


def _homeless(oak: _Node, storage: PoolStorage) -> StorageDomainId | None:
    """Return where the definition stays when a guest loses its last disk there."""
    oak.vms.pool_vms.tenders = (oak.vms.editor.tend,)
    oak.create(disks=(*_POOLED.disks, replace(_NEW, storage_domain_id=_THERE)))
    before = storage.definitions[VM_ID].home
    oak.done("start", StartVm())
    oak.done("detach_disk", DetachDisk(DISK.disk_id))
    _look_long(oak)
    assert storage.definitions[VM_ID].home == before
    return before


def test_definition_follows_the_disks_when_the_vm_is_down(
    oak: _Node, elm: _Node, storage: PoolStorage
) -> None:
    _homeless(oak, storage)
    oak.done("stop", _FORCE)
    oak.await_state(VmState.DOWN)
    _look_long(oak)
    moved = storage.definitions[VM_ID]
    assert (moved.home, moved.generation) == (_THERE, 3)
    _look_long(oak)
    assert storage.definitions[VM_ID] == moved
    elm.done("start", StartVm())


def test_definition_stays_where_it_is_while_the_vm_runs_elsewhere(
    oak: _Node, elm: _Node, storage: PoolStorage
) -> None:
    before = _homeless(oak, storage)
    oak.done("stop", _FORCE)
    oak.await_state(VmState.DOWN)
    elm.done("start", StartVm())
    _look_long(oak)
    assert storage.definitions[VM_ID].home == before


def test_definition_stays_where_it_is_while_its_new_home_is_away(
    oak: _Node, storage: PoolStorage
) -> None:
    before = _homeless(oak, storage)
    oak.done("stop", _FORCE)
    oak.await_state(VmState.DOWN)
    storage.silent.add(_THERE)
    _look_long(oak)
    kept = storage.definitions[VM_ID]
    assert (kept.home, kept.generation) == (before, 2)
    storage.silent.discard(_THERE)
    _look_long(oak)
    assert storage.definitions[VM_ID].home == _THERE


def test_definition_is_brought_home_after_a_write_that_failed(
    oak: _Node, storage: PoolStorage
) -> None:
    """What stops there leaves the VM as it was; it starts, and is tried again."""
    before = _homeless(oak, storage)
    oak.done("stop", _FORCE)
    oak.await_state(VmState.DOWN)

    def refuse(_vm: Vm) -> None:
        raise Unavailable("it stops here")

    oak.volumes.on_write = refuse
    _look_long(oak)
    assert storage.definitions[VM_ID].home == before
    oak.volumes.on_write = lambda _vm: None
    oak.done("start", StartVm())
    oak.done("stop", _FORCE)
    oak.await_state(VmState.DOWN)
    _look_long(oak)
    assert storage.definitions[VM_ID].home == _THERE


def test_definition_that_has_just_changed_is_left_alone(
    oak: _Node, storage: PoolStorage
) -> None:
    """Whoever changed it may start the VM next, by the generation that it has."""
    oak.vms.pool_vms.tenders = (oak.vms.editor.tend,)
    oak.create()
    stray = replace(storage.definitions[VM_ID], home=_THERE)
    storage.definitions[VM_ID] = stray
    oak.wait_definitions()
    oak.clock.advance(STRAY_S - 1.0)
    oak.wait_definitions()
    assert storage.definitions[VM_ID] == stray
    storage.definitions[VM_ID] = changed = replace(stray, generation=2)
    oak.clock.advance(STRAY_S - 1.0)
    oak.wait_definitions()
    oak.clock.advance(STRAY_S - 1.0)
    oak.wait_definitions()
    assert storage.definitions[VM_ID] == changed
    oak.clock.advance(1.0)
    oak.wait_definitions()
    assert storage.definitions[VM_ID].home == _POOLED.disks[0].storage_domain_id


def test_old_leases_are_looked_for_once_in_a_while(oak: _Node) -> None:
    oak.look_after()
    assert oak.volumes.tidied == 0
    oak.clock.advance(LEASES_S)
    oak.look_after()
    oak.look_after()
    assert oak.volumes.tidied == 1


_OTHER_ID = VmId("aaaaaaaa-0000-4000-8000-0000000000ff")


def _other_vm(**disk: Any) -> CreateVm:
    disks = (replace(_POOLED.disks[0], **disk),)
    spec = replace(_POOLED, vm_id=_OTHER_ID, name="db", nics=(), disks=disks)
    return CreateVm(spec)


def test_create_refuses_a_disk_that_another_vm_has(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create()
    with pytest.raises(DiskTaken):
        oak.vms.create(_other_vm())
    assert list(storage.definitions) == [VM_ID]


def test_attach_refuses_a_disk_that_another_vm_has(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create()
    oak.vms.create(_other_vm(disk_id=_NEW.disk_id))
    assert oak.refusal("attach_disk", AttachDisk(_NEW)) == "disk_taken"
    assert storage.definitions[VM_ID].generation == 1


def test_disk_may_be_shared_if_all_say_so(oak: _Node, storage: PoolStorage) -> None:
    shared: dict[str, Any] = {"is_shared": True, "disk_format": DiskFormat.RAW}
    oak.create(disks=(replace(_POOLED.disks[0], **shared),))
    oak.vms.create(_other_vm(**shared))
    assert set(storage.definitions) == {VM_ID, _OTHER_ID}


def test_attach_and_create_take_turns(oak: _Node, storage: PoolStorage) -> None:
    """Each looks who has the disk, then writes: in between nobody else may."""
    oak.create()
    jobs: list[Job] = []

    def late(vm: Vm) -> None:
        if vm.spec.vm_id == _OTHER_ID:
            jobs.append(oak.vms.attach_disk(VM_ID, AttachDisk(_NEW)))
            oak.jobs.get(jobs[0].job_id, _TURN_S)

    oak.volumes.on_write = late
    oak.vms.create(_other_vm(disk_id=_NEW.disk_id))
    ended = oak.jobs.get(jobs[0].job_id, _WAIT_S)
    assert ended.error is not None
    assert ended.error.code == "disk_taken"
    assert storage.definitions[VM_ID].generation == 1


def test_attach_refuses_a_disk_that_a_job_moves_or_deletes(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create()
    storage.locked.add(_NEW.disk_id)
    assert oak.refusal("attach_disk", AttachDisk(_NEW)) == "disk_locked"
    assert storage.definitions[VM_ID].generation == 1


_SATA = replace(_NEW, interface=DiskInterface.SATA)


def test_attach_gives_a_vm_that_is_down_a_disk_on_sata(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create()
    oak.done("attach_disk", AttachDisk(_SATA))
    oak.done("attach_disk", AttachDisk(_SATA))
    assert storage.definitions[VM_ID].spec.disks == (*_POOLED.disks, _SATA)
    oak.done("start", StartVm())
    assert _ALIAS in _aliases(oak)


def test_attach_refuses_a_disk_on_sata_while_the_vm_runs(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create()
    oak.done("start", StartVm())
    assert oak.refusal("attach_disk", AttachDisk(_SATA)) == "disk_not_hot"
    assert storage.definitions[VM_ID].generation == 1


def test_attach_refuses_a_disk_on_sata_while_the_vm_runs_elsewhere(
    oak: _Node, elm: _Node, storage: PoolStorage
) -> None:
    oak.create()
    elm.volumes.run(VM_ID)
    assert oak.refusal("attach_disk", AttachDisk(_SATA)) == "disk_not_hot"
    assert storage.definitions[VM_ID].generation == 1


def test_attach_refuses_a_bus_that_the_machine_does_not_have(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create()
    disk = replace(_NEW, interface=DiskInterface.IDE)
    assert oak.refusal("attach_disk", AttachDisk(disk)) == "bad_vm"
    assert storage.definitions[VM_ID].generation == 1


def test_attach_plugs_a_scsi_controller_in_before_the_first_disk(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create()
    oak.done("start", StartVm())
    disk = replace(_NEW, interface=DiskInterface.VIRTIO_SCSI)
    oak.done("attach_disk", AttachDisk(disk))
    xml = oak.hypervisor.observe(VM_ID).xml
    assert xml.count("virtio-scsi") == 1
    assert _ALIAS in _aliases(oak)
    oak.done("detach_disk", DetachDisk(disk.disk_id))
    assert _ALIAS not in _aliases(oak)
    kept = dict(storage.definitions[VM_ID].addresses)
    assert not [each for each in kept if each.endswith(_ALIAS)]


def test_detach_refuses_a_disk_on_sata_while_the_vm_runs(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create(disks=(*_POOLED.disks, _SATA))
    oak.done("start", StartVm())
    assert oak.refusal("detach_disk", DetachDisk(_SATA.disk_id)) == "disk_not_hot"
    assert storage.definitions[VM_ID].spec.disks == (*_POOLED.disks, _SATA)
    assert _ALIAS in _aliases(oak)


def test_attach_refuses_another_disk_of_that_id(oak: _Node) -> None:
    oak.create(disks=(*_POOLED.disks, _NEW))
    other = replace(_NEW, is_read_only=True)
    assert oak.refusal("attach_disk", AttachDisk(other)) == "disk_attached"


def test_attach_changes_the_bus_of_a_disk_when_the_vm_is_down(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create(disks=(_NEW, *_POOLED.disks))
    oak.done("attach_disk", AttachDisk(_SATA))
    oak.done("attach_disk", AttachDisk(_SATA))
    vm = storage.definitions[VM_ID]
    assert (vm.spec.disks, vm.generation) == ((_SATA, *_POOLED.disks), 2)
    places = [key for key, _ in vm.addresses if key.endswith(_ALIAS)]
    assert len(places) == 1
    oak.done("start", StartVm())
    assert 'bus="sata"' in oak.hypervisor.observe(VM_ID).xml


def test_attach_on_another_bus_keeps_what_the_disk_became(
    oak: _Node, storage: PoolStorage
) -> None:
    grown = replace(_NEW, size_bytes=2 * _NEW.size_bytes)
    oak.create(disks=(*_POOLED.disks, grown))
    oak.done("attach_disk", AttachDisk(_SATA))
    oak.done("attach_disk", AttachDisk(_SATA))
    sata = replace(grown, interface=DiskInterface.SATA)
    assert storage.definitions[VM_ID].spec.disks == (*_POOLED.disks, sata)


def _limits(node: _Node, disk_id: DiskId) -> DiskQos:
    found = domxml.disk_limits(node.hypervisor.observe(VM_ID).xml, f"disk-{disk_id}")
    assert found is not None
    return found


@pytest.mark.parametrize("is_new", [False, True], ids=["same-agent", "new-agent"])
def test_limits_that_are_changed_hold_for_a_guest_that_runs(
    is_new: bool, oak: _Node, storage: PoolStorage
) -> None:
    oak.create()
    oak.done("start", StartVm())
    for limits in (DiskQos(total_iops=500), DiskQos(read_bytes_s=9), DiskQos()):
        storage.limits[DISK.disk_id] = limits
        if is_new:
            oak.stop_agent()
            oak.start_agent()
        oak.clock.advance(LIMITS_S)
        oak.look_after()
        assert _limits(oak, DISK.disk_id) == limits


def test_limits_that_hold_are_not_set_again(oak: _Node, storage: PoolStorage) -> None:
    storage.limits[DISK.disk_id] = DiskQos(total_iops=500)
    oak.create()
    oak.done("start", StartVm())
    for _ in range(2):
        oak.clock.advance(LIMITS_S)
        oak.look_after()
    assert _limits(oak, DISK.disk_id) == DiskQos(total_iops=500)
    assert "limit_disk" not in oak.hypervisor.calls


def test_limits_stay_while_the_storage_cannot_tell_them(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create()
    oak.done("start", StartVm())
    storage.limits[DISK.disk_id] = DiskQos(total_iops=500)
    oak.volumes.is_away = True
    oak.clock.advance(LIMITS_S)
    oak.look_after()
    assert _limits(oak, DISK.disk_id) == DiskQos()
    oak.volumes.is_away = False
    oak.clock.advance(LIMITS_S)
    oak.look_after()
    assert _limits(oak, DISK.disk_id) == DiskQos(total_iops=500)


def test_attach_leaves_a_disk_on_its_bus_that_snapshots_have(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create(disks=(*_POOLED.disks, _NEW))
    known = storage.definitions[VM_ID]
    kept = SnapshotDisk(_NEW.disk_id, _VOLUME)
    snapshot = Snapshot(
        *(SnapshotId("s1"), VM_ID, SnapshotKind.REGULAR, SnapshotState.OK),
        known.created_at,
        disks=(kept,),
    )
    storage.definitions[VM_ID] = replace(known, snapshots=(snapshot,))
    assert oak.refusal("attach_disk", AttachDisk(_SATA)) == "disk_in_snapshot"
    assert storage.definitions[VM_ID].generation == 1


def test_attach_on_another_bus_is_all_or_nothing(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create(disks=(_NEW, *_POOLED.disks))

    def fail(_vm: Vm) -> None:
        raise StorageAway("it went away")

    oak.volumes.on_write = fail
    assert oak.refusal("attach_disk", AttachDisk(_SATA)) == "storage_away"
    assert storage.definitions[VM_ID].spec.disks == (_NEW, *_POOLED.disks)
    oak.volumes.on_write = lambda _vm: None
    oak.done("attach_disk", AttachDisk(_SATA))
    assert storage.definitions[VM_ID].spec.disks == (_SATA, *_POOLED.disks)


@pytest.mark.parametrize("runner", ["oak", "elm"])
def test_attach_leaves_a_disk_on_its_bus_while_the_vm_runs(
    runner: str, oak: _Node, elm: _Node, storage: PoolStorage
) -> None:
    oak.create(disks=(*_POOLED.disks, _NEW))
    if runner == "oak":
        oak.done("start", StartVm())
    else:
        elm.volumes.run(VM_ID)
    scsi = replace(_NEW, interface=DiskInterface.VIRTIO_SCSI)
    assert oak.refusal("attach_disk", AttachDisk(scsi)) == "disk_bus_used"
    assert storage.definitions[VM_ID].generation == 1


def test_detach_takes_the_disk_away_and_leaves_its_data(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create(disks=(*_POOLED.disks, _NEW))
    oak.done("start", StartVm())
    oak.done("detach_disk", DetachDisk(_NEW.disk_id))
    oak.done("detach_disk", DetachDisk(_NEW.disk_id))
    assert _ALIAS not in _aliases(oak)
    vm = storage.definitions[VM_ID]
    assert (vm.spec.disks, vm.generation) == (_POOLED.disks, 2)
    assert _ALIAS not in dict(vm.addresses)
    assert _NEW.disk_id in storage.disks


def test_resize_lets_qemu_grow_first_and_then_what_is_written_down(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create()
    oak.done("start", StartVm())
    size = 2 * DISK.size_bytes
    oak.done("resize_disk", ResizeVmDisk(DISK.disk_id, size))
    assert oak.hypervisor.size(VM_ID, f"ua-disk-{DISK.disk_id}") == size
    assert storage.disks[DISK.disk_id] == size
    assert storage.definitions[VM_ID].spec.disks[0].size_bytes == size


def test_resize_under_a_guest_elsewhere_is_written_down_by_the_manager(
    oak: _Node, elm: _Node, storage: PoolStorage
) -> None:
    oak.create()
    elm.done("start", StartVm())
    size = 2 * DISK.size_bytes
    elm.done("resize_disk", ResizeVmDisk(DISK.disk_id, size))
    assert elm.hypervisor.size(VM_ID, f"ua-disk-{DISK.disk_id}") == size
    assert storage.disks[DISK.disk_id] == DISK.size_bytes
    version = elm.run.lease_version
    request = ResizeVmDisk(DISK.disk_id, size, lease_version=version)
    oak.done("resize_disk", request)
    assert storage.disks[DISK.disk_id] == size
    assert storage.definitions[VM_ID].spec.disks[0].size_bytes == size


def test_resize_is_not_written_down_for_a_run_that_is_over(
    oak: _Node, elm: _Node, storage: PoolStorage
) -> None:
    """Nobody could tell whether the disk has grown."""
    oak.create()
    elm.done("start", StartVm())
    version = elm.run.lease_version
    elm.done("stop", _FORCE)
    request = ResizeVmDisk(DISK.disk_id, 2 * DISK.size_bytes, lease_version=version)
    assert oak.refusal("resize_disk", request) == "vm_run_ended"
    assert storage.disks[DISK.disk_id] == DISK.size_bytes


def test_resize_asked_again_ends_what_stopped_half_way(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create()
    oak.done("start", StartVm())
    size = 2 * DISK.size_bytes
    oak.volumes.is_away = True
    request = ResizeVmDisk(DISK.disk_id, size)
    assert oak.refusal("resize_disk", request) == "storage_away"
    assert storage.disks[DISK.disk_id] == DISK.size_bytes
    oak.volumes.is_away = False
    oak.done("resize_disk", request)
    assert storage.disks[DISK.disk_id] == size


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(ResizeVmDisk(DISK.disk_id, 512), id="too-small"),
        pytest.param(ResizeVmDisk(DISK.disk_id, DISK.size_bytes + 1), id="odd"),
        pytest.param(ResizeVmDisk(DISK.disk_id, DISK.size_bytes // 2), id="shrinks"),
    ],
)
def test_resize_refuses_what_no_disk_becomes(
    oak: _Node, request_: ResizeVmDisk
) -> None:
    oak.create()
    with pytest.raises(BadVm):
        oak.vms.resize_disk(VM_ID, request_)


def test_resize_refuses_a_disk_that_is_not_there(oak: _Node) -> None:
    oak.create()
    with pytest.raises(DiskNotAttached):
        oak.vms.resize_disk(VM_ID, ResizeVmDisk(_NEW.disk_id, DISK.size_bytes))


# --- storage that fails


def _faulted(oak: _Node, **fields: Any) -> None:
    oak.create(**fields)
    oak.done("start", StartVm())
    oak.volumes.is_away = True
    oak.hypervisor.fault(VM_ID, _FAULT)
    oak.await_state(VmState.PAUSED)


def test_vm_goes_on_by_itself_when_its_storage_is_back(oak: _Node) -> None:
    _faulted(oak)
    oak.look_after()
    assert oak.run.state is VmState.PAUSED
    oak.volumes.is_away = False
    oak.look_after()
    assert oak.await_state(VmState.POWERING_UP).reason is not None
    assert oak.hypervisor.observe(VM_ID).activity is Activity.RUNNING


def test_vm_that_faults_again_waits_longer_each_time(oak: _Node) -> None:
    _faulted(oak)
    oak.volumes.is_away = False
    resumed = []
    for _ in range(20):
        oak.look_after()
        if oak.hypervisor.observe(VM_ID).activity is Activity.RUNNING:
            resumed.append(oak.clock.monotonic())
            oak.hypervisor.fault(VM_ID, _FAULT)
            oak.await_state(VmState.PAUSED)
        oak.clock.advance(5.0)
    gaps = [later - sooner for sooner, later in itertools.pairwise(resumed)]
    assert gaps == [10.0, 20.0, 40.0]


@pytest.mark.parametrize(
    ("ran_s", "is_resumed"),
    [
        pytest.param(pausing.WELL_S - 1, False, id="the-same-trouble"),
        pytest.param(pausing.WELL_S, True, id="another-trouble"),
    ],
)
def test_vm_that_ran_well_goes_on_as_soon_as_the_first_time(
    oak: _Node, ran_s: float, is_resumed: bool
) -> None:
    _faulted(oak)
    oak.volumes.is_away = False
    for _ in range(6):  # the last attempts are minutes apart
        oak.clock.advance(300.0)
        oak.look_after()
        assert oak.hypervisor.observe(VM_ID).activity is Activity.RUNNING
        oak.hypervisor.fault(VM_ID, _FAULT)
        oak.await_state(VmState.PAUSED)
    oak.clock.advance(300.0)
    oak.look_after()
    oak.clock.advance(ran_s)
    oak.hypervisor.fault(VM_ID, _FAULT)
    oak.await_state(VmState.PAUSED)
    oak.look_after()
    activity = oak.hypervisor.observe(VM_ID).activity
    assert (activity is Activity.RUNNING) is is_resumed


def test_vm_is_left_paused_if_so_wished(oak: _Node) -> None:
    _faulted(oak, resume_behavior=ResumeBehavior.LEAVE_PAUSED)
    oak.volumes.is_away = False
    oak.look_after()
    assert oak.hypervisor.observe(VM_ID).activity is Activity.FAULTED


def test_vm_that_an_administrator_paused_stays_so(oak: _Node) -> None:
    oak.create()
    oak.done("start", StartVm())
    oak.done("pause", ActOnVm())
    oak.look_after()
    assert oak.hypervisor.observe(VM_ID).activity is Activity.PAUSED


@pytest.mark.parametrize(
    ("passed_s", "state"),
    [
        pytest.param(pausing.KILL_AFTER_S - 1, VmState.PAUSED, id="it-may-come-back"),
        pytest.param(pausing.KILL_AFTER_S, VmState.DOWN, id="too-late"),
    ],
)
def test_vm_is_killed_after_a_while_if_so_wished(
    oak: _Node, passed_s: float, state: VmState
) -> None:
    _faulted(oak, resume_behavior=ResumeBehavior.KILL)
    oak.clock.advance(passed_s)
    oak.look_after()
    assert oak.await_state(state).state is state


def test_loss_of_the_lease_is_no_crash(oak: _Node) -> None:
    oak.create()
    oak.done("start", StartVm())
    oak.volumes.is_lost = True
    oak.hypervisor.end(VM_ID, "crashed")
    end = oak.await_state(VmState.DOWN).end
    assert end is not None
    assert end.cause is EndCause.LEASE_LOST


def test_user_of_only_looks_at_the_lease(
    oak: _Node, elm: _Node, storage: PoolStorage
) -> None:
    """Taken for a moment, it would refuse a start elsewhere, or end what goes on."""
    oak.create()
    before = storage.leases[VM_ID].version
    assert oak.vms.user_of(DISK.disk_id) is None
    assert (oak.volumes.parks, storage.leases[VM_ID].version) == (0, before)
    elm.done("start", StartVm())
    assert oak.vms.user_of(DISK.disk_id) == VM_ID
    storage.dead.add(elm.node_id)
    assert oak.vms.user_of(DISK.disk_id) is None
    assert oak.volumes.parks == 0


def test_user_of_waits_for_a_qemu_here_that_has_just_ended(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create()
    oak.hypervisor.on_rest = lambda _vm_id: None
    oak.done("start", StartVm())
    oak.done("stop", _FORCE)
    with pytest.raises(VmHasLease):
        oak.vms.user_of(DISK.disk_id)
    soon = threading.Timer(0.3, storage.free, (VM_ID,))
    soon.start()
    assert oak.vms.user_of(DISK.disk_id) is None
    soon.join()


def test_holding_lets_nobody_start_who_has_the_disk(oak: _Node, elm: _Node) -> None:
    oak.create()
    with oak.vms.pool_vms.holding(frozenset({DISK.disk_id})) as let_go:
        assert oak.vms.user_of(DISK.disk_id) is None
        assert elm.refusal("start", StartVm()) == "vm_runs_elsewhere"
        assert oak.refusal("delete", DeleteVm()) == "vm_has_lease"
        let_go("another")
        let_go(VM_ID)
        elm.done("start", StartVm())


def test_holding_refuses_a_vm_that_runs_elsewhere(oak: _Node, elm: _Node) -> None:
    oak.create()
    elm.done("start", StartVm())
    pool_vms = oak.vms.pool_vms
    with (
        pytest.raises(VmRunsElsewhere),
        pool_vms.holding(frozenset({DISK.disk_id})),
    ):
        raise AssertionError("it is held")


@pytest.mark.parametrize("name", ["oak", "elm"])
def test_user_of_knows_who_runs_with_a_disk(oak: _Node, elm: _Node, name: str) -> None:
    oak.create()
    runner = {"oak": oak, "elm": elm}[name]
    assert oak.vms.user_of(DISK.disk_id) is None
    runner.done("start", StartVm())
    assert oak.vms.user_of(DISK.disk_id) == VM_ID
    assert oak.vms.user_of("another") is None
    runner.done("stop", _FORCE)
    assert oak.vms.user_of(DISK.disk_id) is None


def test_user_of_is_nobody_while_the_vm_is_being_deleted(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create()
    storage.leases.clear()
    with pytest.raises(NotFound):
        oak.vms.user_of(DISK.disk_id)  # a VM without its lease: nobody can tell
    storage.definitions.clear()
    assert oak.vms.user_of(DISK.disk_id) is None


def test_user_of_may_be_asked_by_who_deletes_the_vm(oak: _Node) -> None:
    oak.create()
    answers: list[object] = []

    def delete() -> None:
        with oak.vms.pool_vms._pauser.turn(VM_ID):
            answers.append(oak.vms.user_of(DISK.disk_id))

    deleting = threading.Thread(target=delete, daemon=True)
    deleting.start()
    deleting.join(10.0)
    assert answers == [None]


def test_user_of_cannot_be_told_by_a_manager_that_read_not_all(
    oak: _Node, elm: _Node
) -> None:
    oak.create()
    elm.volumes.manages = True
    elm.volumes.is_away = True
    with pytest.raises(DefinitionsIncomplete):
        elm.vms.user_of(DISK.disk_id)
    assert elm.vms.user_of("of-no-pool") is None
    elm.volumes.is_away = False
    elm.wait_definitions()
    assert elm.vms.user_of(DISK.disk_id) is None


def test_user_of_goes_by_what_was_read_while_a_storage_domain_is_away(
    oak: _Node, elm: _Node
) -> None:
    oak.create()
    elm.done("start", StartVm())
    oak.wait_definitions()
    oak.volumes.is_complete = False
    oak.wait_definitions()
    assert oak.vms.user_of(DISK.disk_id) == VM_ID
    elm.done("stop", _FORCE)
    assert oak.vms.user_of(DISK.disk_id) is None


# --- leases of guests that run


def _start_unseen(oak: _Node) -> None:
    """Start a VM while nobody can read its lease."""

    def hide(_xml: str) -> None:
        oak.volumes.is_unreadable = True

    oak.create()
    oak.hypervisor.on_create = hide
    oak.done("start", StartVm())
    oak.volumes.is_unreadable = False


def test_guest_that_libvirt_took_no_lease_for_ends_when_it_can_be_told(
    oak: _Node,
) -> None:
    oak.hypervisor.on_run = lambda _vm_id: None
    _start_unseen(oak)
    oak.look_after()
    end = oak.await_state(VmState.DOWN).end
    assert end is not None
    assert end.cause is EndCause.KILLED


def test_guest_whose_lease_another_node_has_ends(
    oak: _Node, elm: _Node, storage: PoolStorage
) -> None:
    _start_unseen(oak)
    storage.take(VM_ID, elm.node_id)
    oak.look_after()
    end = oak.await_state(VmState.DOWN).end
    assert end is not None
    assert end.cause is EndCause.LEASE_MOVED


@pytest.mark.parametrize("state", ["lost", "faulted"])
def test_guest_without_its_lease_is_left_to_who_ends_it(
    oak: _Node, storage: PoolStorage, state: str
) -> None:
    """By sanlock, or by who parks it: libvirt has just paused it."""
    _start_unseen(oak)
    if state == "lost":
        oak.volumes.is_lost = True
        storage.free(VM_ID)
    else:
        # The event has not come yet.
        oak.hypervisor.fault(VM_ID, _FAULT, is_told=False)
    oak.look_after()
    assert "kill" not in oak.hypervisor.calls


def test_guest_that_has_its_lease_is_asked_once(oak: _Node) -> None:
    _start_unseen(oak)
    oak.look_after()
    oak.volumes.is_unreadable = True
    oak.look_after()
    assert oak.vms.pool_vms._said == {}
    assert "kill" not in oak.hypervisor.calls


def test_guest_that_went_on_before_that_was_written_down_is_well(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create()
    oak.done("start", StartVm())
    storage.free(VM_ID)
    oak.volumes.run(VM_ID)  # as of a resume that the agent did not live to see
    oak.look_after()
    assert "kill" not in oak.hypervisor.calls
    assert oak.run.lease_version == storage.leases[VM_ID].version


def test_vm_that_hangs_delays_no_other(
    oak: _Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "PATIENCE_S", _TURN_S)
    is_over = threading.Event()

    def hang(vm: Vm) -> None:
        if vm.spec.vm_id == VM_ID:
            is_over.wait(_WAIT_S)

    oak.vms.create(_other_vm(disk_id=_NEW.disk_id))
    job = oak.vms.start(_OTHER_ID, StartVm())
    assert oak.jobs.get(job.job_id, _WAIT_S).state is JobState.DONE
    _faulted(oak)
    oak.hypervisor.fault(_OTHER_ID, _FAULT)
    oak.volumes.is_away = False
    oak.volumes.on_probe = hang
    other = oak.vms.show
    for _ in range(100):
        if other(_OTHER_ID).run.state is VmState.PAUSED:
            break
        oak.store.wait(oak.store.rev, _WAIT_S / 100)
    oak.look_after()
    oak.look_after()  # the first is not begun again
    assert oak.hypervisor.observe(_OTHER_ID).activity is Activity.RUNNING
    assert oak.hypervisor.observe(VM_ID).activity is Activity.FAULTED
    is_over.set()


# --- jobs after a restart of the agent


def _stop_while_it(_vm: Vm) -> None:
    raise AgentStopping("now")


def _restart(oak: _Node) -> None:
    """Start the agent again; it is not in its pool yet."""
    oak.stop_agent()
    oak.volumes.is_settled = oak.volumes.manages = False
    oak.start_agent()


def test_job_waits_until_this_node_is_again_what_it_was(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create()
    oak.volumes.on_write = _stop_while_it
    job = oak.vms.attach_disk(VM_ID, AttachDisk(_NEW))
    oak.jobs.get(job.job_id, _TURN_S)
    oak.volumes.on_write = lambda _vm: None
    _restart(oak)
    assert oak.jobs.get(job.job_id, _TURN_S).state not in ENDED
    oak.volumes.is_settled = oak.volumes.manages = True
    assert oak.jobs.get(job.job_id, _WAIT_S).state is JobState.DONE
    assert storage.definitions[VM_ID].spec.disks[-1] == _NEW


def test_deletion_that_was_begun_is_ended_after_a_restart(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create()
    oak.volumes.on_buried = _stop_while_it
    job = oak.vms.delete(VM_ID, DeleteVm())
    oak.jobs.get(job.job_id, _TURN_S)
    oak.volumes.on_buried = lambda _vm: None
    assert (storage.definitions, len(storage.disks)) == ({}, 1)
    _restart(oak)
    oak.volumes.manages = True
    oak.wait_definitions()  # nobody would know of its disks any more
    oak.volumes.is_settled = True
    assert oak.jobs.get(job.job_id, _WAIT_S).state is JobState.DONE
    assert (storage.disks, storage.leases) == ({}, {})


def test_disks_that_would_stay_refuse_a_deletion(
    oak: _Node, storage: PoolStorage
) -> None:
    oak.create()
    storage.away.update(storage.disks)
    job = oak.jobs.get(oak.vms.delete(VM_ID, DeleteVm()).job_id, _WAIT_S)
    assert job.error is not None
    assert job.error.code == "vm_disks_away"
    assert VM_ID in storage.definitions


def test_disks_that_stay_are_told(oak: _Node, storage: PoolStorage) -> None:
    oak.create()
    (disk_id,) = storage.disks
    storage.away.add(disk_id)
    job = oak.vms.delete(VM_ID, DeleteVm(may_leave_disks=True))
    assert oak.jobs.get(job.job_id, _WAIT_S).state is JobState.DONE
    (told,) = (
        each for each in oak.store.events(0).events if each.code == "vm_disks_left"
    )
    assert told.fields["disks"] == disk_id


# --- what a node forgets


def test_node_keeps_how_a_run_ended_until_the_vm_runs_elsewhere(
    oak: _Node, elm: _Node
) -> None:
    oak.create()
    elm.done("start", StartVm())
    elm.done("stop", _FORCE)
    elm.wait_definitions()
    assert elm.run.end is not None
    oak.done("start", StartVm())
    elm.wait_definitions()
    with pytest.raises(VmUnknown):
        elm.vms.show(VM_ID)


def test_node_forgets_a_vm_that_the_manager_deleted(oak: _Node, elm: _Node) -> None:
    oak.create()
    elm.done("start", StartVm())
    elm.done("stop", _FORCE)
    oak.done("delete", DeleteVm())
    elm.wait_definitions()
    with pytest.raises(VmUnknown):
        elm.vms.show(VM_ID)


def test_manager_forgets_nothing_while_a_storage_domain_is_away(
    oak: _Node,
) -> None:
    oak.create()
    oak.volumes.is_away = True
    oak.wait_definitions()
    assert oak.run.state is VmState.DOWN


def test_vm_that_runs_here_is_kept_over_a_restart(oak: _Node) -> None:
    oak.create()
    oak.done("start", StartVm())
    before = oak.run
    oak.stop_agent()
    oak.start_agent()
    assert oak.run == before


def _wait_for(event: threading.Event) -> None:
    assert event.wait(_WAIT_S)
