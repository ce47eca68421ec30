"""Merges of a guest that stands still, since its storage has no room for a mark."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node.contract.snapshots import Act, Change, Leaf
from node.model.storage_requests import SnapshotPart
from node.model.vm import Vm
from node.storage.pools.volumes import PoolVolumes
from node.storage.process.file_operations import StorageFull
from node.system.hypervisor import Activity
from node.vm import guest_parts, holding, live_disks, snapshotting
from tests import memory
from tests.contract import disks
from tests.contract.test_vm_snapshots_elsewhere import BEGIN, GUEST, Pair
from tests.contract.test_vm_suspended import activity
from tests.contract.vm_agent import S2, WAIT_S

pytestmark = disks.NEED_QEMU_UTILS

# More tries than a job makes where an error does not go away by itself.
_MANY = 25


class FullStorage:
    """Where what a merge has to write finds no room, until somebody makes some."""

    def __init__(self, volumes: PoolVolumes, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_tried = threading.Event()  # often
        self.is_full = True
        self._count = 0
        self._close, self._reshape = volumes.close, volumes.reshape
        monkeypatch.setattr(volumes, "close", self._mark)
        monkeypatch.setattr(volumes, "reshape", self._name)

    def _mark(self, vm: Vm, leaf: Leaf, version: int | None) -> None:
        self._take_room()
        self._close(vm, leaf, version)

    def _name(self, vm: Vm, change: Change, *how: Any, **more: Any) -> Vm:
        if change.act is Act.FOLD:
            self._take_room()
        return self._reshape(vm, change, *how, **more)

    def _take_room(self) -> None:
        self._count += 1
        if self._count >= _MANY:
            self.is_tried.set()
        if self.is_full:
            raise StorageFull("no space left")


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    monkeypatch.setattr(live_disks, "_LOOK_S", 0.01)
    monkeypatch.setattr(guest_parts, "_CLOSE_AGAIN_S", 0.01)
    monkeypatch.setattr(snapshotting, "_NAME_AGAIN_S", 0.01)
    monkeypatch.setattr(holding, "_RELEASE_LOOK_S", 0.01)
    with memory.fast_folder(tmp_path) as folder:
        made = Pair(folder)
        made.runner.start()
        yield made
        made.close()


def test_guest_goes_on_by_itself_when_there_is_room(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.write(1)
    pair.take()
    pair.write(2)
    pair.manager.done(pair.manager.delete(BEGIN))
    storage = FullStorage(pair.runner.node.volumes, monkeypatch)
    job = pair.runner.delete(GUEST)
    assert storage.is_tried.wait(WAIT_S)
    assert not pair.runs()
    storage.is_full = False
    pair.runner.done(job)
    assert pair.runs()
    pair.write(3)
    pair.runner.stop()
    pair.manager.done(pair.manager.delete(SnapshotPart.WHOLE))
    pair.check(1)
    pair.has(1, 2, 3)


def test_guest_that_ends_meanwhile_is_merged_at_rest(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.write(1)
    pair.take()
    pair.write(2)
    pair.manager.done(pair.manager.delete(BEGIN))
    storage = FullStorage(pair.runner.node.volumes, monkeypatch)
    job = pair.runner.delete(GUEST)
    assert storage.is_tried.wait(WAIT_S)
    pair.runner.stop()
    pair.runner.done(job)
    pair.manager.done(pair.manager.delete(SnapshotPart.WHOLE))
    pair.check(1)
    pair.has(1, 2)


def at_the_manager(pair: Pair) -> None:
    """Let the manager run the VM, which has a snapshot."""
    pair.write(1)
    pair.take()
    pair.runner.stop()
    pair.manager.start()


def test_guest_of_the_manager_stands_still_until_there_is_room(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_manager(pair)
    storage = FullStorage(pair.manager.node.volumes, monkeypatch)
    job = pair.manager.delete(SnapshotPart.WHOLE)
    assert storage.is_tried.wait(WAIT_S)
    assert activity(pair.manager) is Activity.PAUSED
    storage.is_full = False
    pair.manager.done(job)
    assert activity(pair.manager) is Activity.RUNNING
    pair.manager.stop()
    pair.check(1)
    pair.has(1)


def test_guest_of_the_manager_may_end_before_there_is_room(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_manager(pair)
    storage = FullStorage(pair.manager.node.volumes, monkeypatch)
    job = pair.manager.delete(SnapshotPart.WHOLE)
    assert storage.is_tried.wait(WAIT_S)
    pair.manager.stop()
    assert pair.manager.refused(job) == "storage_full"
    storage.is_full = False
    pair.manager.done(pair.manager.delete(SnapshotPart.WHOLE))
    pair.check(1)
    pair.has(1)


def test_merge_that_lets_the_guest_run_does_not_wait_for_room(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not of what the guest writes to."""
    pair.take()
    pair.take(S2)
    pair.runner.stop()
    pair.manager.start()
    storage = FullStorage(pair.manager.node.volumes, monkeypatch)
    job = pair.manager.delete(SnapshotPart.WHOLE)
    assert pair.manager.refused(job) == "storage_full"
    assert activity(pair.manager) is Activity.RUNNING
    storage.is_full = False
    pair.manager.done(pair.manager.delete(SnapshotPart.WHOLE))
