"""What a node remembers of its storage: written down, and read after a boot."""

from dataclasses import replace
from pathlib import Path

from node.model.ids import NodeId, PoolId, StorageDomainId
from node.model.storage import (
    Connection,
    DomainClass,
    DomainRole,
    DomainType,
    StorageDomain,
)
from node.storage.formats import domain_meta
from node.storage.formats.pool_map import PoolDomain, PoolDomainState, PoolMap
from node.storage.pools.wanted import Memory, Wanted, WantedPool
from node.store import Store
from tests.fakes.clock import FakeClock
from tests.unit.node.storage.examples import OTHER_SD, POOL, SD

WAY = Connection(DomainType.NFS, "/alpha", "nas")
OTHER_WAY = Connection(DomainType.NFS, "/beta", "nas")
ALPHA = StorageDomain(StorageDomainId(SD), "alpha", DomainClass.DATA, WAY)
ENTRY = PoolDomain(
    SD, domain_meta.DomainClass.DATA, PoolDomainState.ACTIVE, "alpha", WAY
)
OTHER = PoolDomain(
    *(OTHER_SD, domain_meta.DomainClass.BACKUP, PoolDomainState.MAINTENANCE),
    "beta",
    OTHER_WAY,
)
MAP = PoolMap(1, POOL, 1, 2, SD, (ENTRY, OTHER), "main")
TOLD = WantedPool(PoolId(POOL), "main", domains=(ALPHA,))


def open_memory(folder: Path) -> Memory:
    return Memory(Store(folder / "node.db", FakeClock(), NodeId("n"), "boot"))


def test_what_is_wanted_is_read_again(tmp_path: Path) -> None:
    memory = open_memory(tmp_path)
    assert memory.wanted == Wanted()
    known = replace(TOLD, known=MAP, priority=8)
    memory.change(lambda before: before.with_pool(known).with_loose(ALPHA))
    again = open_memory(tmp_path).wanted
    assert (again.pool(POOL), again.find_loose(SD)) == (known, ALPHA)


def test_way_into_a_pool_is_what_was_told_until_the_map_is_read() -> None:
    assert TOLD.reachable() == (ALPHA,)
    assert TOLD.is_active(SD)
    known = replace(TOLD, known=MAP)
    first, second = known.reachable()
    assert first == replace(ALPHA, role=DomainRole.MASTER, pool_id=PoolId(POOL))
    assert (second.domain_class, second.connection) == (DomainClass.EXPORT, OTHER_WAY)
    assert (known.is_active(SD), known.is_active(OTHER_SD)) == (True, False)


def test_map_without_ways_leaves_those_that_were_told() -> None:
    old = replace(MAP, domains=tuple(replace(e, connection=None) for e in MAP.domains))
    (only,) = replace(TOLD, known=old).reachable()
    assert (only.storage_domain_id, only.connection) == (SD, WAY)


def test_what_is_known_of_a_pool_that_was_left_is_not_kept() -> None:
    wanted = Wanted().with_pool(TOLD)
    known = replace(TOLD, known=MAP)
    assert wanted.with_known(known).pool(POOL) == known
    assert wanted.without_pool(POOL).with_known(known) == Wanted()


def test_loose_storage_domain_is_there_once() -> None:
    renamed = replace(ALPHA, name="omega")
    wanted = Wanted().with_loose(ALPHA).with_loose(renamed)
    assert wanted.loose == (renamed,)
    assert wanted.without_loose(SD).loose == ()
