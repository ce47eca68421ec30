"""What a storage domain says of itself, byte for byte as oVirt writes it.

The fixtures were written by hand; the checksums of `domain-512`, `domain-4k` and
`domain-4k-2m` are oVirt's own, that of `domain-iso` is sha1sum's.
"""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as some

from node.errors import Error
from node.storage.formats import domain_meta
from node.storage.formats.domain_meta import (
    DomainClass,
    DomainMeta,
    DomainRole,
    DomainType,
    LongDescription,
    OldFormat,
    WrongChecksum,
)
from node.storage.formats.key_values import MetadataDamaged, UnwritableValue
from node.units import MiB
from tests.unit.node.storage.examples import (
    IDS,
    KEYS,
    OTHER_SD,
    POOL,
    SD,
    TEXTS,
    attempt,
    read,
)

META = DomainMeta(
    SD, DomainType.LOCALFS, DomainClass.DATA, "storage domain", "server:/path"
)
KNOWN = frozenset(
    line.partition("=")[0] for line in read("domain-512.metadata").decode().splitlines()
)
METAS = some.builds(
    DomainMeta,
    IDS,
    some.sampled_from(DomainType),
    some.sampled_from(DomainClass),
    TEXTS,
    TEXTS,
    some.sampled_from(DomainRole),
    some.lists(IDS, max_size=2).map(tuple),
    some.just(5),
    some.just(4096),
    some.sampled_from([MiB, 2 * MiB, 4 * MiB, 8 * MiB]),
    some.dictionaries(KEYS.filter(lambda key: key not in KNOWN), TEXTS).map(
        lambda entries: tuple(sorted(entries.items()))
    ),
)


def _sealed(text: str) -> bytes:
    """Return metadata with a right checksum, whatever they say."""
    entries = dict(line.split("=", 1) for line in text.splitlines())
    return f"{text}_SHA_CKSUM={domain_meta.checksum(entries)}\n".encode()


def _changed(old: str, new: str) -> bytes:
    """Return the fixture with another line, and sealed again."""
    text = read("domain-512.metadata").decode()
    above = text[: text.index("_SHA_CKSUM")]
    assert f"{old}\n" in above
    return _sealed(above.replace(f"{old}\n", f"{new}\n"))


@pytest.mark.parametrize(
    ("name", "meta"),
    [
        pytest.param("domain-512.metadata", META, id="512"),
        pytest.param("domain-4k.metadata", replace(META, sector_size=4096), id="4k"),
        pytest.param(
            "domain-4k-2m.metadata",
            replace(META, sector_size=4096, alignment=2 * MiB),
            id="4k-2m",
        ),
        pytest.param(
            "domain-iso.metadata",
            DomainMeta(
                OTHER_SD,
                DomainType.NFS,
                DomainClass.ISO,
                "Bücher & CDs",
                "server:/iso",
                pool_ids=(POOL,),
                version=0,
                others=(
                    ("IOOPTIMEOUTSEC", "1"),
                    ("LEASERETRIES", "3"),
                    ("LEASETIMESEC", "5"),
                    ("LOCKPOLICY", ""),
                    ("LOCKRENEWALINTERVALSEC", "5"),
                    ("MASTER_VERSION", "0"),
                ),
            ),
            id="iso-of-version-0",
        ),
    ],
)
def test_parse_and_write_agree_with_a_file_by_hand(name: str, meta: DomainMeta) -> None:
    assert domain_meta.parse(read(name)) == meta
    assert domain_meta.write(meta) == read(name)


@given(METAS)
def test_parse_reads_what_write_wrote(meta: DomainMeta) -> None:
    assert domain_meta.parse(domain_meta.write(meta)) == meta


@given(some.binary(max_size=300), some.integers(0, 440), some.booleans())
def test_parse_survives_damage(junk: bytes, at: int, is_inserted: bool) -> None:
    good = read("domain-512.metadata")
    data = good[:at] + junk + good[at if is_inserted else at + len(junk) :]
    result = attempt(domain_meta.parse, data)
    # Nothing changed, or a blank at the end of a line.
    assert result == META or (isinstance(result, Error) and result.remedy)


@given(some.data(), some.sampled_from(b"0aZ=_\xff\0"))
def test_parse_refuses_every_changed_letter(draw: some.DataObject, new: int) -> None:
    data = bytearray(read("domain-512.metadata"))
    at = draw.draw(some.integers(0, len(data) - 2))  # but the last newline
    assume(data[at] != new)
    data[at] = new
    with pytest.raises(MetadataDamaged):
        domain_meta.parse(bytes(data))


@pytest.mark.parametrize(
    ("data", "error"),
    [
        pytest.param(b"", MetadataDamaged, id="empty"),
        pytest.param(b"\xff\xfe", MetadataDamaged, id="not-utf-8"),
        pytest.param(b"A=1\n" * 20000, MetadataDamaged, id="huge"),
        pytest.param(b"VERSION=5\n", WrongChecksum, id="not-sealed"),
        pytest.param(
            read("domain-512.metadata").replace(b"Regular", b"Master"),
            WrongChecksum,
            id="wrong-seal",
        ),
        pytest.param(_changed("VERSION=5", "VERSION=4"), OldFormat, id="data-v4"),
        pytest.param(_changed("VERSION=5", "VERSION=6"), MetadataDamaged, id="v6"),
        pytest.param(_changed("CLASS=Data", "X=1"), MetadataDamaged, id="no-class"),
        pytest.param(
            _changed("CLASS=Data", "CLASS=data"), MetadataDamaged, id="odd-class"
        ),
        pytest.param(
            _changed("TYPE=LOCALFS", "TYPE=UNKNOWN"), MetadataDamaged, id="odd-type"
        ),
        pytest.param(
            _changed(f"SDUUID={SD}", "SDUUID=../../etc"), MetadataDamaged, id="odd-id"
        ),
        pytest.param(
            _changed("POOL_UUID=", "POOL_UUID=x"), MetadataDamaged, id="odd-pool"
        ),
        pytest.param(
            _changed("BLOCK_SIZE=512", "BLOCK_SIZE=1024"), MetadataDamaged, id="sector"
        ),
        pytest.param(
            _changed("ALIGNMENT=1048576", "ALIGNMENT=0"), MetadataDamaged, id="align"
        ),
        pytest.param(
            _changed("ALIGNMENT=1048576", "ALIGNMENT=2097152"),
            MetadataDamaged,
            id="alignment-of-4k-only",
        ),
    ],
)
def test_parse_refuses(data: bytes, error: type[Error]) -> None:
    with pytest.raises(error) as caught:
        domain_meta.parse(data)
    assert caught.value.remedy


def test_parse_takes_the_blank_pool_for_none() -> None:
    blank = "00000000-0000-0000-0000-000000000000"
    assert domain_meta.parse(_changed("POOL_UUID=", f"POOL_UUID={blank}")) == META


def test_write_keeps_an_unknown_key_in_its_place() -> None:
    data = _changed("LOCKPOLICY=", "LOCKOWNER=x\nLOCKPOLICY=")
    assert domain_meta.write(domain_meta.parse(data)) == data


@pytest.mark.parametrize("text", ["a\nROLE=Master", "a ", "\0"])
def test_write_refuses_a_name_that_is_no_line(text: str) -> None:
    with pytest.raises(UnwritableValue):
        domain_meta.write(replace(META, description=text))


def test_check_description_refuses_a_long_name() -> None:
    domain_meta.check_description("ä" * 50)
    with pytest.raises(LongDescription):
        domain_meta.check_description("a" * 51)
