"""Take part in the choice of the manager, through the storage alone.

Each round, every 10 s: say that we are here, read who else is, see whether our own
lease is still held, and come forward when no aggregator leads and it is our turn.
Who decides is `node.policy.spm`; that two cannot win is sanlock's work.

A round waits for no storage domain longer than LOOK_S. What takes longer is begun
aside and found done, or asked for again, in a later round: so a node also says that
it is here while it becomes manager, or leaves.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from node.clock import Clock, rfc3339
from node.errors import Error
from node.model.ids import NodeId
from node.model.reason import Reason
from node.model.storage import Liveness, PoolMember, SpmPriority
from node.policy import spm as policy
from node.policy.spm import Candidate, Holder, Manner, Now, Timing
from node.storage.aside import Aside, Deed
from node.storage.domains import host_ids
from node.storage.domains.access import LOOK_S, Access
from node.storage.domains.host_ids import HostRecord
from node.storage.guard import Guard
from node.storage.spm import presence
from node.storage.spm.pool import Pool
from node.storage.spm.presence import Presence, Seen
from node.storage.spm.states import State
from node.system.leases import Host, HostsUnknown, Owner
from node.system.leases import Liveness as Told

log = logging.getLogger(__name__)

ROUND_S: Final = 10.0
TIMING: Final = Timing()


@dataclass(frozen=True, slots=True)
class Self:
    """What this node would say of itself now."""

    name: str
    hears_leader: bool
    priority: int = SpmPriority.NORMAL
    is_in_maintenance: bool = False
    has_watchdog: bool = True
    ill_domains: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Sight:
    """What a node saw in one round."""

    members: tuple[PoolMember, ...] = ()
    holder: Holder | None = None
    owner: Owner | None = None  # of the lease; None: nobody
    reason: Reason | None = None  # why it came forward, or did not


class Candidacy:
    """One node's part in the choice of one pool's manager."""

    def __init__(
        self,
        pool: Pool,
        guard: Guard,
        node_id: NodeId,
        clock: Clock,
        describe: Callable[[], Self],
        timing: Timing = TIMING,
        aside: Callable[[str, Deed], bool] | None = None,
    ) -> None:
        """`aside` begins what takes long; None: in threads."""
        self._pool = pool
        self._guard = guard
        self._node_id = node_id
        self._clock = clock
        self._describe = describe
        self._timing = timing
        self._aside = aside or Aside().do
        self._not_joined: Reason | None = None  # why
        self._found: Mapping[int, Presence] = {}
        self._seen: Mapping[int, Seen] = {}
        self._silent_since = clock.monotonic()
        self._version = 0  # of the lease, as it was seen last
        self._asks = 0
        self._failed_at: float | None = None
        self._is_first = True
        self._records: tuple[HostRecord, ...] = ()
        self._records_key: object = None
        self._said = ""
        self.sight = Sight()

    def ask(self, lease_version: int) -> None:
        """Ask who holds the lease in this version to leave, from the next round on."""
        self._asks = lease_version

    def run(self, stopped: threading.Event) -> None:
        """Go round until stopped."""
        while not stopped.wait(ROUND_S):
            self.attempt()

    def attempt(self) -> None:
        """Go round once; what fails becomes the sight's reason."""
        try:
            self.go_round()
            now = self.sight.reason.code if self.sight.reason else ""
        except Error as error:
            now = f"{error.code}: {error}"
            self._note_failure(now)
        except Exception as error:  # a bug must not end the rounds
            now = f"{type(error).__name__}: {error}"
            self._note_failure(now)
            log.exception("a round of the manager's election failed")
        if now != self._said:
            log.info("the manager's election: %s", now)
            self._said = now

    def go_round(self) -> Sight:
        """Do all of a round; raises what files and leases raise."""
        spm = self._pool.spm
        if not spm.check() and spm.state is State.FREE:
            self._pool.refresh()
        access = self._pool.master()
        host_id = self._enter(access)
        if host_id is None:
            self.sight = Sight(reason=self._not_joined)
            return self.sight
        myself = self._describe()
        self._publish(access, host_id, myself)
        self._look(access)
        if spm.state is State.SERVING:
            self._serve()
        elif spm.state is State.FREE:
            self.sight = replace(self.sight, reason=self._stand(myself, host_id))
        return self.sight

    def _enter(self, access: Access) -> int | None:
        """Return our host id in the master's lockspace; None: we are joining it."""
        host_id = self._pool.host_id(access)
        if host_id is not None:
            return host_id
        fields = {"node": self._describe().name}
        not_joined = Reason("spm_node_not_joined", self._at(), fields)
        if self._not_joined is None:
            self._not_joined = not_joined

        def join() -> None:
            try:
                self._pool.join(access)
            except Error as error:
                detail = {**fields, "pool": self._pool.pool_id, "detail": str(error)}
                cause = Reason(error.code, self._at(), detail)
                self._not_joined = replace(not_joined, cause=cause)
                raise
            self._not_joined = None

        self._aside("join", join)
        return self._pool.host_id(access)

    def _look(self, access: Access) -> None:
        """See who is there, who has the lease, and since when nothing moves."""
        told = self._hosts(access)
        records = self._records_of(access, told)
        hosts = told if told is not None else _unknown(records)
        files = access.files(self._guard, deadline_s=LOOK_S)
        found = presence.read(
            files, str(access.layout.presence), [each.host_id for each in hosts]
        )
        now = self._clock.monotonic()
        self._found = found
        self._seen = presence.follow(self._seen, found, now)
        members = presence.members(self._seen, hosts, records, now)
        owner = self._guard.read_owner(access.spm_lease)
        holder = find_holder(owner, hosts, members, found, self._timing)
        self._note_silence(members, holder, owner, now)
        reason = None
        if told is None:
            fields = {"node": self._describe().name}
            reason = Reason("spm_members_unknown", self._at(), fields)
        self.sight = Sight(members, holder, owner, reason)

    def _hosts(self, access: Access) -> tuple[Host, ...] | None:
        """Return who is in the lockspace; None: sanlock does not know yet.

        After it joined, it first reads the others' sectors.
        """
        try:
            return self._guard.hosts(access.lockspace.name)
        except Error as error:
            if error.code != HostsUnknown.code:
                raise
            log.debug("the members of the pool are not known yet: %s", error)
            return None

    def _serve(self) -> None:
        """As manager: leave if we should, else keep what we hold in order."""
        spm = self._pool.spm
        if self._is_asked():
            stand_back_s = self._timing.stand_back_s
            self._aside("management", lambda: spm.leave(stand_back_s))
        elif self._is_overtaken():
            log.error("another node made %s the master", self._pool.map.master_id)
            self._aside("management", spm.leave)
        else:
            self._aside("upkeep", self._keep)
        self._is_first = False

    def _is_overtaken(self) -> bool:
        try:
            return self._pool.is_overtaken()
        except Error as error:
            # We hold the lease: who cannot read the maps is manager all the same.
            log.warning("the maps of the pool cannot be read: %s", error)
            return False

    def _keep(self) -> None:
        try:
            self._pool.mend()
        finally:
            self._pool.leave_resting()

    def _stand(self, myself: Self, host_id: int) -> Reason | None:
        """As no manager: go on with what we were, come forward, or tidy up."""
        spm, is_first = self._pool.spm, self._is_first
        self._is_first = False
        if is_first and spm.is_left_over():
            self._aside("management", lambda: self._become(None))
            return None
        unknown = self.sight.reason
        if unknown is None:
            reason, deed = self._come(myself, host_id)
        else:
            reason, deed = unknown, None
        self._aside("management", deed or self._tidy)
        return reason

    def _tidy(self) -> None:
        try:
            self._pool.spm.tidy()
        finally:
            self._pool.leave_resting()

    def _become(self, lease_version: int | None) -> None:
        try:
            self._pool.spm.become(lease_version)
        except Error:
            self._failed_at = self._clock.monotonic()
            raise

    def _note_failure(self, detail: str) -> None:
        fields = {"detail": detail}
        reason = Reason("spm_round_failed", self._at(), fields)
        # Who is in the pool is no news of one round.
        self.sight = Sight(self.sight.members, reason=reason)

    def _at(self) -> str:
        return rfc3339(self._clock.now())

    def _publish(self, access: Access, host_id: int, myself: Self) -> None:
        spm = self._pool.spm
        is_serving = spm.state is State.SERVING
        presence.publish(
            access.files(self._guard, deadline_s=LOOK_S),
            str(access.layout.presence),
            host_id,
            Presence(
                self._node_id,
                0,
                myself.priority,
                myself.hears_leader,
                spm.view().lease_version if is_serving else 0,
                self._asks,
            ),
        )

    def _records_of(
        self, access: Access, hosts: tuple[Host, ...] | None
    ) -> tuple[HostRecord, ...]:
        """Return who has which host id; read again when somebody joined."""
        joins = [(each.host_id, each.generation) for each in hosts or ()]
        key = (access, joins)
        if hosts is None or key != self._records_key:
            self._records = self._read_records(access)
            self._records_key = key
        return self._records

    def _read_records(self, access: Access) -> tuple[HostRecord, ...]:
        if access.is_local:
            return (HostRecord(1, self._node_id, 1, 1),)
        at = access.lockspace
        files = access.files(self._guard, deadline_s=LOOK_S)
        return host_ids.read(files, at.path, at.name, at.sector_bytes)

    def _note_silence(
        self,
        members: tuple[PoolMember, ...],
        holder: Holder | None,
        owner: Owner | None,
        now: float,
    ) -> None:
        """Count from when nobody leads, nobody serves, and the lease does not move."""
        version = owner.version if owner is not None else self._version
        is_led = any(
            each.hears_leader
            and each.liveness not in _GONE
            and each.silence_s < self._timing.publication_s
            for each in members
        )
        if is_led or version != self._version or (holder and holder.is_serving):
            self._silent_since = now
        if owner is None or owner.version != self._asks:
            self._asks = 0
        self._version = version

    def _is_asked(self) -> bool:
        """Tell whether a live node asks us to give the lease away."""
        version = self._pool.spm.view().lease_version
        asking = [
            each
            for each in self.sight.members
            if each.liveness is Liveness.LIVE
            and each.silence_s < self._timing.publication_s
            and self._found[each.host_id].asks == version
        ]
        if asking:
            log.info("%s asks for the management", asking[0].node_id)
        return bool(asking)

    def _come(self, myself: Self, host_id: int) -> tuple[Reason, Deed | None]:
        """Come forward if it is our turn; return why, or why not, and what to do."""
        now = Now(self._at(), self._clock.monotonic())
        own = Candidate(
            self._node_id,
            myself.name,
            host_id,
            is_up=True,
            priority=myself.priority,
            is_in_maintenance=myself.is_in_maintenance,
            has_watchdog=myself.has_watchdog,
            ill_domains=myself.ill_domains,
            stands_back_until=self._pool.spm.stands_back_until,
            failed_at=self._failed_at,
        )
        sight = self.sight
        said = policy.nominate(
            own, sight.members, sight.holder, self._silent_since, now, self._timing
        )
        version = sight.owner.version if sight.owner is not None else None
        if said.manner is Manner.ASK:
            assert version is not None, "who is asked holds the lease"
            self.ask(version)
        elif said.manner is not None:
            return said.reason, lambda: self._become(version)
        return said.reason, None


def find_holder(
    owner: Owner | None,
    hosts: tuple[Host, ...],
    members: tuple[PoolMember, ...],
    found: Mapping[int, Presence],
    timing: Timing = TIMING,
) -> Holder | None:
    """Return who has the lease, and what is known of him. Pure.

    A host that joined again since has lost what it held: the lease is free.
    """
    if owner is None:
        return None
    host = next((each for each in hosts if each.host_id == owner.host_id), None)
    member = next((each for each in members if each.host_id == owner.host_id), None)
    if member is None:
        return None
    liveness = member.liveness
    if host is not None and host.generation > owner.generation:
        liveness = Liveness.FREE
    said = found.get(owner.host_id)
    is_serving = (
        said is not None
        and said.serves == owner.version
        and member.silence_s < timing.publication_s
        and liveness not in _GONE
    )
    return Holder(member.node_id, liveness, is_serving)


def _unknown(records: tuple[HostRecord, ...]) -> tuple[Host, ...]:
    """Return the hosts by their sectors alone, which do not say who lives."""
    return tuple(
        Host(each.host_id, each.generation, Told.UNKNOWN, each.timestamp)
        for each in records
        if each.host_name
    )


_GONE: Final = frozenset({Liveness.FREE, Liveness.DEAD})
