"""VMs that name no pool, on a whole node with its own: made and deleted, at any moment.

All but the hypervisor and the disk's lease is real; the agent dies at each call to the
storage process, and at each commit, of a creation and of a deletion.
"""

import contextlib
import itertools
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from node.errors import Busy
from node.model.ids import DiskId, JobId, VmId
from node.model.job import ENDED
from node.model.requests import CreateVm, DeleteVm, StartVm
from node.model.vm import Disk, Vm, VmSpec
from node.policy import local_pool
from node.storage.pools import volumes
from node.units import MiB
from tests.contract import disks
from tests.contract.vm_agent import WAIT_S, VmAgent
from tests.unit.node.storage.pools.nodes import Nodes, wait_until
from tests.unit.node.vm.examples import SPEC, VM_ID


class Own(VmAgent):
    """A node with a pool of its own, and no VM yet."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.nodes = Nodes(folder, prepare=self.begin)
        self.node = self.nodes.start(has_local=True)
        self.threads: list[threading.Thread] = []

    def close(self) -> None:
        for each in self.threads:
            each.join(WAIT_S)
        self.vms.close()
        self.nodes.close()

    def make(self, spec: VmSpec) -> Vm:
        """Create a VM, as a caller who asks again while disks are being made."""
        made: list[Vm] = []

        def is_made() -> bool:
            try:
                made.append(self.vms.create(CreateVm(spec)).vm)
            except Busy:
                return False
            return True

        wait_until(is_made)
        return made[0]

    def kill_while_making(self, spec: VmSpec, calls: int) -> bool:
        """Let the agent die after so many calls of a creation; tell whether it did."""
        work = threading.Thread(
            target=self.vms.create, args=[CreateVm(spec)], name="job-create"
        )
        self.threads.append(work)
        self._arm(calls)
        work.start()
        wait_until(lambda: self.node.guard.is_dead or not work.is_alive())
        return self._start_again()

    def kill_while_deleting(self, vm_id: VmId, calls: int) -> bool:
        """As `kill_while_making`; started again, the job ends well."""
        job_id = JobId(str(uuid.uuid4()))
        self._arm(calls)
        self.vms.delete(vm_id, DeleteVm(job_id=job_id))
        guard = self.node.guard
        wait_until(lambda: guard.is_dead or self.node.jobs.get(job_id).state in ENDED)
        was_killed = self._start_again()
        self.done(self.node.jobs.get(job_id))
        return was_killed

    def check_nothing_is_left(self, vm_id: VmId) -> None:
        wait_until(self.node.volumes.managed)  # it may have been started just now
        assert self.node.volumes.find(vm_id) is None
        self.check_disks(())
        assert not (self.folder / "disks" / vm_id).exists()
        self.check_well()

    def check_well(self) -> None:
        where = local_pool.storage_domain_id(self.node.node_id)
        assert self.node.storage.storage_domain_check(where).problems == ()

    def check_disks(self, wanted: Iterable[Disk]) -> None:
        """Wait until these disks alone lie on the pool: what was deleted is purged."""
        where = local_pool.storage_domain_id(self.node.node_id)
        folder = self.node.folder / "local" / where / "images"
        names = {disk.disk_id for disk in wanted}
        wait_until(lambda: {each.name for each in folder.iterdir()} == names)

    def _arm(self, calls: int) -> None:
        guard = self.node.guard
        guard.calls_left, guard.death = calls, disks.Crash

    def _start_again(self) -> bool:
        guard = self.node.guard
        was_killed = guard.is_dead
        if was_killed:
            self.node.jobs.stop(WAIT_S)
        guard.calls_left = None
        if was_killed:
            self.restart()
        return was_killed


# Of the moments, in `make test`; each is also another one for the deletion.
STRIDE = 1 if os.environ.get("SKERRY_ALL_POINTS") == "1" else 5


@pytest.fixture
def own(folder: Path) -> Iterator[Own]:
    made = Own(folder)
    yield made
    made.close()


def a_vm() -> VmSpec:
    """Return a VM that names no pool, with ids that no VM had before."""
    disk = Disk(DiskId(str(uuid.uuid4())), "disk1", 4 * MiB)
    return replace(SPEC, vm_id=VmId(str(uuid.uuid4())), disks=(disk,), nics=())


def test_first_vm_after_boot_lies_on_the_own_pool_and_lives_there(own: Own) -> None:
    """Nobody has waited for the pool."""
    spec = replace(a_vm(), vm_id=VM_ID)
    made = own.vms.create(CreateVm(spec)).vm
    where = local_pool.storage_domain_id(own.node.node_id)
    assert made.spec.pool_id == local_pool.pool_id(own.node.node_id)
    assert [each.storage_domain_id for each in made.spec.disks] == [where]
    assert made.home == where
    assert own.vms.create(CreateVm(spec)).vm == made
    own.done(own.vms.start(VM_ID, StartVm()))
    own.stop()
    own.done(own.vms.delete(VM_ID, DeleteVm()))
    own.check_nothing_is_left(VM_ID)


@pytest.mark.real  # nothing of it is; but each moment costs the start of two agents
@pytest.mark.parametrize("at_commits", [False, True], ids=["calls", "commits"])
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"  # a thread that is killed
)
def test_vm_comes_and_goes_wherever_the_agent_dies(
    at_commits: bool,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    monkeypatch.setattr(volumes, "_MADE_S", 0.5)  # who is dead waits for nobody
    points = 0
    for calls in itertools.count(at_commits, STRIDE):
        # What was deleted is remembered on the pool: a new one for each moment.
        place = folder / str(calls)
        place.mkdir()
        with contextlib.closing(Own(place)) as own:
            own.node.guard.dies_at_commits = at_commits
            died = _come_and_go(own, calls)
        points += died
        if not died:
            break
    record_property("points", points)
    assert points > 1


def _come_and_go(own: Own, calls: int) -> int:
    """Make a VM and delete it; return how often the agent died over it."""
    spec = a_vm()
    wait_until(own.node.volumes.managed)
    died = own.kill_while_making(spec, calls)
    made = own.make(spec)
    assert own.vms.show(spec.vm_id).vm == own.node.volumes.find(spec.vm_id) == made
    own.check_disks(spec.disks)
    own.check_well()
    died_again = own.kill_while_deleting(spec.vm_id, calls)
    own.check_nothing_is_left(spec.vm_id)
    return died + died_again
