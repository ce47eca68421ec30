"""Let another node move data for a step, and see it end: the manager's side.

    prepare   take the volume's lease for a moment: nobody else moves data into it;
              read its generation
    note      the assignment goes into the journal
    order     into the node's slot
    wait      for the node's report, or its silence
    settle    withdraw the order; take the lease: whoever had it has ended, and a late
              one finds no order; read the generation: one higher, and it is done

Whoever finds the assignment in the journal goes on from `order`, also another manager.
Not done: another node is asked, a few times, then the manager does it. Times are
seconds. Why there are never two writers: docs/formats/data-jobs.md.
"""

import logging
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Protocol

from node.errors import Busy, Error, Unavailable
from node.model.ids import NodeId
from node.storage.data import volume_leases
from node.storage.data.slots import (
    ENDED,
    ORDERS_MAX,
    Board,
    Orders,
    Report,
    Reports,
    Work,
)
from node.storage.data.volume_leases import (
    Volume,
    VolumeGone,
    VolumeHeld,
    VolumeLeases,
)
from node.storage.disks.actions import Homes
from node.storage.formats.journal import Assignment, Journal, Order
from node.storage.formats.volume_meta import VolumeMeta, next_generation
from node.storage.guard import Guard
from node.storage.operations.plan import Action
from node.storage.process.file_operations import StorageFull
from node.storage.spm.term import SpmLost
from node.system.leases import NotALease

log = logging.getLogger(__name__)

ATTEMPTS_MAX: Final = 3  # of other nodes, for one action
# A node looks each 1 to 2 s, and sanlock needs some seconds for a lease.
TAKE_S: Final = 60.0
# A node that has orders reports each 10 s.
SILENCE_S: Final = 60.0
# A dead host's lease is free after 140 s; an agent that died starts within seconds.
FENCE_S: Final = 300.0
LOOK_S: Final = 1.0


class NodeHoldsVolume(Busy):
    """The node that was to move data has the volume's lease, and does not answer."""

    code = "data_node_holds_volume"
    remedy = (
        "It goes on when the agent of the node that the message names runs again, or "
        "the node is dead."
    )


class HandedOver(SpmLost):
    """The manager leaves; its next one goes on, and the node moves data meanwhile."""


@dataclass(frozen=True, slots=True)
class Member:
    """A node that may move data."""

    node_id: NodeId
    host_id: int  # in the master's lockspace


# Returns who shall carry out an action; None: the manager. The nodes were tried.
Choose = Callable[[Action, tuple[str, ...]], Member | None]


