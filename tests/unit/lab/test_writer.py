"""Test what is known of the guest that is only a boot sector, without a guest."""

import pytest

from tests.lab.throwaway import writer

STAMPS = b"".join(map(writer.stamp, range(3)))
BEFORE = b"\xff" * (writer.FIRST * writer.SECTOR)


def test_stamp_is_what_the_machine_code_makes() -> None:
    # 1 × 1664525 + 1013904223, and once more, as 32 bits.
    first = 1664525 + 1013904223
    second = (first * 1664525 + 1013904223) % (1 << 32)
    expected = first.to_bytes(4, "little") + second.to_bytes(4, "little")
    assert writer.stamp(1)[:8] == expected
    assert len(writer.stamp(1)) == writer.SECTOR


@pytest.mark.parametrize(
    ("disk", "count"),
    [
        pytest.param(BEFORE, 0, id="none"),
        pytest.param(BEFORE + STAMPS, 3, id="to-the-end"),
        pytest.param(BEFORE + STAMPS[512:], 0, id="not-from-the-first"),
        pytest.param(BEFORE + STAMPS[:1024] + bytes(512), 2, id="then-nothing"),
        pytest.param(BEFORE + STAMPS[:1535] + b"?", 2, id="one-byte-is-wrong"),
    ],
)
def test_stamps_counts_until_the_first_that_is_not(disk: bytes, count: int) -> None:
    assert writer.stamps(disk) == count


def test_told_reads_whole_lines() -> None:
    serial = b"f\nA0000000a\nSeaBIOS\r\nH0000000b\nA0000000c"
    assert writer.told(serial) == [("A", 10), ("H", 11)]
