"""Keep one storage domain within reach, and know how it is.

Two threads, so that a mount or a lockspace that takes minutes delays no check: one
mounts it, again if need be, and tends it each 10 s; the other checks it (`monitor`).
What hangs, hangs here alone. Until it was reached for the first time its document
says why it is not.
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
from node.model.storage import (
    DomainState,
    PoolDomain,
    StorageDomain,
    StorageDomainDocument,
)
from node.storage.domains import monitor
from node.storage.domains.access import Access
from node.storage.domains.monitor import Monitor, Sample
from node.storage.guard import Guard
from node.storage.pools.reach import Reach

log = logging.getLogger(__name__)

TEND_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Keeper:
    """Whose storage domain it is: a pool, or nobody."""

    pool_id: str
    # Its entry in the pool's map; None: it is in no pool.
    entry: Callable[[], PoolDomain | None]
    # Called each round with what is reached; what it raises is logged, and told.
    tend: Callable[[Access], None]


def _nothing(_access: Access) -> None:
    """Tend a storage domain of no pool."""


NOBODY: Final = Keeper("", lambda: None, _nothing)


class Watch:
    """One storage domain as this node keeps it. Any thread may call."""

    def __init__(
        self,
        known: StorageDomain,
        keeper: Keeper,
        reach: Reach,
        guard: Guard,
        clock: Clock,
        node: tuple[NodeId, str],
        on_news: Callable[[], None],
    ) -> None:
        """`node` is our id and name; `on_news` hears of each new document."""
        self.known = known
        self.access: Access | None = None  # None: it was not reached yet
        self.document: StorageDomainDocument | None = None  # None: nothing is known
        self._was_tended = False
        self._keeper = keeper
        self._reach = reach
        self._guard = guard
        self._clock = clock
        self._node_id, self._node_name = node
        self._on_news = on_news
        self._monitor: Monitor | None = None
        self._is_stopped = False
        self._wake = threading.Event()
        self.trouble: Error | None = None  # of the last round
        self._said = ""
        self._thread = threading.Thread(
            target=self._run,
            name=f"tend-{known.storage_domain_id[:8]}",
            daemon=True,
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self, deadline_s: float) -> None:
        """Stop looking; what hangs is left behind."""
        self._is_stopped = True
        self._wake.set()
        if self._monitor is not None:
            self._monitor.stop(0.0)
        if self._thread.is_alive():
            self._thread.join(deadline_s)

    def poke(self) -> None:
        """Tend it now: what is wanted of it may be another."""
        self._wake.set()

    def check(self) -> None:
        """Check it now, if it was reached at all."""
        if self._monitor is not None:
            self._monitor.check()

    @property
    def is_settled(self) -> bool:
        """Tell whether the keeper has it if it is reached; a check tells sooner."""
        return self.document is not None and self._was_tended

    @property
    def is_ill(self) -> bool:
        document = self.document
        return document is None or document.state is DomainState.UNREACHABLE

    def judge(self, sample: Sample) -> StorageDomainDocument:
        """Return how it is, after a check."""
        assert self.access is not None, "only what is reached is checked"
        known = self.known
        if sample.meta is not None:
            known = replace(
                known,
                name=sample.meta.description or known.name,
                version=sample.meta.version,
                sector_bytes=sample.meta.sector_size,
                alignment_bytes=sample.meta.alignment,
            )
        before = self.document or self._document(DomainState.ACTIVATING, sample.at)
        return monitor.assess(
            replace(before, storage_domain=known),
            self._keeper.entry(),
            self.access.source,
            self._keeper.pool_id,
            sample,
            self._node_name,
        )

    def tell(self, document: StorageDomainDocument) -> None:
        """Keep a document, and say that there is one."""
        if document != self.document:
            self.document = document
            self._on_news()

    def unseen(self) -> StorageDomainDocument:
        """Return what can be said before anything was read."""
        at = rfc3339(self._clock.now())
        is_in_pool = self._keeper.entry() is not None
        state = DomainState.ACTIVATING if is_in_pool else DomainState.UNATTACHED
        return self._document(state, at)

    def _run(self) -> None:
        is_poked = False
        while not self._is_stopped:
            self._wake.clear()
            said = self._tend(is_poked)
            self._was_tended = True
            if said != self._said:
                log.info("%s: %s", self.known.storage_domain_id, said or "well")
                self._said = said
            is_poked = self._wake.wait(TEND_S)

    def _tend(self, is_poked: bool) -> str:
        """Do all of a round; return what went wrong."""
        self.trouble = None
        try:
            if self.access is None:
                access = self._reach.open(self.known)
            else:
                access = self.access
                self._reach.keep(self.known.connection)
        except Error as error:
            if self._monitor is None:
                self._tell_unreached(error)
            self.trouble = error
            return f"{error.code}: {error}"
        if self._is_stopped:
            return ""
        self.access = access
        if self._monitor is None:
            self._monitor = self._begin_checks(access)
        try:
            self._keeper.tend(access)
        except Error as error:
            self.trouble = error
            return f"{error.code}: {error}"
        if not self._is_as_wanted() or (is_poked and self.is_ill):
            self._monitor.check()
        return ""

    def _is_as_wanted(self) -> bool:
        """Tell whether the document knows which pool has it."""
        document, is_in_pool = self.document, self._keeper.entry() is not None
        is_told = document is None or document.state is not DomainState.UNATTACHED
        return is_told is is_in_pool

    def _begin_checks(self, access: Access) -> Monitor:
        made = Monitor(self._guard, access, self._clock, self.judge, self.tell)
        made.start()
        if self._is_stopped:
            made.stop(0.0)
        return made

    def _tell_unreached(self, error: Error) -> None:
        """Say why it cannot be checked at all."""
        at, before = rfc3339(self._clock.now()), self.document
        entry = self._keeper.entry()
        fields = {"node": self._node_name, "name": self.known.name}
        reason = Reason(
            "storage_domain_unreachable", at, {**fields, "detail": str(error)}
        )
        if before is not None and before.reason is not None:
            reason = replace(reason, since=before.reason.since)
        state = DomainState.UNATTACHED
        if entry is not None:
            is_wanted = entry.state is DomainState.ACTIVE
            state = DomainState.UNREACHABLE if is_wanted else entry.state
        made = self._document(state, at)
        if before is not None and before.state is state:
            made = replace(made, since=before.since)
        self.tell(replace(made, reason=reason))

    def _document(self, state: DomainState, at: str) -> StorageDomainDocument:
        return StorageDomainDocument(self.known, self._node_id, state, at)


def are_settled(watches: Mapping[str, Watch]) -> bool:
    """Tell whether all storage domains are told as they are."""
    return all(each.is_settled for each in watches.values())


def poke_all(watches: Mapping[str, Watch]) -> None:
    """Tend all storage domains now."""
    for each in watches.values():
        each.poke()
