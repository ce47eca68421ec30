"""Tell what this node knows of its pools, storage domains and disks.

Documents go into the store when they say something new: at most five times a second,
in a thread of its own, since asking who works on which disk waits for other locks.
Latency and free space are told anew every 30 s only: a fleet has thousands of such
documents. Disks are told by the manager alone; they stay while nobody else is known
to manage the pool, so that a restart of the agent changes nothing.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, TypeVar

from node import wire
from node.clock import parse_rfc3339, rfc3339
from node.contract import templates
from node.errors import Error
from node.model.feed import Kind
from node.model.ids import DiskId, PoolId, TemplateId, VmId
from node.model.reason import Reason
from node.model.storage import (
    DiskDocument,
    DiskState,
    DomainState,
    PoolDocument,
    PoolMark,
    StorageDomainDocument,
)
from node.model.templates import Template
from node.storage import documents
from node.storage.documents import DiskFacts, PoolSight
from node.storage.pools.seat import Seat
from node.storage.pools.watch import Watch
from node.storage.pools.world import World
from node.storage.spm import pool_rules
from node.store import Change, Store

log = logging.getLogger(__name__)

D = TypeVar("D")

GAP_S: Final = 0.2
ROUND_S: Final = 10.0
# How old what is told of latency and free space may become.
FIGURES_S: Final = 30.0
# What was said of a storage domain before this node began to watch it.
_NOT_WATCHED: Final = frozenset({DomainState.MAINTENANCE, DomainState.UNATTACHED})


@dataclass(frozen=True, slots=True)
class Told:
    """All documents of a node's storage, by their ids."""

    pools: Mapping[str, PoolDocument]
    storage_domains: Mapping[str, StorageDomainDocument]
    disks: Mapping[str, DiskDocument]
    templates: Mapping[str, Template]


class Reports:
    """The documents, and the thread that writes them down. Any thread may call."""

    def __init__(
        self,
        store: Store,
        world: World,
        seats: Callable[[], Iterable[Seat]],
        loose: Callable[[], Mapping[str, Watch]],
    ) -> None:
        """`loose` are the storage domains of no pool."""
        self._store = store
        self._world = world
        self._seats = seats
        self._loose = loose
        self._lock = threading.Lock()
        self._stored = Told(
            _read(store, Kind.POOL, PoolDocument),
            _read(store, Kind.STORAGE_DOMAIN, StorageDomainDocument),
            _read(store, Kind.DISK, DiskDocument),
            _read(store, Kind.TEMPLATE, Template),
        )
        self._fresh = self._stored
        self._wake = threading.Event()
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="storage-reports", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self, deadline_s: float) -> None:
        self._is_stopped.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(deadline_s)

    def poke(self) -> None:
        """Look soon: something may be new."""
        self._wake.set()

    def now(self) -> Told:
        """Return all documents as they are at this moment, and write what is new."""
        with self._lock:
            self._fresh = self._make()
            wanted = Told(
                {key: for_fleet(each) for key, each in self._fresh.pools.items()},
                _calm(self._stored.storage_domains, self._fresh.storage_domains),
                self._fresh.disks,
                self._fresh.templates,
            )
            self._write(wanted)
            return self._fresh

    def _run(self) -> None:
        while not self._is_stopped.wait(GAP_S):
            self._wake.wait(ROUND_S)
            self._wake.clear()
            if self._is_stopped.is_set():
                return
            try:
                self.now()
            except Error as error:
                log.warning("storage is not told of: %s", error)
            except Exception:
                log.exception("storage is not told of")

    def _make(self) -> Told:
        at = rfc3339(self._world.clock.now())
        pools: dict[str, PoolDocument] = {}
        domains: dict[str, StorageDomainDocument] = {}
        disks: dict[str, DiskDocument] = {}
        models: dict[str, Template] = {}
        for seat in self._seats():
            pool_id, before = seat.wanted.pool_id, self._fresh
            if not seat.is_settled and pool_id in before.pools:
                _keep(seat, before, pools, domains, disks, models)
                continue
            pools[pool_id] = documents.pool(before.pools.get(pool_id), _sight(seat), at)
            domains.update(_domains(seat, before.storage_domains))
            disks.update(_disks(seat, before.disks, at))
            models.update(_templates(seat, before.templates))
        for key, watch in self._loose().items():
            told = self._fresh.storage_domains.get(key)
            if told is not None and told.storage_domain.pool_id is not None:
                told = None  # what was said while a pool had it
            domains[key] = watch.document or told or watch.unseen()
        return Told(pools, domains, disks, models)

    def _write(self, wanted: Told) -> None:
        before = self._stored
        if wanted == before:
            return
        with self._store.change() as change:
            _put(change, Kind.POOL, before.pools, wanted.pools)
            _put(
                change,
                Kind.STORAGE_DOMAIN,
                before.storage_domains,
                wanted.storage_domains,
            )
            _put(change, Kind.DISK, before.disks, wanted.disks)
            _put(change, Kind.TEMPLATE, before.templates, wanted.templates)
            self._tell_events(change, before, wanted)
        self._stored = wanted

    def _tell_events(self, change: Change, before: Told, after: Told) -> None:
        name = self._world.node_name
        for key, now in after.storage_domains.items():
            was = before.storage_domains.get(key)
            lost = DomainState.UNREACHABLE
            was_lost = was is not None and was.state is lost
            if was_lost is (now.state is lost):
                continue
            what = now.storage_domain.name
            if now.state is lost:
                detail = str(now.reason.fields.get("detail", "")) if now.reason else ""
                code = "storage_domain_unreachable"
                change.event(code, node=name, name=what, detail=detail)
            else:
                change.event("storage_domain_reached", node=name, name=what)
        for key, pool in after.pools.items():
            _tell_spm(change, before.pools.get(key), pool, name)


