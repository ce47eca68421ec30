"""What metadata say when a pool takes a storage domain and lets it go: tables."""

from dataclasses import replace

import pytest

from node.model.storage import Connection
from node.model.storage import DomainType as Kind
from node.storage.formats.domain_meta import (
    DomainClass,
    DomainMeta,
    DomainRole,
    DomainType,
)
from node.storage.formats.pool_map import PoolDomainState
from node.storage.spm import pool_rules
from tests.unit.node.storage.examples import POOL, SD

OTHER = "00000000-1111-4222-8333-444444444444"
DATA = DomainMeta(SD, DomainType.NFS, DomainClass.DATA, "one", "nas:/a")
ISO = replace(DATA, domain_class=DomainClass.ISO)


@pytest.mark.parametrize(
    ("meta", "before", "claimed", "disclaimed"),
    [
        pytest.param(DATA, (), (POOL,), (), id="free"),
        pytest.param(DATA, (POOL,), (POOL,), (), id="ours"),
        pytest.param(DATA, (OTHER,), (POOL,), (), id="forced"),
        pytest.param(ISO, (), (POOL,), (), id="free-iso"),
        pytest.param(ISO, (OTHER,), (OTHER, POOL), (OTHER,), id="shared-iso"),
        pytest.param(ISO, (POOL, OTHER), (OTHER, POOL), (OTHER,), id="iso-again"),
    ],
)
def test_claimed_and_disclaimed_name_the_pools(
    meta: DomainMeta,
    before: tuple[str, ...],
    claimed: tuple[str, ...],
    disclaimed: tuple[str, ...],
) -> None:
    old = replace(meta, pool_ids=before, role=DomainRole.MASTER)
    taken = pool_rules.claimed(old, POOL, "nas:/b")
    assert (taken.pool_ids, taken.remote_path) == (claimed, "nas:/b")
    assert taken.role is DomainRole.REGULAR
    free = pool_rules.disclaimed(taken, POOL)
    assert (free.pool_ids, free.role) == (disclaimed, DomainRole.REGULAR)


@pytest.mark.parametrize(("version", "expected"), [(0, False), (5, True)])
def test_has_leases_tells_ovirts_old_formats(version: int, expected: bool) -> None:
    assert pool_rules.has_leases(replace(ISO, version=version)) is expected


def test_new_map_has_its_master_and_the_way_to_it() -> None:
    way = Connection(Kind.NFS, "/a", "nas")
    found = pool_rules.new_map(POOL, DATA, way, "main")
    (master,) = found.domains
    assert (found.version, found.master_id, found.name) == ((1, 1), SD, "main")
    assert (master.state, master.connection) == (PoolDomainState.ACTIVE, way)
    entry = pool_rules.new_entry(DATA, way)
    assert entry.state is PoolDomainState.MAINTENANCE
