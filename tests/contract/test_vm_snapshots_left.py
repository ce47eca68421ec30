"""Snapshots that nobody asks for any more: the pool's manager ends them by itself."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.contract import snapshots
from node.model.storage import SnapshotState
from node.vm import holding, live_disks, snapshot_tending
from tests import memory
from tests.contract import disks
from tests.contract.test_vm_snapshots_elsewhere import BEGIN, GUEST, Pair
from tests.contract.vm_agent import S1
from tests.unit.node.storage.pools.nodes import wait_until

pytestmark = disks.NEED_QEMU_UTILS


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    monkeypatch.setattr(live_disks, "_LOOK_S", 0.01)
    monkeypatch.setattr(holding, "_RELEASE_LOOK_S", 0.01)
    with memory.fast_folder(tmp_path) as folder:
        made = Pair(folder)
        made.runner.start()
        yield made
        made.close()


def test_manager_ends_by_itself_what_nobody_asks_it_for(pair: Pair) -> None:
    pair.write(1)
    pair.take()
    pair.write(2)
    pair.manager.done(pair.manager.delete(BEGIN))
    pair.runner.done(pair.runner.delete(GUEST))
    pair.runner.stop()

    def is_ended() -> bool:
        pair.manager.vms.pool_vms.read_definitions()
        return not pair.manager.vm.snapshots

    wait_until(is_ended)
    pair.check(1)
    pair.runner.start()
    assert pair.runs()


def test_manager_ends_the_snapshot_of_a_vm_that_is_down(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its guest never turned, and whoever had begun it asks no more."""
    monkeypatch.setattr(snapshot_tending, "DOWN_AGE_S", 0.0)
    pair.write(1)
    pair.manager.done(pair.manager.create(BEGIN))

    def state() -> SnapshotState:
        return snapshots.get(pair.manager.vm, S1).state

    for _ in range(2):  # one that is tried now is not tried again soon
        pair.manager.vms.pool_vms.read_definitions()
    assert state() is SnapshotState.LOCKED
    pair.write(2)
    pair.runner.stop()

    def is_ended() -> bool:
        pair.manager.vms.pool_vms.read_definitions()
        return state() is SnapshotState.OK

    wait_until(is_ended)
    pair.check(2)
    pair.has(1, 2)
    pair.runner.start()
    assert pair.tops() == pair.leaves()
