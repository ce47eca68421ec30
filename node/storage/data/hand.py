"""Move data for the manager of a pool: look for orders, carry them out, report.

Once each look, with nothing remembered that the storage or the storage process does
not know: an agent that starts again goes on where the last one was. The order of what
is done is what makes it safe, see docs/formats/data-jobs.md:

    take the volume's lease in the version that the order names
    read the order again: it still stands
    read the volume: nobody uses it, and its generation is the order's
    run the program under the lease
    write the next generation under the lease, give the lease back

Nothing here waits for a program. Times are seconds.
"""

import logging
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from node.clock import Clock
from node.errors import Busy, Conflict, Error, Unavailable
from node.model.ids import NodeId
from node.storage.data import volume_leases
from node.storage.data.slots import ENDED, Board, Report, Reports, Work
from node.storage.data.volume_leases import Volume, VolumeLeases
from node.storage.disks.actions import Homes, ProgramFailed, ProgramKilled, complaint
from node.storage.domains.access import LOOK_S
from node.storage.formats.journal import Order
from node.storage.formats.volume_meta import next_generation
from node.storage.guard import Guard
from node.storage.operations import plan as plans
from node.storage.process.file_operations import StorageFull
from node.storage.process.holdings import StaleLease
from node.storage.process.protocol import Need, ResourceAt, StepState
from node.storage.process.steps import StepRuns
from node.system.leases import LeaseHeld

log = logging.getLogger(__name__)

PREFIX: Final = "data."  # of our steps' ids in the storage process; then the pool's
# As long as the manager waits for a report; then it gives our orders to others.
SILENCE_S: Final = 60.0
REPORT_S: Final = 10.0  # also without news, so that the manager knows that we are here
_TIDY_LOOKS: Final = 5  # how often what an earlier agent left is looked for
_DETAIL_MAX: Final = 300
_PERCENT: Final = re.compile(r"\(([0-9]{1,3})[.0-9]*/100%\)")


class OrderStale(Conflict):
    """What lies there is not what the order says."""

    code = "data_order_stale"
    remedy = "Nothing: the manager looks at the volume, and orders it anew."


class OrderUnclear(Busy):
    """The order was withdrawn, or its slot is being written."""

    code = "data_order_unclear"
    remedy = "Nothing: the next look tells."


@dataclass(frozen=True, slots=True)
class Seat:
    """Where the manager and this node talk."""

    host_id: int  # in the master's lockspace
    board: Board


@dataclass(frozen=True, slots=True)
class Ground:
    """The pool as this node reaches it now."""

    homes: Homes
    seat: Seat | None  # None: this node is not in the master's lockspace


@dataclass(frozen=True, slots=True)
class _Taken:
    """An order, and the lease of its volume."""

    order: Order
    lease: ResourceAt


