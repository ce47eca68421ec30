"""Do to a guest that runs here what a pool's manager on another node cannot.

The manager has made the new volumes, or said that a snapshot goes; when the guest has
turned, it changes definition and chain. Nobody waits for it in between: what the guest
does is written down by this node in the leaf that it leaves, while the guest stands
still and this node has the VM's lease (`node.storage.disks.turned`).

    take     turn to the new leaves; if QEMU refuses, these are marked as left
             with memory: hold the guest, let libvirt write that and turn the guest,
             mark the memory as saved, let the guest go on
    delete   merge; a leaf: hold the guest, pivot, mark the leaf as left, let it go on

Whatever ends it in between, a guest that is started on what the definition names has
its newest data, or is not started until the manager has ended what was begun. Each
step looks first, so all may be done again.
"""

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from node import jobs
from node.contract import snapshots
from node.contract.memories import MemoryMark, of_snapshot
from node.contract.snapshots import Leaf
from node.errors import Conflict, Error, Unavailable
from node.model.ids import SnapshotId
from node.model.storage import SnapshotState
from node.model.vm import Snapshot, Vm
from node.system.hypervisor import DomainMissing
from node.vm import memory_writing, snapshot_checks, states
from node.vm.holding import Holder, Piece
from node.vm.live_disks import REFUSALS, LiveDisks

log = logging.getLogger(__name__)

# How a job says that the guest writes to the new leaves, consistently or not.
FROZEN: Final = "frozen"
TURNED: Final = "turned"
# A storage that fails for a moment: the guest stands still until it is back.
_CLOSE_TRIES: Final = 10
_CLOSE_AGAIN_S: Final = 2.0


class SnapshotNotBegun(Conflict):
    """The pool's manager has not said yet that the snapshot goes."""

    code = "snapshot_not_begun"
    remedy = "Order it through the aggregator, or at the pool's manager."


class Marker(Protocol):
    """What knows of volumes that guests have left; the pools' volumes do."""

    def is_closed(self, vm: Vm, leaf: Leaf) -> bool: ...

    def close(self, vm: Vm, leaf: Leaf, version: int | None) -> None: ...


