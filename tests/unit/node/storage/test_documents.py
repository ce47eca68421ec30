"""What the feed is told of pools, storage domains and disks."""

from dataclasses import replace

import pytest

from node.model.ids import DiskId, JobId, NodeId, PoolId, StorageDomainId, VmId
from node.model.reason import Reason
from node.model.storage import (
    Allocation,
    Connection,
    DiskDocument,
    DiskState,
    DomainClass,
    DomainRole,
    DomainState,
    DomainType,
    PoolMark,
    PoolState,
    SpmState,
    SpmView,
    StorageDomain,
    StorageDomainDocument,
)
from node.storage import documents
from node.storage.disks.chain_problems import Kind, Problem
from node.storage.disks.sights import DomainSight, ImageSight
from node.storage.documents import DiskFacts, PoolSight
from node.storage.formats import domain_meta
from node.storage.formats.pool_map import PoolDomain, PoolDomainState, PoolMap
from node.units import GiB
from tests.unit.node.storage.examples import IMAGE, OTHER_IMAGE, OTHER_SD, POOL, SD
from tests.unit.node.storage.images import name

BEFORE, NOW = "2026-11-22T08:00:00.000Z", "2026-11-22T09:00:00.000Z"
DISK = DiskId(IMAGE)
MARK = PoolMark(7, 3)
SIGHT = ImageSight(
    SD, IMAGE, 1.0, name="root", size_bytes=GiB, allocated_bytes=5, volumes=(name(0),)
)
ILL = replace(SIGHT, problems=(Problem(Kind.LEASE_MISSING, name(0)),))
FACTS = DiskFacts(mark=MARK)
MAP = PoolMap(
    *(1, POOL, 2, 9, SD),
    (
        PoolDomain(
            *(SD, domain_meta.DomainClass.DATA, PoolDomainState.ACTIVE),
            "fast",
            Connection(DomainType.NFS, "/fast", "nas.lab"),
        ),
        PoolDomain(OTHER_SD, domain_meta.DomainClass.ISO, PoolDomainState.MAINTENANCE),
    ),
)
FREE = SpmView(SpmState.FREE)
POOL_SIGHT = PoolSight(
    PoolId(POOL), "one", NodeId("n"), is_local=False, known=MAP, is_read=True, spm=FREE
)


def disk(
    *found: ImageSight, facts: DiskFacts = FACTS, before: DiskDocument | None = None
) -> DiskDocument:
    return documents.disk(before, found, facts, NOW)


def test_disk_tells_what_lies_there() -> None:
    document = disk(SIGHT)
    assert (document.disk_id, document.name, document.size_bytes) == (DISK, "root", GiB)
    assert (document.state, document.reason) == (DiskState.OK, None)
    assert document.chain.volumes == (name(0),)
    assert (document.storage_domain_ids, document.mark) == ((SD,), MARK)
    assert document.since == NOW


LOCKED = DiskFacts({IMAGE: JobId("j")}, mark=MARK)
AWAY = DiskFacts(away=frozenset({SD}), mark=MARK)


@pytest.mark.parametrize(
    ("sight", "facts", "state", "code"),
    [
        pytest.param(ILL, FACTS, DiskState.ILLEGAL, "disk_chain_illegal", id="ill"),
        pytest.param(
            replace(SIGHT, error="no"),
            FACTS,
            DiskState.ILLEGAL,
            "disk_chain_illegal",
            id="unreadable",
        ),
        pytest.param(SIGHT, LOCKED, DiskState.LOCKED, "disk_is_locked", id="locked"),
        pytest.param(ILL, LOCKED, DiskState.LOCKED, "disk_is_locked", id="at-work"),
        pytest.param(
            SIGHT, AWAY, DiskState.UNREACHABLE, "storage_domain_unreachable", id="away"
        ),
    ],
)
def test_disk_explains_a_state_that_nobody_wants(
    sight: ImageSight, facts: DiskFacts, state: DiskState, code: str
) -> None:
    document = disk(sight, facts=facts)
    assert document.state is state
    assert document.reason is not None
    assert document.reason.code == code
    assert document.lock_owner == facts.owners.get(IMAGE)
    assert len(document.chain.problems) == len(sight.problems) + bool(sight.error)


