"""The index of external leases, byte for byte as oVirt writes it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from node.errors import Error
from node.storage.formats import xlease_index
from node.storage.formats.xlease_index import (
    BadLeaseName,
    Index,
    IndexDamaged,
    IndexFull,
    Write,
)
from node.units import MiB
from tests.unit.node.storage.examples import IDS, SD, attempt

VM = "7b805d3f-17c1-4a54-b183-830742a031e7"
OTHER_VM = "57b5bf87-4bee-42ab-8910-f7e93419e0dc"
NAMES = some.text(
    some.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=48
)

# By hand: what `hexdump -C` shows of a storage domain that oVirt made.
HEAD = (
    b"\x12\x15\x20\x16" + b"\0" + b"0001" + b"\0"  # magic, version
    b"275766cb-c7d8-43d6-a663-4e52160de620" + bytes(12) + b"\0"  # lockspace
    b"1725624634" + b"\0" + b"-" + bytes(440) + b"\n"  # time, flag
)
FREE = bytes(48) + b"\0" + b"00000000000" + b"\0" + b"--\n"
TAKEN = (
    b"7b805d3f-17c1-4a54-b183-830742a031e7" + bytes(12) + b"\0"
    b"00004194304" + b"\0" + b"--\n"  # record 1 of 1 MiB slots
)
NOW = 1725624634


def _index(*records: bytes, head: bytes = HEAD) -> bytes:
    """Return an index that begins with some records."""
    return head + b"".join(records) + FREE * (3960 - len(records))


def test_the_bytes_by_hand_have_the_sizes_of_the_format() -> None:
    assert (len(HEAD), len(FREE), len(TAKEN)) == (512, 64, 64)
    assert len(_index()) == 253_952


def test_empty_writes_what_ovirt_writes() -> None:
    assert xlease_index.empty(SD, NOW, is_updating=False) == _index()


def test_parse_reads_a_lease() -> None:
    index = xlease_index.parse(_index(FREE, TAKEN))
    assert index == Index(
        SD, NOW, False, {VM: 1}, {}, (), tuple(n for n in range(3960) if n != 1)
    )


def test_parse_believes_the_place_and_not_the_offset() -> None:
    index = xlease_index.parse(_index(TAKEN))
    assert index.records == {VM: 0}
    assert xlease_index.lease_offset(0, MiB) == 3 * MiB


def test_change_writes_the_sector_of_the_record() -> None:
    data = _index(*[FREE] * 8)
    write = xlease_index.change(data, 1, VM, sector_size=512, alignment=MiB)
    assert write == Write(MiB + 512, FREE + TAKEN + FREE * 6)


def test_change_writes_whole_sectors_of_4_kib() -> None:
    offset = TAKEN.replace(b"00004194304", b"00008388608")
    write = xlease_index.change(_index(), 1, VM, sector_size=4096, alignment=2 * MiB)
    assert write == Write(2 * MiB, (HEAD + FREE + offset + FREE * 54))


def test_change_frees_a_record() -> None:
    data = _index(FREE, TAKEN)
    write = xlease_index.change(data, 1, "", sector_size=512, alignment=MiB)
    assert write == Write(MiB + 512, FREE * 7 + FREE)


def test_change_metadata_touches_nothing_else() -> None:
    data = _index(FREE, TAKEN)
    write = xlease_index.change_metadata(
        data, NOW, is_updating=True, sector_size=4096, alignment=MiB
    )
    assert write.data[512:] == data[512:4096]
    changed = xlease_index.parse(write.data + data[4096:])
    assert changed == replace(xlease_index.parse(data), is_updating=True)


@given(some.dictionaries(some.integers(0, 3959), NAMES, max_size=20), IDS)
def test_parse_reads_what_change_wrote(leases: dict[int, str], lockspace: str) -> None:
    leases = {
        record: name for name, record in {n: r for r, n in leases.items()}.items()
    }
    data = bytearray(xlease_index.empty(lockspace, NOW, is_updating=False))
    for record, name in leases.items():
        write = xlease_index.change(
            bytes(data), record, name, sector_size=512, alignment=MiB
        )
        at = write.offset - MiB
        data[at : at + len(write.data)] = write.data
    index = xlease_index.parse(bytes(data))
    assert index.lockspace == lockspace
    assert index.records == {name: record for record, name in leases.items()}
    assert not index.damaged


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(bytes(64), id="zeros"),
        pytest.param(b"\xff" * 64, id="ones"),
        pytest.param(TAKEN.replace(b"\n", b"\0"), id="no-newline"),
        pytest.param(TAKEN.replace(b"--", b"x-"), id="odd-flag"),
        pytest.param(TAKEN.replace(b"00004194304", b"0000419430x"), id="odd-offset"),
        pytest.param(b"\xf0" + TAKEN[1:], id="not-ascii"),
        pytest.param(b"\0" + TAKEN[1:], id="zero-before-the-name"),
    ],
)
def test_parse_lists_a_damaged_record(record: bytes) -> None:
    index = xlease_index.parse(_index(record, FREE))
    assert (index.records, index.damaged) == ({}, (0,))


def test_parse_counts_a_second_record_of_a_name_as_damaged() -> None:
    index = xlease_index.parse(_index(TAKEN, TAKEN))
    assert (index.records, index.damaged) == ({VM: 0}, (1,))


def test_parse_does_not_count_what_older_ovirt_left_unfinished() -> None:
    index = xlease_index.parse(_index(TAKEN.replace(b"--\n", b"u-\n")))
    assert xlease_index.find(index, VM) is None
    assert xlease_index.choose(index, VM) == 0


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(_index()[:-1], id="short"),
        pytest.param(bytes(253_952), id="zeros"),
        pytest.param(_index(head=b"\x16" + HEAD[1:]), id="magic"),
        pytest.param(_index(head=HEAD.replace(b"0001", b"0002")), id="version"),
        pytest.param(_index(head=HEAD.replace(b"0001", b"blah")), id="odd-version"),
        pytest.param(_index(head=HEAD[:10] + b"\xf0" + HEAD[11:]), id="lockspace"),
        pytest.param(_index(head=HEAD[:10] + bytes(49) + HEAD[59:]), id="no-lockspace"),
        pytest.param(_index(head=HEAD.replace(b"1725", b"not ")), id="time"),
        pytest.param(_index(head=HEAD[:-1] + b"\0"), id="no-newline"),
    ],
)
def test_parse_refuses(data: bytes) -> None:
    with pytest.raises(IndexDamaged) as caught:
        xlease_index.parse(data)
    assert caught.value.remedy


@given(some.binary(min_size=1, max_size=600), some.integers(0, 2000))
def test_parse_survives_damage(junk: bytes, at: int) -> None:
    good = _index(TAKEN, FREE, TAKEN.replace(b"7b805d3f", b"00000000"))
    result = attempt(xlease_index.parse, good[:at] + junk + good[at + len(junk) :])
    if isinstance(result, Error):
        assert isinstance(result, IndexDamaged)
    else:
        records = [*result.records.values(), *result.unfinished.values()]
        everything = sorted([*records, *result.damaged, *result.free])
        assert everything == list(range(3960))


def test_find_refuses_an_index_that_is_being_rebuilt() -> None:
    index = xlease_index.parse(xlease_index.empty(SD, NOW, is_updating=True))
    with pytest.raises(IndexDamaged):
        xlease_index.find(index, VM)
    with pytest.raises(IndexDamaged):
        xlease_index.choose(index, VM)


def test_choose_takes_the_first_free_record() -> None:
    index = xlease_index.parse(_index(TAKEN, bytes(64)))
    assert xlease_index.choose(index, OTHER_VM) == 2


def test_choose_answers_the_same_when_asked_twice() -> None:
    index = xlease_index.parse(_index(FREE, TAKEN))
    assert xlease_index.choose(index, VM) == 1


def test_choose_says_when_the_index_is_full() -> None:
    index = replace(xlease_index.parse(_index()), free=())
    with pytest.raises(IndexFull):
        xlease_index.choose(index, VM)


@pytest.mark.parametrize(
    "name", ["", "a b", "ä", "a\0", "a\n", pytest.param("a" * 49, id="49-letters")]
)
def test_choose_refuses_a_name_that_sanlock_cannot_hold(name: str) -> None:
    with pytest.raises(BadLeaseName):
        xlease_index.choose(xlease_index.parse(_index()), name)
