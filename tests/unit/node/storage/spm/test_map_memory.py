"""What a node knows of a pool's map: tables."""

from dataclasses import replace

import pytest

from node.storage.formats.domain_meta import DomainClass, DomainMeta, DomainType
from node.storage.formats.pool_map import PoolMap, PoolMapsDiffer
from node.storage.spm import pool_rules
from node.storage.spm.map_memory import MapMemory, PoolLost
from tests.unit.node.storage.examples import OTHER_SD, POOL, SD

META = DomainMeta(SD, DomainType.NFS, DomainClass.DATA, "one", "nas:/a")
FIRST = pool_rules.new_map(POOL, META, None, "main")
NEWER = replace(FIRST, generation=2)
NEWEST = replace(FIRST, generation=3)
OTHER = replace(NEWER, name="other")


def memory(known: PoolMap | None, remembered: list[PoolMap] | None = None) -> MapMemory:
    told = remembered if remembered is not None else []
    return MapMemory(POOL, told.append, known)


def test_require_refuses_to_guess() -> None:
    with pytest.raises(PoolLost):
        memory(None).require()
    assert memory(FIRST).require() == FIRST


def test_believe_remembers_what_is_news_and_never_goes_back() -> None:
    told: list[PoolMap] = []
    made = memory(FIRST, told)
    for each in (FIRST, NEWER, NEWER):
        made.believe(each)
    assert told == [NEWER]
    with pytest.raises(PoolLost):
        made.believe(FIRST)
    assert made.known == NEWER


@pytest.mark.parametrize(
    ("known", "found", "expected"),
    [
        pytest.param(None, {SD: FIRST}, FIRST, id="read"),
        pytest.param(FIRST, {SD: FIRST, OTHER_SD: NEWER}, NEWER, id="newest-read"),
        pytest.param(NEWEST, {SD: FIRST}, NEWEST, id="remembered"),
        pytest.param(NEWEST, {SD: None}, NEWEST, id="no-map-there"),
        pytest.param(NEWEST, {}, NEWEST, id="nothing-answers"),
        pytest.param(FIRST, {SD: NEWER, OTHER_SD: OTHER}, NEWER, id="trusted"),
    ],
)
def test_best(
    known: PoolMap | None, found: dict[str, PoolMap | None], expected: PoolMap
) -> None:
    assert memory(known).best(found, SD) == expected


def test_best_chooses_no_side_without_the_trusted_one() -> None:
    with pytest.raises(PoolMapsDiffer):
        memory(None).best({OTHER_SD: OTHER, "x": NEWER}, SD)
    with pytest.raises(PoolLost):
        memory(None).best({}, SD)
