"""What a volume says of itself, byte for byte as oVirt writes it."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from node.errors import Error
from node.storage.formats import volume_meta
from node.storage.formats.key_values import MetadataDamaged, UnwritableValue
from node.storage.formats.volume_meta import (
    Allocation,
    Format,
    Legality,
    LongMetadata,
    VolumeMeta,
    VolumeRole,
)
from node.units import GiB
from tests.unit.node.storage.examples import (
    IDS,
    IMAGE,
    OTHER_IMAGE,
    TEXTS,
    attempt,
    read,
)

META = VolumeMeta(
    "90d5c496-8690-4d24-a371-fbee41f8b6f9",
    IMAGE,
    150 * GiB,
    Format.COW,
    Allocation.SPARSE,
    VolumeRole.LEAF,
    1725624634,
    description='{"DiskAlias":"","DiskDescription":""}',
    generation=1,
)
EXPORTED = VolumeMeta(
    "b068bd53-60f2-4270-8257-0bc962de834f",
    OTHER_IMAGE,
    16 * GiB,
    Format.RAW,
    Allocation.SPARSE,
    VolumeRole.LEAF,
    1482389127,
    disk_type="1",
)
NUMBERS = some.integers(0, 2**63 - 1)
METAS = some.builds(
    VolumeMeta,
    IDS,
    IDS,
    NUMBERS,
    some.sampled_from(Format),
    some.sampled_from(Allocation),
    some.sampled_from(VolumeRole),
    some.integers(0, 2**33),
    some.none() | IDS,
    some.sampled_from(Legality),
    some.sampled_from(["DATA", "OVFS", "MEMD", "2"]),
    TEXTS.map(lambda text: text[:20].strip()),
    some.integers(0, 999),
    some.integers(0, 10**6),
    some.just(()) | some.just((("BACKUP", "1"), ("ZONE", "a=b"))),
)


def _changed(old: bytes, new: bytes) -> bytes:
    data = read("volume.meta")
    assert old in data
    return data.replace(old, new)


def test_parse_and_write_agree_with_a_file_of_ovirt_4_5() -> None:
    assert volume_meta.parse(read("volume.meta")) == META
    assert volume_meta.write(META) == read("volume.meta")


def test_parse_reads_a_volume_of_an_export_domain() -> None:
    assert volume_meta.parse(read("volume-export.meta")) == EXPORTED


def test_write_counts_in_blocks_for_an_export_domain() -> None:
    data = volume_meta.write(EXPORTED, is_exported=True)
    assert volume_meta.parse(data) == EXPORTED
    ours, theirs = (
        set(text.decode().split()) for text in (data, read("volume-export.meta"))
    )
    assert theirs - ours == {"POOL_UUID="}  # oVirt itself drops it today
    assert ours - theirs == {"GEN=0", "SEQ=0"}


def test_write_drops_the_keys_of_older_versions() -> None:
    keys = [line.split(b"=")[0] for line in volume_meta.write(EXPORTED).splitlines()]
    assert not {b"SIZE", b"MTIME", b"POOL_UUID"} & set(keys)
    assert keys[0] == b"CAP"


@given(METAS)
def test_parse_reads_what_write_wrote(meta: VolumeMeta) -> None:
    assert volume_meta.parse(volume_meta.write(meta)) == meta


@given(METAS)
def test_parse_reads_a_slot_filled_with_what_was_there(meta: VolumeMeta) -> None:
    slot = volume_meta.write(meta) + b"\0\xff" * 20 + b"\nCAP=1\n"
    assert volume_meta.parse(slot) == meta


@given(some.binary(max_size=300), some.integers(0, 350), some.booleans())
def test_parse_survives_damage(junk: bytes, at: int, is_inserted: bool) -> None:
    good = read("volume.meta")
    data = good[:at] + junk + good[at if is_inserted else at + len(junk) :]
    result = attempt(volume_meta.parse, data)
    if isinstance(result, VolumeMeta):
        assert 0 <= result.generation <= 999
    else:
        assert isinstance(result, Error)
        assert result.remedy


@given(some.integers(0, 999))
@example(len(read("volume.meta")) - len(b"EOF\n"))
def test_parse_refuses_a_file_that_was_cut_off(length: int) -> None:
    good = read("volume.meta")
    length %= len(good) - len(b"EOF\n") + 1
    with pytest.raises(MetadataDamaged):
        volume_meta.parse(good[:length])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(b"CAP=161061273600", b"CAP=-1", id="negative"),
        pytest.param(b"CAP=161061273600", b"CAP=9223372036854775808", id="65-bits"),
        pytest.param(b"CAP=161061273600\n", b"", id="no-size"),
        pytest.param(b"CAP=161061273600", b"SIZE=18014398509481984", id="blocks"),
        pytest.param(b"CTIME=1725624634", b"CTIME=1725624634.5", id="fraction"),
        pytest.param(b"GEN=1", b"GEN=1000", id="generation"),
        pytest.param(b"SEQ=0", b"SEQ=x", id="sequence"),
        pytest.param(b"FORMAT=COW", b"FORMAT=qcow2", id="format"),
        pytest.param(b"TYPE=SPARSE", b"TYPE=UNKNOWN", id="allocation"),
        pytest.param(b"VOLTYPE=LEAF", b"VOLTYPE=leaf", id="role"),
        pytest.param(b"LEGALITY=LEGAL", b"LEGALITY=", id="legality"),
        pytest.param(b"PUUID=0", b"PUUID=/0", id="parent"),
        pytest.param(b"DISKTYPE=DATA\n", b"", id="no-disk-type"),
        pytest.param(b"DISKTYPE=DATA", b"GEN=2", id="key-twice"),
        pytest.param(b"DESCRIPTION={", b"DESCRIPTION=\xff{", id="not-utf-8"),
        pytest.param(b"CAP=", b"X=" + b"x" * 8192 + b"\nCAP=", id="huge"),
    ],
)
def test_parse_refuses(old: bytes, new: bytes) -> None:
    with pytest.raises(MetadataDamaged) as caught:
        volume_meta.parse(_changed(old, new))
    assert caught.value.remedy


@pytest.mark.parametrize("key", [b"GEN=1\n", b"SEQ=0\n"])
def test_parse_takes_zero_for_a_key_of_later_versions(key: bytes) -> None:
    meta = volume_meta.parse(_changed(key, b""))
    assert 0 in (meta.generation, meta.sequence)


def test_write_keeps_an_unknown_key_in_its_place() -> None:
    data = _changed(b"IMAGE=", b"HOME=x\nIMAGE=")
    assert volume_meta.write(volume_meta.parse(data)) == data


def test_write_fits_the_longest_meta_into_a_sector() -> None:
    longest = replace(
        META,
        capacity_bytes=2**63 - 1,
        allocation=Allocation.PREALLOCATED,
        role=VolumeRole.INTERNAL,
        legality=Legality.ILLEGAL,
        generation=999,
        sequence=999_999,
        description="x" * volume_meta.DESCRIPTION_MAX,
    )
    volume_meta.check_description(longest.description)
    assert len(volume_meta.write(longest)) <= 512


@pytest.mark.parametrize(
    "spare", [pytest.param(0, id="fits"), pytest.param(-1, id="not")]
)
def test_write_refuses_more_than_a_sector(spare: int) -> None:
    room = 512 - len(volume_meta.write(replace(META, description="")))
    meta = replace(META, description="x" * (room - spare))
    if spare:
        with pytest.raises(LongMetadata):
            volume_meta.write(meta)
    else:
        assert len(volume_meta.write(meta)) == 512


def test_check_description_counts_bytes() -> None:
    volume_meta.check_description("ä" * 105)
    with pytest.raises(LongMetadata):
        volume_meta.check_description("ä" * 105 + "a")


def test_check_description_refuses_a_second_line() -> None:
    with pytest.raises(UnwritableValue):
        volume_meta.check_description("a\nEOF")


def test_next_generation_wraps_after_three_digits() -> None:
    assert [volume_meta.next_generation(g) for g in (0, 998, 999)] == [1, 999, 0]
