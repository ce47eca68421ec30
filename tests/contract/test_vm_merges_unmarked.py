"""Merges of a guest that stands still, since its storage has no room for a mark."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.contract.snapshots import Leaf
from node.model.storage_requests import SnapshotPart
from node.model.vm import Vm
from node.storage.pools.volumes import PoolVolumes
from node.storage.process.file_operations import StorageFull
from node.vm import guest_parts, holding, live_disks
from tests import memory
from tests.contract import disks
from tests.contract.test_vm_snapshots_elsewhere import BEGIN, GUEST, Pair
from tests.contract.vm_agent import WAIT_S

pytestmark = disks.NEED_QEMU_UTILS

# More tries than a job makes where an error does not go away by itself.
_MANY = 25


class FullStorage:
    """Where no mark of a left volume finds room, until somebody makes some."""

    def __init__(self, volumes: PoolVolumes, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_tried = threading.Event()  # often
        self.is_full = True
        self._count = 0
        self._close = volumes.close
        monkeypatch.setattr(volumes, "close", self._mark)

    def _mark(self, vm: Vm, leaf: Leaf, version: int | None) -> None:
        self._count += 1
        if self._count >= _MANY:
            self.is_tried.set()
        if self.is_full:
            raise StorageFull("no space left")
        self._close(vm, leaf, version)


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    monkeypatch.setattr(live_disks, "_LOOK_S", 0.01)
    monkeypatch.setattr(guest_parts, "_CLOSE_AGAIN_S", 0.01)
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
