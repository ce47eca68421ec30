"""Suspensions that end before a memory is kept: the guest goes on, nothing stays."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.contract.memories import MemoryMark
from node.model.job import Job, JobState
from node.model.requests import ActOnVm
from node.model.storage_requests import SuspendVm
from node.model.vm import VmMemory
from node.storage.pools.memories import PoolMemories
from node.system.hypervisor import Activity
from tests.contract import disks
from tests.contract.test_vm_snapshots_elsewhere import BEGIN, GUEST, Pair, Side
from tests.contract.test_vm_suspended import (
    activity,
    images,
    is_removed,
    mark,
    paired,
    suspend,
    suspend_all,
)
from tests.contract.test_vm_suspension_turns import merge_without_end
from tests.unit.node.storage.pools.nodes import wait_until
from tests.unit.node.vm.examples import VM_ID

pytestmark = disks.NEED_QEMU_UTILS


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    yield from paired(tmp_path, monkeypatch)


def ask(side: Side) -> Job:
    return side.snapshots.hibernator.suspend(VM_ID, SuspendVm(part=GUEST))


def goes_on(pair: Pair) -> None:
    """See that the guest runs, and that nothing names a memory after a while."""
    wait_until(lambda: activity(pair.runner) is Activity.RUNNING)
    before = images(pair)
    wait_until(lambda: is_removed(pair))
    assert images(pair) == before - 1
    assert activity(pair.runner) is Activity.RUNNING


def test_memory_goes_when_a_snapshot_is_being_taken(pair: Pair) -> None:
    suspend(pair.manager, BEGIN)
    pair.manager.done(pair.manager.create(BEGIN))
    assert pair.runner.refused(ask(pair.runner)) == "snapshot_locked"
    goes_on(pair)


def test_memory_goes_when_a_disk_is_being_merged(pair: Pair) -> None:
    merge = merge_without_end(pair)
    suspend(pair.manager, BEGIN)
    assert pair.runner.refused(ask(pair.runner)) == "vm_disk_being_merged"
    goes_on(pair)
    pair.runner.node.jobs.cancel(merge.job_id)
    pair.runner.end_of(merge)


def test_memory_goes_when_its_guest_was_paused(pair: Pair) -> None:
    pair.runner.done(pair.runner.vms.pause(VM_ID, ActOnVm()))
    suspend(pair.manager, BEGIN)
    pair.runner.hypervisor.refusal = "no space left"
    assert pair.runner.refused(ask(pair.runner)) == "hypervisor_refused"
    pair.runner.hypervisor.refusal = ""
    wait_until(lambda: is_removed(pair))
    assert activity(pair.runner) is Activity.PAUSED


def test_memory_goes_when_it_cannot_be_written(pair: Pair) -> None:
    suspend(pair.manager, BEGIN)
    pair.runner.hypervisor.refusal = "no space left"
    assert pair.runner.refused(ask(pair.runner)) == "hypervisor_refused"
    pair.runner.hypervisor.refusal = ""
    goes_on(pair)
    suspend_all(pair)
    assert mark(pair) is MemoryMark.SAVED


def test_memory_goes_when_its_writing_is_cancelled(pair: Pair) -> None:
    suspend(pair.manager, BEGIN)
    pair.runner.hypervisor.saves_hang = True
    saving = ask(pair.runner)
    wait_until(pair.runner.hypervisor.is_saving.is_set)
    pair.runner.node.jobs.cancel(saving.job_id)
    assert pair.runner.end_of(saving).state is JobState.CANCELLED
    goes_on(pair)


def test_name_of_a_memory_goes_though_the_definition_is_written_meanwhile(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspend(pair.manager, BEGIN)
    pair.runner.hypervisor.refusal = "no space left"
    assert pair.runner.refused(ask(pair.runner)) == "hypervisor_refused"
    pair.runner.hypervisor.refusal = ""
    wait_until(lambda: activity(pair.runner) is Activity.RUNNING)
    remove = PoolMemories.remove

    def remove_slowly(memories: PoolMemories, memory: VmMemory) -> None:
        remove(memories, memory)
        monkeypatch.setattr(PoolMemories, "remove", remove)
        pair.manager.done(pair.manager.create(BEGIN))

    monkeypatch.setattr(PoolMemories, "remove", remove_slowly)
    assert is_removed(pair)
    assert len(pair.manager.vm.snapshots) == 1