def _sight(seat: Seat) -> PoolSight:
    sight = seat.sight
    return PoolSight(
        PoolId(seat.pool.pool_id),
        seat.wanted.name,
        seat.node_id,
        seat.wanted.is_local,
        seat.wanted.known,
        is_read=_is_read(seat),
        spm=seat.pool.spm.view(),
        holder=seat.holder(),
        members=sight.members,
        reason=seat.reason(),
        mark=_mark(seat),
    )


def _is_read(seat: Seat) -> bool:
    """Tell whether nothing says that the pool's map cannot be read."""
    known = seat.wanted.known
    if known is None:
        return False
    watch = seat.watches().get(known.master_id)
    seen = watch.document if watch is not None else None
    return seen is None or seen.state is not DomainState.UNREACHABLE


def _mark(seat: Seat) -> PoolMark | None:
    """Return by what right this node speaks for the pool; None: it does not."""
    known = seat.wanted.known
    try:
        term = seat.pool.spm.term()
    except Error:
        return None
    return term.mark(known.generation) if known is not None else None


def _domains(
    seat: Seat, before: Mapping[str, StorageDomainDocument]
) -> Mapping[str, StorageDomainDocument]:
    found, mark = {}, _mark(seat)
    for key, watch in seat.watches().items():
        told = before.get(key)
        if told is not None and told.state in _NOT_WATCHED:
            told = None
        checked = watch.document or told or watch.unseen()
        if told is not None:
            checked = replace(checked, committed_bytes=told.committed_bytes)
        content = seat.catalog.sight(key) if mark is not None else None
        found[key] = documents.storage_domain(
            checked, seat.wanted.known, content, seat.host_id(key), mark
        )
    for key, resting in seat.resting().items():
        told = before.get(key)
        if told is not None and told.state is resting.state:
            resting = replace(resting, since=told.since)
        found[key] = documents.storage_domain(resting, seat.wanted.known, mark=mark)
    return found


def _disks(
    seat: Seat, before: Mapping[str, DiskDocument], at: str
) -> Mapping[str, DiskDocument]:
    pool_id, mark = seat.wanted.pool_id, _mark(seat)
    ours = {key: each for key, each in before.items() if each.pool_id == pool_id}
    known = seat.wanted.known
    if known is None or mark is None:
        is_others = seat.holder() is not None
        return {} if is_others else ours
    data = pool_rules.active_data(known)
    content = {each: seat.catalog.sight(each) for each in data}
    ill = seat.ill()
    if any(sight is None and key not in ill for key, sight in content.items()):
        return ours  # not all was read yet
    named = (seat.work.lock_owners(), _vms(seat), _of_templates(seat))
    facts = DiskFacts(*named, ill, mark, PoolId(pool_id))
    by_id = {DiskId(key): each for key, each in ours.items()}
    read = [each for each in content.values() if each is not None]
    unread = frozenset(key for key, each in content.items() if each is None)
    told = dict(away(ours, unread, mark, at))
    for key, disk in documents.disks(by_id, read, facts, at).items():
        told[key] = disk
    return told


def away(
    told: Mapping[str, DiskDocument],
    unread: frozenset[str],
    mark: PoolMark,
    at: str,
) -> Mapping[str, DiskDocument]:
    """Return what is said of disks on storage domains that nobody could read. Pure."""
    found = {}
    for key, disk in told.items():
        if not set(disk.storage_domain_ids) <= unread:
            continue
        if disk.state is not DiskState.UNREACHABLE:
            where, detail = disk.storage_domain_ids[0], "it does not answer"
            fields = {"name": where, "detail": detail}
            reason = Reason("storage_domain_unreachable", at, fields)
            disk = replace(disk, state=DiskState.UNREACHABLE, since=at, reason=reason)
        found[key] = replace(disk, mark=mark, lock_owner=None)
    return found


