"""Take part in moving one pool's data: as manager give orders, as a node obey.

Orders are looked for in a thread of its own each 1 to 2 s; what hangs, hangs here
alone. Source: docs/formats/data-jobs.md.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Final

from node.clock import Clock
from node.errors import Error, NotFound
from node.model.ids import NodeId
from node.model.storage import PoolMember
from node.storage.data import choice, volume_leases
from node.storage.data.assigner import Assigner, Member
from node.storage.data.hand import PREFIX, Ground, Hand, Seat
from node.storage.data.slots import Board
from node.storage.data.volume_leases import VolumeLeases
from node.storage.disks.actions import Home, Homes
from node.storage.disks.executor import PREFIX as OWN_PREFIX
from node.storage.domains.access import LOOK_S, Access
from node.storage.guard import Guard
from node.storage.operations.facts import Place, Site
from node.storage.operations.plan import Action
from node.storage.process.protocol import Need, StepState
from node.storage.spm.pool import Pool
from node.storage.spm.states import State

log = logging.getLogger(__name__)

IDLE_S: Final = 2.0
BUSY_S: Final = 1.0


class DataNodeUnknown(NotFound):
    """The node that shall move the data is no member of the pool."""

    code = "data_node_unknown"
    remedy = "Name another node of the pool, or none."


class DataPart:
    """One node's part in moving one pool's data. Any thread may call."""

    def __init__(
        self,
        pool: Pool,
        guard: Guard,
        node_id: NodeId,
        clock: Clock,
        members: Callable[[], Sequence[PoolMember]],
    ) -> None:
        """`members` are the nodes of the pool as this one saw them last."""
        self._pool = pool
        self._guard = guard
        self._node_id = node_id
        self._members = members
        self._leases = VolumeLeases()
        who = (guard, pool.pool_id, node_id, clock)
        self._hand = Hand(*who, self._leases, self._ground)
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"data-{pool.pool_id[:8]}", daemon=True
        )

    def start(self) -> None:
        """Look for orders until `stop`."""
        self._thread.start()

    def stop(self, deadline_s: float) -> None:
        """Look no more; programs and leases stay as they are."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(deadline_s)

    def finish(self, deadline_s: float) -> None:
        """Stop, and end what is under way here; its managers give it to others."""
        self.stop(deadline_s)
        if self._thread.is_alive():
            log.warning("a look for data jobs hangs: what it began goes on")
            return
        try:
            self._hand.abandon()
        except Error as error:
            log.warning("data jobs are under way still: %s", error)

    def check(self, node_id: NodeId | None) -> None:
        """Refuse a node that is no member; DataNodeUnknown.

        One that is away just now is asked if it comes back in time; else the manager
        does what it would.
        """
        if node_id in (None, self._node_id):
            return
        if all(each.node_id != node_id for each in self._members()):
            raise DataNodeUnknown(
                f"node {node_id} is no member of pool {self._pool.pool_id}",
                node_id=node_id,
                pool_id=self._pool.pool_id,
            )

    def assigner(
        self, homes: Homes, needs: Sequence[Need], wanted: NodeId | None
    ) -> Assigner:
        """Return what orders under these leases, of the node that is wanted."""
        choose, spm = partial(self._choose, wanted), self._pool.spm
        board = self._board(needs)
        who = (self._guard, homes, board, self._leases, choose)
        return Assigner(*who, is_leaving=lambda: spm.state is State.RELEASING)

    @contextmanager
    def fencing(
        self, access: Access, image_id: str, *, is_kept: bool
    ) -> Iterator[None]:
        """See to it that no node moves data into an image; VolumeHeld.

        As the manager, where no journal tells whether one was ordered to. `is_kept`:
        until the end of the block, for volumes that stay.
        """
        ground = self._ground()
        if access.is_local or ground is None:
            yield  # nobody else reaches it
            return
        place = Place(Site(access.storage_domain_id), image_id)
        with ExitStack() as stack:
            for folder in (place.folder, place.workshop):
                who = (self._guard, ground.homes, self._leases, folder)
                fence = volume_leases.fenced_image(*who, is_kept=is_kept)
                stack.enter_context(fence)
            yield

    def _choose(
        self, wanted: NodeId | None, _action: Action, tried: tuple[str, ...]
    ) -> Member | None:
        members = self._members()
        if wanted == self._node_id:
            return None
        if wanted is not None:
            found = choice.named(wanted, members, tried)
        else:
            found = choice.relieving(
                self._node_id, members, self._loads(members), tried
            )
        return Member(found.node_id, found.host_id) if found is not None else None

    def _loads(self, members: Sequence[PoolMember]) -> dict[NodeId, int]:
        """Return how many programs each node has, as far as it matters."""
        running = sum(
            step.state is StepState.RUNNING
            and step.step_id.startswith((PREFIX, f"{OWN_PREFIX}."))
            for step in self._guard.steps()
        )
        loads = {self._node_id: running}
        if running < choice.NODE_MAX:
            return loads
        board = self._board(())
        for each in members:
            if each.node_id != self._node_id and choice.is_there(each):
                said = board.orders(each.host_id)
                is_its = said is not None and said.node_id == each.node_id
                loads[each.node_id] = len(said.orders) if said and is_its else 0
        return loads

    def _ground(self) -> Ground:
        homes = {
            each.storage_domain_id: Home(
                str(each.layout.root), each.sector_bytes, each.alignment_bytes
            )
            for each in self._pool.reached()
        }
        return Ground(Homes(homes), self._seat())

    def _seat(self) -> Seat | None:
        try:
            host_id = self._pool.host_id(self._pool.master())
        except Error as error:
            log.debug("the master is out of reach: %s", error)
            return None
        return Seat(host_id, self._board(())) if host_id is not None else None

    def _board(self, needs: Sequence[Need]) -> Board:
        access = self._pool.master()
        files = access.files(self._guard, needs, LOOK_S)
        return Board(files, str(access.layout.data_jobs))

    def _run(self) -> None:
        said = ""
        while not self._stopped.wait(BUSY_S if self._hand.is_busy else IDLE_S):
            try:
                self._hand.look()
                now = ""
            except Error as error:
                now = f"{error.code}: {error}"
            except Exception as error:  # a bug must not end the looks
                now = f"{type(error).__name__}: {error}"
                log.exception("a look for data jobs failed")
            if now != said:
                log.info("data jobs of pool %s: %s", self._pool.pool_id, now or "well")
                said = now
