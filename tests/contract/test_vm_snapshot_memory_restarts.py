"""Agents that stop while libvirt writes a snapshot's memory, which goes on with it.

libvirt ends what a client has asked for also when that client is gone: the memory is
written first, then the guest turns to the new leaves. It stands still meanwhile, and
afterwards, as the agent held it before.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from node.contract.memories import MemoryMark
from node.jobs import AgentStopping
from node.model.ids import VmId
from node.model.storage import SnapshotState
from node.system.hypervisor import Activity, DomainStuck
from node.vm import guest_parts, memory_writing
from tests.contract import disks
from tests.contract.test_vm_snapshot_memory import kept, pairs, take, taken
from tests.contract.test_vm_snapshots_elsewhere import BEGIN, FINISH, GUEST, Pair
from tests.contract.test_vm_suspended import activity
from tests.contract.vm_agent import WAIT_S
from tests.unit.node.storage.pools.nodes import wait_until
from tests.unit.node.vm.examples import VM_ID

pytestmark = disks.NEED_QEMU_UTILS


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    monkeypatch.setattr(memory_writing, "_BUSY_LOOK_S", 0.01)
    yield from pairs(tmp_path, monkeypatch)


class Writing:
    """What libvirt does for an agent that stops as soon as it has asked."""

    def __init__(self, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
        self._hypervisor = pair.runner.hypervisor
        self._ask = self._hypervisor.snapshot
        self._wanted: tuple[VmId, Mapping[str, str], str | None] | None = None
        self.is_asked = False
        self.refused = 0
        monkeypatch.setattr(self._hypervisor, "snapshot", self.snapshot)

    def snapshot(
        self, vm_id: VmId, files: Mapping[str, str], memory: str | None = None
    ) -> None:
        if self._wanted is not None:
            self.end()  # as it is asked again, it is about to end
            self.refused += 1
            raise DomainStuck("cannot acquire state change lock")
        if self.is_asked:
            self._ask(vm_id, files, memory)
            return
        self._wanted, self.is_asked = (vm_id, files, memory), True
        raise AgentStopping("the agent dies")

    def end(self) -> None:
        """Let libvirt come to its end."""
        assert self._wanted is not None
        wanted, self._wanted = self._wanted, None
        with self._hypervisor.silence():
            self._ask(*wanted)


def check_whole(pair: Pair) -> None:
    """Finish as the manager: the memory is kept, and the guest goes on."""
    assert kept(pair) is MemoryMark.SAVED
    pair.manager.done(take(pair.manager, FINISH))
    found = taken(pair)
    assert found.memory is not None
    assert (found.state, found.memory.is_saved) == (SnapshotState.OK, True)
    assert activity(pair.runner) is Activity.RUNNING
    assert pair.tops() == pair.leaves()


def test_memory_that_was_written_while_no_agent_was_there_is_kept(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.manager.done(take(pair.manager, BEGIN))
    writing = Writing(pair, monkeypatch)
    job = take(pair.runner, GUEST)
    wait_until(lambda: writing.is_asked)
    pair.runner.node.jobs.stop(WAIT_S)
    writing.end()
    pair.restart(pair.runner)
    assert pair.runner.done(job).result == guest_parts.TURNED
    check_whole(pair)


def test_memory_that_is_still_written_is_waited_for(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.manager.done(take(pair.manager, BEGIN))
    writing = Writing(pair, monkeypatch)
    job = take(pair.runner, GUEST)
    wait_until(lambda: writing.is_asked)
    pair.restart(pair.runner)
    assert pair.runner.done(job).result == guest_parts.TURNED
    assert writing.refused == 1
    check_whole(pair)


def test_guest_that_was_started_on_the_new_leaves_has_no_memory_there(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes to them, and nobody has written its memory."""
    pair.manager.done(take(pair.manager, BEGIN))
    writing = Writing(pair, monkeypatch)
    job = take(pair.runner, GUEST)
    wait_until(lambda: writing.is_asked)
    pair.runner.node.jobs.stop(WAIT_S)
    pair.runner.hypervisor.end(VM_ID, "crashed")
    pair.restart(pair.runner)
    pair.runner.end_of(job)
    pair.runner.start()
    assert pair.runner.done(take(pair.runner, GUEST)).result == guest_parts.TURNED
    assert kept(pair) is MemoryMark.BLANK
    pair.manager.done(take(pair.manager, FINISH))
    assert taken(pair).memory is None
    assert pair.runs()
