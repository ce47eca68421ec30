"""What is left of templates and clones that are not made after all."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from node.contract.templates import Source, of
from node.errors import Error
from node.jobs import Jobs, Progress
from node.model.ids import DiskId, JobId, NodeId, PoolId, VmId
from node.model.job import ENDED, Job, JobState
from node.model.templates import CloneVm
from node.model.vm import Vm, VmEntry, VmSpec
from node.policy import made_of
from node.storage.disks.actions import ProgramFailed
from node.storage.process.file_operations import StorageDown, StorageFull
from node.store import Store
from node.vm.register import VmRegister
from node.vm.templates import Templates
from tests.fakes import kept_templates
from tests.fakes.clock import FakeClock
from tests.fakes.kept_templates import FakeTemplates
from tests.fakes.storage_service import NoVmChanges
from tests.fakes.volumes import SD_ID, FakeVolumes, of_pool
from tests.unit.node.vm.examples import HOST, NODE_ID, OTHER_ID

TEMPLATE = replace(kept_templates.VM, spec=of_pool(kept_templates.VM.spec), home=SD_ID)


class Keeper(FakeTemplates):
    """Keeps templates, unless the storage refuses."""

    refusal: Error | None = None
    leaves = False  # a journal, which may still be finished

    def restore(self) -> None:
        self.kept = {TEMPLATE.spec.vm_id: TEMPLATE}

    def make(
        self,
        vm: Vm,
        sources: Mapping[DiskId, Source],
        progress: Progress,
        check_idle: Callable[[], None],
        data_node_id: NodeId | None,
    ) -> None:
        if self.refusal is not None:
            raise self.refusal
        super().make(vm, sources, progress, check_idle, data_node_id)

    def is_left(self, pool_id: PoolId | None, job_id: JobId) -> bool:
        return self.leaves


@dataclass(slots=True)
class Changes(NoVmChanges):
    leases: set[VmId] = field(default_factory=set)

    def make_lease(self, vm: Vm) -> None:
        self.leases.add(vm.spec.vm_id)

    def remove_lease(self, vm: Vm) -> None:
        self.leases.discard(vm.spec.vm_id)


class Lookout:
    """Knows no VM, and finds none."""

    def look_first(self, vm_id: VmId, progress: Progress) -> VmEntry:
        raise AssertionError("nobody asks")

    def check_generation(self, vm_id: VmId, generation: int | None) -> None:
        """Let it be any."""

    def find_made(self, spec: VmSpec) -> VmEntry | None:
        return None


@dataclass(slots=True)
class Scene:
    keeper: Keeper
    changes: Changes
    jobs: Jobs
    templates: Templates

    def clone(self) -> Job:
        spec = made_of.spec(of(TEMPLATE), OTHER_ID, "full", macs=(), is_clone=True)
        job = self.templates.clone(CloneVm(spec))
        ended = self.jobs.get(job.job_id, 20.0)
        assert ended.state in ENDED
        return ended


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    clock = FakeClock()
    store = Store(tmp_path / "node.db", clock, NODE_ID, HOST.boot_id)
    jobs = Jobs(store, clock)
    keeper, changes = Keeper(), Changes()
    register = VmRegister(store, clock, lambda: HOST.name, 30)
    volumes = FakeVolumes(NODE_ID)
    made = Templates(
        *(keeper, register, Lookout(), volumes, changes, store, jobs, clock),
        lambda: HOST,
    )
    jobs.recover(made.job_handlers())
    jobs.start()
    yield Scene(keeper, changes, jobs, made)
    jobs.stop(20.0)
    store.close()


@pytest.mark.parametrize(
    "refusal",
    [StorageFull("full"), ProgramFailed("qemu-img"), StorageDown("away")],
    ids=lambda error: error.code,
)
def test_clone_that_is_not_made_has_no_lease(scene: Scene, refusal: Error) -> None:
    scene.keeper.refusal = refusal
    assert scene.clone().state is JobState.FAILED
    assert scene.changes.leases == set()


def test_clone_that_may_still_be_made_keeps_its_lease(scene: Scene) -> None:
    scene.keeper.refusal, scene.keeper.leaves = StorageDown("away"), True
    assert scene.clone().state is JobState.FAILED
    assert scene.changes.leases == {OTHER_ID}


def test_clone_that_is_made_has_its_lease(scene: Scene) -> None:
    assert scene.clone().error is None
    assert scene.changes.leases == {OTHER_ID}