@dataclass(frozen=True, slots=True)
class GuestParts:
    """The guests that run here and whose pools others manage."""

    live: LiveDisks
    holder: Holder
    marker: Marker

    def take(self, piece: Piece, snapshot_id: SnapshotId) -> None:
        """Let the guest write to the leaves of a snapshot that the manager began."""
        self.holder.outwait(piece)
        entry, vm = self.holder.newest(piece)
        taken = snapshots.get(vm, snapshot_id)
        is_begun = taken.state is SnapshotState.LOCKED
        if not is_begun or not states.is_active(entry.run.state):
            return
        leaves = snapshot_checks.leaves_of(taken)
        try:
            if self.is_refused(vm, taken):
                self._leave(piece, vm, leaves)  # QEMU had refused before
                return
            try:
                has_agent = entry.run.guest is not None
                is_frozen = self._turn(piece, vm, taken, may_freeze=has_agent)
            except REFUSALS as error:
                log.warning("VM %s: no snapshot: %s", piece.vm_id, error)
                self._leave(piece, vm, leaves)
            except jobs.Cancelled:
                if self._leave(piece, vm, leaves):
                    raise
            else:
                piece.progress.tell(FROZEN if is_frozen else TURNED)
        except DomainMissing:
            log.info("VM %s ended before its snapshot was complete", piece.vm_id)

    def keep(self, piece: Piece, vm: Vm, snapshot: Snapshot) -> None:
        """Let the guest turn to a snapshot's leaves; keep its memory of that moment.

        One that had turned before only goes on: libvirt lets it turn when the memory is
        whole, also if the agent stopped meanwhile. Cancelled, DomainMissing, and as
        QEMU refuses.
        """
        leaves = snapshot_checks.leaves_of(snapshot)
        view = of_snapshot(vm, snapshot)
        with (
            memory_writing.place(self.holder, piece),
            self._going_on(piece),
            self.holder.still(piece) as version,
        ):
            if not self.live.has_turned(piece.vm_id, leaves):
                piece.progress.check()
                self._write_memory(piece, view, leaves)
                self._mark_memory(piece, view, version)
            elif self._is_written(piece, view):
                self._mark_memory(piece, view, version)

    def leave(self, piece: Piece, vm: Vm, snapshot: Snapshot) -> bool:
        """Mark a snapshot's leaves as left; False: the guest has turned to them."""
        return self._leave(piece, vm, snapshot_checks.leaves_of(snapshot))

    def is_refused(self, vm: Vm, snapshot: Snapshot) -> bool:
        """Tell whether QEMU would not turn to a snapshot's leaves: they were left."""
        leaves = snapshot_checks.leaves_of(snapshot)
        return any(self.marker.is_closed(vm, each) for each in leaves)

    def delete(self, piece: Piece, snapshot_id: SnapshotId) -> None:
        """Merge all disks of a snapshot that the manager has begun to delete."""
        entry, vm = self.holder.newest(piece)
        known = snapshots.find(vm, snapshot_id)
        if known is not None and known.state is not SnapshotState.BROKEN:
            raise SnapshotNotBegun(
                f"snapshot {snapshot_id} is {known.state}", snapshot_id=snapshot_id
            )
        if known is None or not states.is_active(entry.run.state):
            self.holder.let_go(piece)
            return
        for each in known.disks:
            top = snapshots.above(vm, known, each.disk_id)
            if top is None:
                raise snapshots.DefinitionChanged(
                    f"VM {vm.spec.name} has lost {each.disk_id}"
                )
            self.holder.outwait(piece)
            try:
                self._merge(piece, vm, Leaf(each.disk_id, top, each.volume_id))
            except DomainMissing:
                log.info("VM %s ended while it was merged", piece.vm_id)
                return
        self.holder.let_go(piece)

    def _turn(
        self, piece: Piece, vm: Vm, snapshot: Snapshot, *, may_freeze: bool
    ) -> bool:
        leaves, is_frozen = snapshot_checks.leaves_of(snapshot), False
        if snapshot.memory is not None:
            self.keep(piece, vm, snapshot)
        else:
            piece.progress.step(60, "turning the guest to the new volumes")
            is_frozen = self.live.turn(piece.vm_id, leaves, may_freeze=may_freeze)
        if not self.live.has_turned(piece.vm_id, leaves):
            raise snapshots.DefinitionChanged(
                f"the guest of VM {piece.vm_id} writes to other volumes than its "
                "definition names"
            )
        return is_frozen

    def _merge(self, piece: Piece, vm: Vm, leaf: Leaf) -> None:
        if self.marker.is_closed(vm, leaf):
            return
        is_newest = (leaf.disk_id, leaf.volume_id) in snapshots.leaves(vm)
        try:
            must_turn = self.live.merge(piece.vm_id, leaf, piece.progress)
        except jobs.Cancelled:
            self.live.give_up(piece.vm_id, leaf)
            raise
        if not is_newest:
            return  # headers tell that it is out of the chain
        with self._going_on(piece):
            with self.holder.still(piece) as version:
                if must_turn:
                    self.live.pivot(piece.vm_id, leaf)
            self._close(piece, vm, leaf, version)

    def _write_memory(self, piece: Piece, view: Vm, leaves: tuple[Leaf, ...]) -> None:
        piece.progress.step(30, "writing its memory")
        path = str(self.holder.volumes.memories.path(view))
        turn = functools.partial(self.live.turn, may_freeze=False, memory=path)
        memory_writing.write(self.holder, piece, lambda: turn(piece.vm_id, leaves))

    def _is_written(self, piece: Piece, view: Vm) -> bool:
        """Tell whether libvirt has written a memory that nobody has marked.

        Not if the guest ended, and was started on the new leaves.
        """
        memories = self.holder.volumes.memories
        try:
            if memories.look(view) is not MemoryMark.BLANK:
                return False
            self.holder.hypervisor.saved_xml(str(memories.path(view)))
        except Error as error:
            log.info("VM %s: it has turned without its memory: %s", piece.vm_id, error)
            return False
        return True

    def _mark_memory(self, piece: Piece, view: Vm, version: int | None) -> None:
        """Say that the memory is whole; the disks are good without it, too."""
        save = functools.partial(self.holder.volumes.memories.save, view, version)
        try:
            self._patiently(piece, save)
        except Error as error:
            log.warning("VM %s: its memory is not kept: %s", piece.vm_id, error)

    def _leave(self, piece: Piece, vm: Vm, leaves: tuple[Leaf, ...]) -> bool:
        """Mark new leaves as left that the guest never wrote to.

        QEMU may have turned after all, after it was given up: then they stay, False.
        """
        with self._going_on(piece):
            with self.holder.still(piece) as version:
                has_turned = self.live.has_turned(piece.vm_id, leaves)
            if has_turned:
                piece.progress.tell(TURNED)
                return False
            for each in leaves:
                self._close(piece, vm, each, version)
        return True

    @contextmanager
    def _going_on(self, piece: Piece) -> Iterator[None]:
        """Let the guest go on afterwards; whatever fails, as soon as it may."""
        try:
            yield
            self.holder.let_go(piece)
        except (jobs.AgentStopping, DomainMissing):
            raise
        except Exception:
            self.holder.release(piece)
            raise

    def _close(self, piece: Piece, vm: Vm, leaf: Leaf, version: int | None) -> None:
        """Mark a leaf as left, however long the storage is full, or does not answer.

        Until then its guest stands still. DomainMissing: it has ended meanwhile, and
        its lease is free.
        """
        while True:
            try:
                self._patiently(piece, lambda: self.marker.close(vm, leaf, version))
            except jobs.AgentStopping:
                raise
            except Unavailable as error:
                if self.holder.is_over(piece.vm_id):
                    raise DomainMissing(f"domain {piece.vm_id} has ended") from error
                piece.progress.step(90, f"the guest stands still: {error.message}")
            else:
                return

    def _patiently(self, piece: Piece, mark: Callable[[], None]) -> None:
        """Write a mark, in spite of a storage that fails for a moment."""
        for attempt in range(1, _CLOSE_TRIES + 1):
            try:
                mark()
            except Error as error:
                if attempt == _CLOSE_TRIES:
                    raise
                log.info("VM %s stands still: %s", piece.vm_id, error)
                piece.progress.pause(_CLOSE_AGAIN_S)
            else:
                return