class Hand:
    """One node's part in moving one pool's data. One thread calls `look`."""

    def __init__(
        self,
        guard: Guard,
        pool_id: str,
        node_id: NodeId,
        clock: Clock,
        leases: VolumeLeases,
        ground: Callable[[], Ground],
    ) -> None:
        self._guard = guard
        self._prefix = f"{PREFIX}{pool_id}."
        self._node_id = node_id
        self._clock = clock
        self._leases = leases
        self._ground = ground
        self._mine: dict[str, _Taken] = {}  # by order
        self._reports: dict[str, Report] | None = None  # None: not read yet
        self._counter = 0
        self._told: tuple[Report, ...] = ()
        self._told_at = 0.0
        self._looks = 0
        self._killed: set[str] = set()  # programs that did not die at once
        self._read_at = clock.monotonic()  # when we read last what the manager wants

    @property
    def is_busy(self) -> bool:
        """Tell whether it has orders, and should look often."""
        return bool(self._mine)

    def look(self) -> None:
        """Do what can be done now. Raises what guard and files raise."""
        ground = self._ground()
        orders = None
        try:
            if ground.seat is not None:
                orders = self._read_orders(ground.seat)
        finally:
            if orders is None:
                self._miss(ground)
        if ground.seat is None or orders is None:
            return  # half of a slot: the next look finds it whole
        self._read_at = self._clock.monotonic()
        if self._reports is None:
            self._reports = self._remember(ground.seat)
        for order_id in set(self._mine) - set(orders):
            self._drop(self._mine[order_id].order)
        self._reports = {k: each for k, each in self._reports.items() if k in orders}
        for order in orders.values():
            before = self._reports.get(order.order_id)
            if before is None or before.work not in ENDED:
                done = self._advance(ground.homes, ground.seat, order)
                self._reports[order.order_id] = done
                self._publish(ground.seat)  # the next one may wait for its storage
        if self._looks % _TIDY_LOOKS == 0:
            self._tidy(ground)
        self._looks += 1
        self._publish(ground.seat)

    def abandon(self) -> None:
        """End all that is under way here: this node leaves the pool."""
        self._end_all(self._ground())

    def _miss(self, ground: Ground) -> None:
        """End all once the manager cannot be heard for as long as it waits for us.

        It gives our orders to others; those that stand are stale when we read them.
        """
        if self._clock.monotonic() - self._read_at >= SILENCE_S:
            self._end_all(ground)
            self._read_at = self._clock.monotonic()

    def _end_all(self, ground: Ground) -> None:
        for taken in tuple(self._mine.values()):
            self._drop(taken.order)
        self._tidy(ground)

    def _read_orders(self, seat: Seat) -> dict[str, Order] | None:
        said = seat.board.orders(seat.host_id)
        if said is None:
            return None
        if said.node_id != self._node_id:
            return {}
        return {each.order_id: each for each in said.orders}

    def _remember(self, seat: Seat) -> dict[str, Report]:
        """Return how orders ended that an earlier agent carried out."""
        said = seat.board.reports(seat.host_id)
        if said is None:
            return {}
        self._counter = said.counter
        if said.node_id != self._node_id:
            return {}
        return {each.order_id: each for each in said.reports if each.work in ENDED}

    def _advance(self, homes: Homes, seat: Seat, order: Order) -> Report:
        """Go on with an order as far as it goes now, and say how far that is."""
        try:
            made = self._step(homes, seat, order)
        except Error as error:
            made = _excuse(order, error)
        if made.work in ENDED:
            log.info("order %s of job %s: %s", order.order_id, order.job_id, made.work)
            self._let_go(order)
        return made

    def _step(self, homes: Homes, seat: Seat, order: Order) -> Report:
        """Go on with an order; what it raises is judged by `_excuse`."""
        guard, volume = self._guard, _volume(order)
        step_id = f"{self._prefix}{order.order_id}"
        if order.order_id in self._mine and self._runs(step_id):
            return self._say_running(order, step_id)  # whatever its storage does
        need = self._take(homes, seat, order, volume)
        meta = volume_leases.read_meta(guard, homes, volume, LOOK_S)
        if meta.generation == next_generation(order.generation):
            return Report(order.order_id, Work.DONE, 100)
        if meta.generation != order.generation:
            raise OrderStale(
                f"volume {volume.volume_id} has generation {meta.generation}, "
                f"not {order.generation}"
            )
        if not volume_leases.may_fill(volume, meta):
            raise OrderStale(f"volume {volume.volume_id} is in use")
        argv, folder = homes.command(order.action)
        guard.run(step_id, argv, (need,), folder)
        step = guard.wait(step_id, 0.0)
        if step.state is StepState.RUNNING:
            return self._say_running(order, step_id)
        if step.exit_status != 0:
            raise complaint(order.action, step)
        volume_leases.write_next(guard, homes, volume, meta, need)
        return Report(order.order_id, Work.DONE, 100)

    def _runs(self, step_id: str) -> bool:
        return any(
            each.step_id == step_id and each.state is StepState.RUNNING
            for each in self._guard.steps()
        )

    def _say_running(self, order: Order, step_id: str) -> Report:
        percent = _percent(self._guard.progress(step_id))
        return Report(order.order_id, Work.RUNNING, percent)

    def _take(self, homes: Homes, seat: Seat, order: Order, volume: Volume) -> Need:
        """Hold the volume's lease for an order that still stands."""
        wanted, resource = order.lease_version + 1, homes.resource(volume.lease_path)
        if order.order_id not in self._mine:
            self._leases.take(volume)
            self._mine[order.order_id] = _Taken(order, resource)
        version = self._guard.acquire(resource, order.lease_version)
        if version != wanted:
            raise OrderStale(f"the lease has version {version}, not {wanted}")
        if order.order_id not in (self._read_orders(seat) or {}):
            raise OrderUnclear("the order does not stand, or cannot be read")
        return Need(resource.lockspace, resource.name, version)

    def _drop(self, order: Order) -> None:
        """End what was withdrawn, or is given up."""
        log.info("order %s of job %s is dropped", order.order_id, order.job_id)
        self._let_go(order)

    def _let_go(self, order: Order) -> None:
        """End an order's program, and give back its lease; `_tidy` tries again."""
        taken = self._mine.pop(order.order_id, None)
        if taken is None:
            return
        volume = _volume(order)
        try:
            step_id = f"{self._prefix}{order.order_id}"
            self._end_steps(step_id, ())
            now = volume_leases.held(self._guard, volume)
            if now is not None:
                self._guard.release(taken.lease)
        except Error as error:
            log.warning("volume %s is held on: %s", volume.volume_id, error)
        finally:
            self._leases.end(volume)

    def _tidy(self, ground: Ground) -> None:
        """End what an earlier agent, or a failed attempt, has left."""
        kept = {f"{self._prefix}{order_id}" for order_id in self._mine}
        try:
            self._end_steps(self._prefix, kept)
        except Error as error:
            log.warning("what an earlier agent left cannot be ended yet: %s", error)
        try:
            volume_leases.give_back(self._guard, ground.homes, self._leases)
        except Error as error:
            log.warning("which leases are held is not known: %s", error)

    def _end_steps(self, prefix: str, kept: Collection[str]) -> None:
        """End the programs whose ids begin so; raises why the first one did not."""
        failed = volume_leases.end_steps(self._guard, prefix, kept, self._killed)
        others = {each for each in self._killed if not each.startswith(prefix)}
        hang = {key for key, each in failed.items() if each.code == StepRuns.code}
        self._killed = others | hang  # one that is begun anew may be killed anew
        if failed:
            raise next(iter(failed.values()))

    def _publish(self, seat: Seat) -> None:
        """Say how far we are, if that is new or long ago."""
        assert self._reports is not None, "they were read"
        now, reports = self._clock.monotonic(), tuple(self._reports.values())
        is_due = bool(reports) and now - self._told_at >= REPORT_S
        if reports == self._told and not is_due:
            return
        self._counter += 1
        said = Reports(self._node_id, self._counter, reports)
        seat.board.put_reports(seat.host_id, said)
        self._told, self._told_at = reports, now


def _volume(order: Order) -> Volume:
    """Return what an order fills; BadPlan if it is none of ours."""
    plans.check_action(order.action)
    if not plans.may_be_assigned(order.action):
        raise plans.BadPlan("the order is for the manager alone")
    return Volume(PurePosixPath(order.action.target))


def _excuse(order: Order, error: Error) -> Report:
    """Return what the manager is told of an error."""
    if isinstance(error, ProgramKilled) or error.code == StaleLease.code:
        work = Work.LOST
    elif error.code in _OF_PROGRAMS:
        work = Work.FAILED
    elif error.kind in _PASSING or error.code == LeaseHeld.code:
        work = Work.WAITING
    else:
        work = Work.REFUSED
    log.info("order %s of job %s: %s", order.order_id, order.job_id, error)
    return Report(order.order_id, work, 0, error.code, error.message[:_DETAIL_MAX])


def _percent(line: str) -> int:
    found = _PERCENT.search(line)
    return min(int(found[1]), 100) if found else 0


_PASSING: Final = frozenset({Busy.kind, Unavailable.kind})
_OF_PROGRAMS: Final = frozenset({ProgramFailed.code, StorageFull.code})
