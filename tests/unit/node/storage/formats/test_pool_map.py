"""The pool's map: what is written, what is believed, and which copy wins."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from node import wire
from node.errors import Error
from node.model.storage import Connection, DomainType
from node.storage.formats import pool_map
from node.storage.formats.domain_meta import DomainClass, DomainRole
from node.storage.formats.pool_map import (
    BadPoolMap,
    NewerPoolMap,
    OtherPool,
    PoolDomain,
    PoolDomainState,
    PoolMap,
    PoolMapDamaged,
    PoolMapsDiffer,
)
from tests.unit.node.storage.examples import (
    IDS,
    OTHER_SD,
    POOL,
    SD,
    TEXTS,
    attempt,
    read,
)

MASTER = PoolDomain(SD, DomainClass.DATA, PoolDomainState.ACTIVE)
ISO = PoolDomain(OTHER_SD, DomainClass.ISO, PoolDomainState.MAINTENANCE)
MAP = PoolMap(1, POOL, 3, 17, SD, (MASTER, ISO))
TOO_LONG = Connection(DomainType.NFS, "/" + "x" * 2048, "nas.lab")
THIRD_SD = "90d5c496-8690-4d24-a371-fbee41f8b6f9"

CONNECTIONS = some.builds(
    Connection, some.sampled_from(DomainType), path=TEXTS, options=TEXTS
)
VERSIONS = some.integers(1, 2**63 - 1)


@some.composite
def maps(draw: some.DrawFn) -> PoolMap:
    """Return any map that may be."""
    ids = sorted(draw(some.sets(IDS, min_size=1, max_size=8)))
    master = draw(some.sampled_from(ids))
    domains = tuple(
        PoolDomain(
            each,
            DomainClass.DATA
            if each == master
            else draw(some.sampled_from(DomainClass)),
            draw(some.sampled_from(PoolDomainState)),
            draw(TEXTS),
            draw(some.none() | CONNECTIONS),
        )
        for each in ids
    )
    numbers = draw(VERSIONS), draw(VERSIONS)
    return PoolMap(1, draw(IDS), *numbers, master, domains, draw(TEXTS))


def _sealed(body: bytes) -> bytes:
    return body + b"\nsha256=" + hashlib.sha256(body).hexdigest().encode() + b"\n"


def _changed(old: bytes, new: bytes) -> bytes:
    """Return the fixture with another text, and sealed again."""
    body = read("pool_map").splitlines()[0]
    assert old in body
    return _sealed(body.replace(old, new))


def test_parse_and_write_agree_with_a_file_by_hand() -> None:
    assert pool_map.parse(read("pool_map")) == MAP
    assert pool_map.write(MAP) == read("pool_map")


def test_parse_reads_the_way_to_a_storage_domain() -> None:
    way = b'"state":"active","name":"fast","connection":{"kind":"nfs","path":"/x"}'
    found = pool_map.parse(_changed(b'"state":"active"', way))
    assert found.domains[0].connection == Connection(DomainType.NFS, "/x")
    assert (found.domains[0].name, found.domains[1].connection) == ("fast", None)


@given(maps())
def test_parse_reads_what_write_wrote(any_map: PoolMap) -> None:
    assert pool_map.parse(pool_map.write(any_map)) == any_map


def test_write_fits_the_largest_pool_into_the_file() -> None:
    ids = [f"{n:08x}-0000-4000-8000-000000000000" for n in range(100)]
    way = Connection(DomainType.NFS, "/" + "x" * 1900, "nas.lab")
    assert len(wire.encode(way)) > pool_map.CONNECTION_MAX * 0.9
    entry = replace(MASTER, name="é" * 127, connection=way, description="é" * 512)
    domains = tuple(replace(entry, storage_domain_id=each) for each in ids)
    largest = PoolMap(1, POOL, 2**63 - 1, 2**63 - 1, ids[0], domains, "é" * 127)
    assert len(pool_map.write(largest)) < pool_map.SIZE_MAX


@given(some.binary(max_size=100), some.integers(0, 450), some.booleans())
def test_parse_survives_damage(junk: bytes, at: int, is_inserted: bool) -> None:
    good = read("pool_map")
    data = good[:at] + junk + good[at if is_inserted else at + len(junk) :]
    result = attempt(pool_map.parse, data)
    assert data == good or isinstance(result, PoolMapDamaged)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        pytest.param(b"", PoolMapDamaged, id="empty"),
        pytest.param(read("pool_map")[:-1], PoolMapDamaged, id="cut-short"),
        pytest.param(
            read("pool_map").replace(b":17", b":18"), PoolMapDamaged, id="digest"
        ),
        pytest.param(_sealed(b"{" + b" " * 70000 + b"}"), PoolMapDamaged, id="huge"),
        pytest.param(_sealed(b"[" * 5000), PoolMapDamaged, id="deep"),
        pytest.param(_sealed(b"\xff"), PoolMapDamaged, id="not-utf-8"),
        pytest.param(_sealed(b'{"schema":2,"x":1}'), NewerPoolMap, id="newer"),
        pytest.param(_changed(b'"schema":1', b'"schema":0'), PoolMapDamaged, id="old"),
        pytest.param(
            _changed(b'"schema":1', b'"schema":1,"x":1'), PoolMapDamaged, id="unknown"
        ),
        pytest.param(
            _changed(b'"schema":1,', b'"schema":1,"schema":1,'),
            PoolMapDamaged,
            id="twice",
        ),
        pytest.param(_changed(b":17", b":0"), PoolMapDamaged, id="generation-0"),
        pytest.param(_changed(b":17", b":1e400"), PoolMapDamaged, id="infinite"),
        pytest.param(
            _changed(f'"master_id":"{SD}'.encode(), b'"master_id":"x'),
            PoolMapDamaged,
            id="no-master",
        ),
    ],
)
def test_parse_refuses(data: bytes, error: type[Error]) -> None:
    with pytest.raises(error) as caught:
        pool_map.parse(data)
    assert caught.value.remedy


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(replace(MAP, pool_id="../x"), id="odd-pool-id"),
        pytest.param(replace(MAP, master_id=OTHER_SD), id="iso-as-master"),
        pytest.param(replace(MAP, domains=(ISO,)), id="master-not-in-it"),
        pytest.param(replace(MAP, domains=(ISO, MASTER)), id="not-sorted"),
        pytest.param(replace(MAP, domains=(MASTER, MASTER)), id="twice"),
        pytest.param(replace(MAP, generation=0), id="generation"),
        pytest.param(replace(MAP, master_version=-1), id="master-version"),
        pytest.param(replace(MAP, schema=2), id="schema"),
        pytest.param(replace(MAP, name="é" * 128), id="long-name"),
        pytest.param(
            replace(MAP, domains=(replace(MASTER, name="x" * 256), ISO)),
            id="long-domain-name",
        ),
        pytest.param(
            replace(MAP, domains=(replace(MASTER, connection=TOO_LONG), ISO)),
            id="long-connection",
        ),
        pytest.param(
            replace(MAP, domains=(MASTER, replace(ISO, storage_domain_id="x"))),
            id="odd-id",
        ),
    ],
)
def test_write_refuses(bad: PoolMap) -> None:
    with pytest.raises(BadPoolMap):
        pool_map.write(bad)


def test_role_is_master_for_one() -> None:
    assert MAP.role(SD) is DomainRole.MASTER
    assert MAP.role(OTHER_SD) is DomainRole.REGULAR


@pytest.mark.parametrize(
    ("master_version", "generation"),
    [
        pytest.param(3, 18, id="generation"),
        pytest.param(4, 17, id="master-version"),
        pytest.param(4, 1, id="master-version-before-generation"),
    ],
)
def test_newest_takes_the_highest(master_version: int, generation: int) -> None:
    newer = replace(MAP, master_version=master_version, generation=generation)
    assert pool_map.newest({SD: MAP, OTHER_SD: newer}) == newer
    assert pool_map.newest({SD: newer, OTHER_SD: MAP}) == newer


def test_newest_has_nothing_when_there_is_none() -> None:
    assert pool_map.newest({}) is None


@given(some.lists(some.tuples(some.integers(1, 3), some.integers(1, 3)), min_size=1))
def test_newest_does_not_mind_the_order(versions: list[tuple[int, int]]) -> None:
    copies = {
        f"{at:08}": replace(MAP, master_version=master, generation=generation)
        for at, (master, generation) in enumerate(versions)
    }
    newest = pool_map.newest(copies)
    assert newest == pool_map.newest(dict(reversed(copies.items())))
    assert newest is not None
    assert newest.version == max(versions)


def test_newest_names_both_when_two_differ() -> None:
    other = replace(MAP, domains=(MASTER,))
    older = replace(MAP, generation=16)
    with pytest.raises(PoolMapsDiffer) as caught:
        pool_map.newest({SD: MAP, THIRD_SD: other, OTHER_SD: older})
    assert caught.value.fields == {"first": SD, "second": THIRD_SD}


def test_newest_does_not_mind_a_difference_that_was_overtaken() -> None:
    newer = replace(MAP, generation=18)
    other = replace(MAP, domains=(MASTER,))
    assert pool_map.newest({SD: MAP, THIRD_SD: other, OTHER_SD: newer}) == newer


def test_newest_refuses_a_copy_of_another_pool() -> None:
    with pytest.raises(OtherPool) as caught:
        pool_map.newest({SD: MAP, OTHER_SD: replace(MAP, pool_id=THIRD_SD)})
    assert caught.value.fields["storage_domain_id"] == OTHER_SD