class Watch(Protocol):
    """Who wants to know how far an action is, and may end it."""

    def check(self) -> None: ...

    def percent(self, percent: int, node_id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Patience:
    take_s: float = TAKE_S
    silence_s: float = SILENCE_S
    fence_s: float = FENCE_S
    look_s: float = LOOK_S


PATIENCE: Final = Patience()


class Assigner:
    """Has actions of one term carried out by other nodes."""

    def __init__(
        self,
        guard: Guard,
        homes: Homes,
        board: Board,
        leases: VolumeLeases,
        choose: Choose,
        *,
        is_leaving: Callable[[], bool] = lambda: False,
        patience: Patience = PATIENCE,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        """`board` writes under the leases of the term.

        `is_leaving` tells whether the manager waits for its work to end.
        """
        self._is_leaving = is_leaving
        self._guard = guard
        self._homes = homes
        self._board = board
        self._leases = leases
        self._choose = choose
        self._patience = patience
        self._monotonic = monotonic
        self._sleep = sleep
        self._new_id = new_id

    def carry_out(
        self,
        journal: Journal,
        number: int,
        watch: Watch,
        note: Callable[[Assignment | None], None],
    ) -> bool:
        """Have another node carry out an action; False: this node is to do it.

        `note` writes an assignment into the journal, or that there is none. What fails
        there may be that node's own fault: only a full storage is everybody's. Raises
        StorageFull, NodeHoldsVolume, VolumeHeld, what `watch` raises, and the errors
        of the guard. After AgentStopping and HandedOver the order stands, as long as
        it takes the manager; after
        NodeHoldsVolume and errors of the guard it may; else it is settled.
        """
        action = journal.step.do[number]
        assigned = journal.assigned
        if assigned is None or assigned.number != number:
            assigned = self._assign(journal, number, (), note)
        else:
            # An agent of ours that is gone may have ended between note and order.
            volume_leases.give_back(self._guard, self._homes, self._leases)
        while assigned is not None:
            report = self._follow(assigned, watch)
            if self.settle(assigned, watch.check):
                return True
            tried = (*assigned.tried, assigned.node_id)
            note(None)
            if report is not None and report.code == StorageFull.code:
                raise StorageFull(report.detail, node_id=assigned.node_id)
            log.warning(
                "job %s: node %s did not fill %s: %s",
                journal.job_id,
                assigned.node_id,
                action.target,
                report or "it is silent",
            )
            assigned = self._assign(journal, number, tried, note)
        return False

    def settle(self, assigned: Assignment, check: Callable[[], None]) -> bool:
        """See to it that an order ends; tell whether it was carried out.

        Afterwards nobody moves data into the volume. Raises NodeHoldsVolume, and while
        the node is waited for HandedOver, and what `check` raises.
        """
        self._withdraw(assigned)
        order = assigned.order
        volume = Volume(PurePosixPath(order.action.target))
        until = self._monotonic() + self._patience.fence_s
        while True:
            try:
                with self._fenced(volume) as (_, meta):
                    return meta.generation == next_generation(order.generation)
            except VolumeGone:
                return False
            except VolumeHeld as error:
                if self._monotonic() >= until:
                    raise NodeHoldsVolume(
                        f"node {assigned.node_id} holds volume {volume.volume_id}",
                        node_id=assigned.node_id,
                        volume_id=volume.volume_id,
                    ) from error
            check()
            if self._is_leaving():
                raise HandedOver(f"node {assigned.node_id} is waited for by the next")
            self._sleep(self._patience.look_s)

    def _assign(
        self,
        journal: Journal,
        number: int,
        tried: tuple[str, ...],
        note: Callable[[Assignment | None], None],
    ) -> Assignment | None:
        """Note that another node carries out an action; None: nobody else can."""
        action = journal.step.do[number]
        member = None
        if len(tried) < ATTEMPTS_MAX:
            member = self._choose(action, tried)
        if member is None or not self._has_room(member):
            return None
        volume = Volume(PurePosixPath(action.target))
        try:
            with self._fenced(volume) as (version, meta):
                order = Order(
                    self._new_id(), journal.job_id, action, version, meta.generation
                )
                made = Assignment(order, number, member.node_id, member.host_id, tried)
                note(made)
        except Error as error:
            if error.code != NotALease.code:
                raise
            log.warning("volume %s has no lease: %s", volume.volume_id, error)
            return None
        log.info(
            "job %s: node %s fills %s", journal.job_id, member.node_id, action.target
        )
        return made

    def _follow(self, assigned: Assignment, watch: Watch) -> Report | None:
        """Order it, and wait for its end; None: the node does not answer."""
        order = assigned.order
        ran_at = heard_at = self._monotonic()
        is_ordered = self._order(assigned)
        counter: int | None = None
        while True:
            watch.check()
            if self._is_leaving():
                raise HandedOver(f"node {assigned.node_id} goes on with the data")
            is_ordered = is_ordered or self._order(assigned)
            now, report = self._monotonic(), None
            said = self._heard(assigned)
            if said is not None:
                report = said.find(order.order_id)
                if said.counter != counter:
                    counter, heard_at = said.counter, now
            if report is not None and report.work in ENDED:
                return report
            if report is not None and report.work is Work.RUNNING:
                ran_at = now
            elif now - ran_at >= self._patience.take_s:
                return report
            if now - heard_at >= self._patience.silence_s:
                return None
            percent = report.percent if report is not None else 0
            watch.percent(percent, assigned.node_id)
            self._sleep(self._patience.look_s)

    def _heard(self, assigned: Assignment) -> Reports | None:
        """Return what the node says; None: nothing that can be read now."""
        try:
            said = self._board.reports(assigned.host_id)
        except Unavailable as error:
            log.info("node %s cannot be heard: %s", assigned.node_id, error)
            return None
        is_its = said is not None and said.node_id == assigned.node_id
        return said if is_its else None

    def _order(self, assigned: Assignment) -> bool:
        """Write the order into the node's slot; tell whether it stands. Idempotent.

        Not while the slot is half written, or has orders of the node that has that
        host id by now: they would be withdrawn.
        """
        with self._leases.ordering:
            self._board.make()
            said = self._board.orders(assigned.host_id)
            if said is None or not _is_free_for(assigned.node_id, said):
                return False
            self._put(assigned, (*self._others(assigned), assigned.order))
            return True

    def _withdraw(self, assigned: Assignment) -> None:
        with self._leases.ordering:
            said = self._board.orders(assigned.host_id)
            if said is not None and said.node_id not in ("", assigned.node_id):
                return  # the host id is another node's by now
            if said is None or assigned.order in said.orders:
                self._put(assigned, self._others(assigned))

    def _others(self, assigned: Assignment) -> tuple[Order, ...]:
        said = self._board.orders(assigned.host_id)
        if said is None or said.node_id != assigned.node_id:
            return ()
        order_id = assigned.order.order_id
        return tuple(each for each in said.orders if each.order_id != order_id)

    def _put(self, assigned: Assignment, orders: tuple[Order, ...]) -> None:
        node_id = NodeId(assigned.node_id)
        self._board.put_orders(assigned.host_id, Orders(node_id, orders))

    def _has_room(self, member: Member) -> bool:
        said = self._board.orders(member.host_id)
        if said is None:
            return True
        return _is_free_for(member.node_id, said) and len(said.orders) < ORDERS_MAX

    def _fenced(self, volume: Volume) -> AbstractContextManager[tuple[int, VolumeMeta]]:
        return volume_leases.fenced(self._guard, self._homes, self._leases, volume)


def _is_free_for(node_id: str, said: Orders) -> bool:
    """Tell whether a slot has no orders of another node."""
    return said.node_id == node_id or not said.orders
