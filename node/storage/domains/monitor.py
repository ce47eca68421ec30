"""Check every storage domain each 10 s, each in a thread of its own.

A check reads through the storage process's worker, with a deadline: a storage that
hangs is unreachable after it, and disturbs nobody else. One check that succeeds makes
it active again. Figures stay when a check fails; `checked_at` says how old they are.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from node.clock import Clock, rfc3339
from node.errors import Error, Unavailable
from node.model.reason import Reason, Scalar
from node.model.storage import DomainState, PoolDomain, StorageDomainDocument
from node.storage.domains import Space
from node.storage.domains.access import Access
from node.storage.formats import domain_meta
from node.storage.formats.domain_meta import DomainMeta
from node.storage.formats.layout import Special
from node.storage.guard import Guard
from node.storage.spm import pool_rules
from node.units import GiB, MiB

log = logging.getLogger(__name__)

CHECK_S: Final = 10.0  # oVirt's sd_health_check_delay
# A healthy storage answers in milliseconds; this long means that guests hang, too.
DEADLINE_S: Final = 10.0
SLOW_S: Final = 5.0  # oVirt warns of as much
LOW_BYTES: Final = 5 * GiB  # what oVirt calls critical


@dataclass(frozen=True, slots=True)
class Sample:
    """What one check found."""

    at: str  # RFC 3339
    latency_s: float | None = None
    space: Space | None = None
    meta: DomainMeta | None = None
    error: Error | None = None


def take(guard: Guard, access: Access, at: str) -> Sample:
    """Read what a storage domain says now; its errors are part of the answer."""
    files = access.files(guard, deadline_s=DEADLINE_S)
    path = str(access.layout.special(Special.METADATA))
    try:
        latency_s = files.probe(path)
        space = files.space(str(access.layout.root))
        meta = domain_meta.parse(files.read(path, domain_meta.SIZE_MAX))
    except Error as error:
        return Sample(at, error=error)
    return Sample(at, latency_s, space, meta)


def assess(
    before: StorageDomainDocument,
    wanted: PoolDomain | None,
    source: str,
    pool_id: str,
    sample: Sample,
    node_name: str,
) -> StorageDomainDocument:
    """Return how a storage domain is, after a check. Pure.

    `wanted` is its entry in the pool's map; None: it is not attached.
    """
    name = before.storage_domain.name
    problems: tuple[Reason, ...] = ()
    if sample.meta is not None and wanted is not None:
        problems = _problems(sample, before, source, pool_id)
    reason = problems[0] if problems and problems[0].code in _FATAL else None
    if sample.error is not None:
        code = (
            "storage_domain_unreachable"
            if isinstance(sample.error, Unavailable)
            else "storage_domain_damaged"
        )
        fields = {"node": node_name, "name": name, "detail": str(sample.error)}
        reason = Reason(code, sample.at, fields)
    is_wanted = wanted is not None and wanted.state is DomainState.ACTIVE
    if wanted is None:
        state = DomainState.UNATTACHED
    elif reason is not None and is_wanted:
        state = DomainState.UNREACHABLE
    else:
        state = wanted.state
    since = before.since if state is before.state else sample.at
    if reason and before.reason and reason.code == before.reason.code:
        reason = replace(reason, since=before.reason.since)
    checked = replace(
        before,
        state=state,
        since=since,
        reason=reason,
        latency_s=sample.latency_s,
        problems=problems,
    )
    if sample.space is None:
        return checked
    return replace(
        checked,
        checked_at=sample.at,
        total_bytes=sample.space.total_bytes,
        free_bytes=sample.space.free_bytes,
    )


class Monitor:
    """Checks one storage domain until it is stopped."""

    def __init__(
        self,
        guard: Guard,
        access: Access,
        clock: Clock,
        judge: Callable[[Sample], StorageDomainDocument],
        tell: Callable[[StorageDomainDocument], None],
    ) -> None:
        """`judge` knows what is wanted; `tell` hears each document that is new."""
        self._guard = guard
        self._access = access
        self._clock = clock
        self._judge = judge
        self._tell = tell
        self._turn = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"check-{access.storage_domain_id[:8]}", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self, deadline_s: float) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(deadline_s)

    def check(self) -> StorageDomainDocument:
        """Do one check now, and tell what it found."""
        with self._turn:  # what was seen first is told first
            sample = take(self._guard, self._access, rfc3339(self._clock.now()))
            document = self._judge(sample)
            self._tell(document)
            return document

    def _run(self) -> None:
        state = None
        while True:
            began = time.monotonic()
            try:
                document = self.check()
            except Exception:  # what is told must not end the checks
                log.exception("%s was not checked", self._access.storage_domain_id)
            else:
                if document.state is not state:
                    why = document.reason.code if document.reason else "well"
                    name = self._access.storage_domain_id
                    log.info("%s is %s: %s", name, document.state, why)
                state = document.state
            # From beginning to beginning, so that a slow check delays none.
            if self._stopped.wait(max(began + CHECK_S - time.monotonic(), 0.0)):
                return


def _problems(
    sample: Sample, before: StorageDomainDocument, source: str, pool_id: str
) -> tuple[Reason, ...]:
    """Return what is wrong with a storage domain that answers, the worst first."""
    assert sample.meta is not None
    assert sample.space is not None
    known = before.storage_domain
    found: list[Reason] = []
    try:
        pool_rules.check_place(sample.meta, known.storage_domain_id, source)
    except Error as error:
        fields = {"name": known.name, "detail": str(error)}
        found.append(Reason("storage_domain_damaged", sample.at, fields))
    if pool_id not in sample.meta.pool_ids:
        pool = ", ".join(sample.meta.pool_ids) or "-"
        fields = {"name": known.name, "pool": pool}
        found.append(Reason("storage_domain_foreign", sample.at, fields))
    if sample.latency_s is not None and sample.latency_s >= SLOW_S:
        slow: dict[str, Scalar] = {
            "name": known.name,
            "latency_s": round(sample.latency_s, 1),
        }
        slow["node"] = before.node_id
        found.append(Reason("storage_domain_slow", sample.at, slow))
    if sample.space.free_bytes < LOW_BYTES:
        free_mib = sample.space.free_bytes // MiB
        low: dict[str, Scalar] = {"name": known.name, "free_mib": free_mib}
        found.append(Reason("storage_domain_low", sample.at, low))
    return tuple(found)


_FATAL: Final = frozenset({"storage_domain_damaged", "storage_domain_foreign"})