def test_disk_state_keeps_its_beginning() -> None:
    first = documents.disk(None, [ILL], FACTS, BEFORE)
    again = disk(replace(ILL, allocated_bytes=9), before=first)
    assert (again.since, again.reason) == (BEFORE, first.reason)
    assert again.chain == first.chain
    well = disk(SIGHT, before=again)
    assert (well.since, well.reason) == (NOW, None)


def test_disk_in_two_places_is_told_by_the_one_that_is_whole() -> None:
    other = replace(SIGHT, storage_domain_id=OTHER_SD)
    document = disk(ILL, other)
    assert document.storage_domain_ids == (SD, OTHER_SD)
    assert document.state is DiskState.OK
    assert disk(SIGHT, other, facts=AWAY).state is DiskState.OK


def test_disks_are_those_of_all_storage_domains() -> None:
    sights = (
        DomainSight(SD, {IMAGE: SIGHT}),
        DomainSight(
            OTHER_SD,
            {
                IMAGE: replace(SIGHT, storage_domain_id=OTHER_SD),
                OTHER_IMAGE: replace(SIGHT, image_id=OTHER_IMAGE),
            },
        ),
    )
    facts = replace(FACTS, vms={IMAGE: (VmId("v"),)})
    found = documents.disks({}, sights, facts, NOW)
    assert sorted(found) == sorted([IMAGE, OTHER_IMAGE])
    assert len(found[DISK].storage_domain_ids) == 2
    assert found[DISK].vm_ids == ("v",)


def test_difference_is_what_to_write() -> None:
    changed, gone = documents.difference({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 5})
    assert (changed, gone) == ({"b": 5}, frozenset({"c"}))


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        pytest.param({"known": None}, PoolState.UNREACHABLE, id="never-read"),
        pytest.param({"is_read": False}, PoolState.UNREACHABLE, id="out-of-reach"),
        pytest.param({}, PoolState.CONTENDING, id="nobody"),
        pytest.param({"holder": NodeId("m")}, PoolState.UP, id="another-node"),
        pytest.param({"spm": SpmView(SpmState.MANAGER)}, PoolState.UP, id="this-node"),
        pytest.param(
            {"reason": Reason("spm_master_lost", BEFORE)},
            PoolState.MASTER_LOST,
            id="master-lost",
        ),
    ],
)
def test_pool_has_a_state(fields: dict[str, object], state: PoolState) -> None:
    sight = replace(POOL_SIGHT, **fields)  # type: ignore[arg-type]  # of the table
    document = documents.pool(None, sight, NOW)
    assert (document.state, document.since) == (state, NOW)


def test_pool_tells_its_map_and_who_manages_it() -> None:
    sight = replace(POOL_SIGHT, holder=NodeId("m"), mark=MARK)
    document = documents.pool(None, sight, BEFORE)
    assert (document.master, document.master_version, document.generation) == (SD, 2, 9)
    assert [(each.domain_class, each.state) for each in document.domains] == [
        (DomainClass.DATA, DomainState.ACTIVE),
        (DomainClass.ISO, DomainState.MAINTENANCE),
    ]
    first = document.domains[0]
    assert (first.name, first.connection) == ("fast", MAP.domains[0].connection)
    assert (document.spm.holder, document.mark) == ("m", MARK)
    assert documents.pool(document, sight, NOW) == document


def test_storage_domain_knows_its_role_and_what_disks_may_grow_to() -> None:
    checked = StorageDomainDocument(
        StorageDomain(
            *(StorageDomainId(SD), "one", DomainClass.DATA),
            Connection(DomainType.POSIXFS, "/x"),
        ),
        NodeId("n"),
        DomainState.ACTIVE,
        BEFORE,
    )
    thick = replace(SIGHT, allocation=Allocation.PREALLOCATED)
    content = DomainSight(SD, {IMAGE: SIGHT, OTHER_IMAGE: thick})
    document = documents.storage_domain(checked, MAP, content, 4, MARK)
    assert document.storage_domain.role is DomainRole.MASTER
    assert document.storage_domain.pool_id == POOL
    assert (document.host_id, document.mark) == (4, MARK)
    assert document.committed_bytes == GiB - 5
    assert documents.storage_domain(document, MAP).committed_bytes == GiB - 5