def _vms(seat: Seat) -> Mapping[str, tuple[VmId, ...]]:
    found: dict[str, tuple[VmId, ...]] = {}
    for each in seat.stored.vms:
        if each.vm.template is not None:
            continue
        for disk in each.vm.spec.disks:
            vm_ids = found.get(disk.disk_id, ())
            found[disk.disk_id] = (*vm_ids, each.vm.spec.vm_id)
    return found


def _of_templates(seat: Seat) -> Mapping[str, TemplateId]:
    return {
        disk.disk_id: TemplateId(each.vm.spec.vm_id)
        for each in seat.stored.vms
        if each.vm.template is not None
        for disk in each.vm.spec.disks
    }


def _templates(seat: Seat, before: Mapping[str, Template]) -> Mapping[str, Template]:
    """Return the templates, as their manager; what it cannot read now stays told."""
    pool_id, mark = seat.wanted.pool_id, _mark(seat)
    ours = {key: each for key, each in before.items() if each.pool_id == pool_id}
    if mark is None:
        return {} if seat.holder() is not None else ours
    if not seat.has_read_vms:
        return ours
    found: dict[str, Template] = {
        vm.spec.vm_id: templates.of(vm)
        for vm in templates.named(each.vm for each in seat.stored.vms)
        if vm.template is not None
    }
    away = {each.storage_domain_id for each in seat.stored.problems}
    kept = {key: each for key, each in ours.items() if each.home in away}
    return {key: replace(e, mark=mark) for key, e in {**kept, **found}.items()}


def _keep(
    seat: Seat,
    before: Told,
    pools: dict[str, PoolDocument],
    domains: dict[str, StorageDomainDocument],
    disks: dict[str, DiskDocument],
    models: dict[str, Template],
) -> None:
    """Say of a pool that was not looked at yet what was said before."""
    pool_id = seat.wanted.pool_id
    if pool_id in before.pools:
        pools[pool_id] = before.pools[pool_id]
    for key, each in before.storage_domains.items():
        if seat.has(key):
            domains[key] = each
    for key, disk in before.disks.items():
        if disk.pool_id == pool_id:
            disks[key] = disk
    for key, model in before.templates.items():
        if model.pool_id == pool_id:
            models[key] = model


def _calm(
    stored: Mapping[str, StorageDomainDocument],
    fresh: Mapping[str, StorageDomainDocument],
) -> Mapping[str, StorageDomainDocument]:
    """Return what to store: figures alone are no news until they are old. Pure."""
    return {
        key: before
        if (before := stored.get(key)) is not None and not is_news(before, now)
        else now
        for key, now in fresh.items()
    }


def for_fleet(pool: PoolDocument) -> PoolDocument:
    """Return what is pushed of a pool, which changes only when something does. Pure.

    A pool has 250 nodes: all members are told by the manager alone, any other node
    tells of itself and of the holder. How long each is silent is read here only.
    """
    whom = {pool.node_id, pool.spm.holder}
    return replace(
        pool,
        members=tuple(
            replace(each, silence_s=0.0)
            for each in pool.members
            if pool.mark is not None or each.node_id in whom
        ),
    )


def is_news(before: StorageDomainDocument, now: StorageDomainDocument) -> bool:
    """Tell whether a document says more than other figures. Pure."""
    same = replace(
        now,
        latency_s=before.latency_s,
        checked_at=before.checked_at,
        free_bytes=before.free_bytes,
        committed_bytes=before.committed_bytes,
    )
    if same != before or (before.latency_s is None) is not (now.latency_s is None):
        return True
    if before.checked_at is None or now.checked_at is None:
        return before.checked_at != now.checked_at
    age = parse_rfc3339(now.checked_at) - parse_rfc3339(before.checked_at)
    return age >= timedelta(seconds=FIGURES_S)


def _tell_spm(
    change: Change, was: PoolDocument | None, now: PoolDocument, node: str
) -> None:
    """Say when this node begins or ends to manage a pool."""
    had = was is not None and was.mark is not None
    if had is (now.mark is not None):
        return
    reason = now.spm.reason
    if now.mark is not None:
        change.event("spm_started", node=node, pool=now.name)
    elif reason is not None and reason.code == "spm_lost":
        detail = str(reason.fields.get("detail", ""))
        change.event("spm_lost", node=node, pool=now.name, detail=detail)
    else:
        change.event("spm_stopped", node=node, pool=now.name)


def _put(
    change: Change, kind: Kind, before: Mapping[str, D], after: Mapping[str, D]
) -> None:
    changed, gone = documents.difference(before, after)
    for key, each in changed.items():
        change.put(kind, key, each)
    for key in sorted(gone):
        change.delete(kind, key)


def _read(store: Store, kind: Kind, cls: type[D]) -> Mapping[str, D]:
    return {
        each.id: wire.from_json(cls, dict(each.body), strict=False)
        for each in store.list(kind)
    }
