"""End what guests' nodes have done to snapshots, and nobody asked the manager since.

An aggregator that is lost between two parts leaves a guest that runs well, and a disk
on which no guest is started: its node has marked a leaf as left. The pool's manager
finds that when it reads the definitions, and does its own part. What has not lain there
for a while is still being worked on.

    its guest has left a leaf     it has turned, was merged, or never will turn
    locked, its VM is suspended   its guest rests on what the new leaves are built on
    locked, its VM is down        the same: nobody has the VM's lease
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from node.clock import Clock
from node.contract import memories, snapshots
from node.contract.snapshots import Leaf
from node.errors import Error
from node.model.ids import SnapshotId, VmId
from node.model.storage import SnapshotState
from node.model.vm import Snapshot, Vm

log = logging.getLogger(__name__)

# Whoever works on it goes on sooner; definitions are read by several threads.
AGE_S: Final = 5.0
# A guest that was just paused has no lease for a moment, or until the agent of its node
# is back, if that died within it; and it is ended if we take the lease.
DOWN_AGE_S: Final = 60.0
# One that failed is left to people for a while.
AGAIN_S: Final = 600.0

Key = tuple[VmId, SnapshotId]
IsClosed = Callable[[Vm, Leaf], bool]


class Tender:
    """What this node found as manager, and when it did its part last."""

    def __init__(
        self,
        is_closed: IsClosed,
        is_down: Callable[[Vm], bool],
        finish: Callable[[Vm, Snapshot], None],
        clock: Clock,
    ) -> None:
        self._is_closed = is_closed
        self._is_down = is_down
        self._finish = finish
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: Mapping[Key, float] = {}  # when first, without a gap
        self._done: Mapping[Key, float] = {}

    def tend(self, vms: Iterable[Vm]) -> None:
        """Look at the definitions that this node manages. Any thread may call."""
        if self._lock.acquire(blocking=False):
            try:
                self._tend(vms)
            finally:
                self._lock.release()

    def _tend(self, vms: Iterable[Vm]) -> None:
        found = {
            (vm.spec.vm_id, each.snapshot_id): (vm, each, age_s)
            for vm in vms
            for each in vm.snapshots
            if (age_s := self._age_s(vm, each)) is not None
        }
        now = self._clock.monotonic()
        since = {k: at for k, at in self._done.items() if now - at < AGAIN_S}
        self._seen = {key: self._seen.get(key, now) for key in found}
        old = {key for key, at in self._seen.items() if now - at >= found[key][2]}
        for key in sorted(old - since.keys()):
            since[key] = now
            vm, snapshot, _ = found[key]
            self._end(vm, snapshot)
        self._done = since

    def _age_s(self, vm: Vm, snapshot: Snapshot) -> float | None:
        """Return how long a snapshot lies there before it is ended; None: for ever."""
        is_locked = snapshot.state is SnapshotState.LOCKED
        if not is_locked and snapshot.state is not SnapshotState.BROKEN:
            return None
        if is_locked and memories.is_suspended(vm):
            return AGE_S
        try:
            if self._is_left(vm, snapshot):
                return AGE_S
            return DOWN_AGE_S if is_locked and self._is_down(vm) else None
        except Error as error:
            log.info("VM %s: its snapshots: %s", vm.spec.vm_id, error)
            return None

    def _is_left(self, vm: Vm, snapshot: Snapshot) -> bool:
        """Tell whether a guest has turned away from what the definition names."""
        tops = {each.disk_id: each.volume_id for each in vm.spec.disks}
        return any(
            self._is_closed(vm, snapshots.left(each.disk_id, top, each.volume_id))
            for each in snapshot.disks
            if (top := tops.get(each.disk_id)) is not None
        )

    def _end(self, vm: Vm, snapshot: Snapshot) -> None:
        log.info("VM %s: snapshot %s is ended", vm.spec.vm_id, snapshot.snapshot_id)
        try:
            self._finish(vm, snapshot)
        except Error as error:
            log.warning("VM %s: its snapshot: %s", vm.spec.vm_id, error)
