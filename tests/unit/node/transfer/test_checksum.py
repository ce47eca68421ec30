"""Checksums do not depend on how an image is described."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.transfer import checksum
from node.transfer.checksum import Block
from node.transfer.extents import Extent

PARTS = st.lists(st.tuples(st.integers(1, 30), st.booleans()), max_size=12)


def extents_of(parts: list[tuple[int, bool]]) -> list[Extent]:
    found, start = [], 0
    for length, is_zero in parts:
        found.append(Extent(start, length, is_zero))
        start += length
    return found


@given(PARTS, st.integers(1, 16))
def test_blocks_are_zero_where_every_byte_is(
    parts: list[tuple[int, bool]], block_bytes: int
) -> None:
    zeroes = [is_zero for length, is_zero in parts for _ in range(length)]
    expected = [
        Block(
            start, len(zeroes[start:][:block_bytes]), all(zeroes[start:][:block_bytes])
        )
        for start in range(0, len(zeroes), block_bytes)
    ]
    assert list(checksum.blocks(extents_of(parts), block_bytes)) == expected


@pytest.mark.parametrize("algorithm", checksum.ALGORITHMS)
def test_hasher_makes_every_algorithm(algorithm: str) -> None:
    hashed = checksum.hasher(algorithm)()
    hashed.update(b"x")
    assert hashed.digest()


def test_hasher_takes_imageios_length_of_blake2() -> None:
    hashed = checksum.hasher("blake2b")()
    hashed.update(b"x")
    assert hashed.digest() == hashlib.blake2b(b"x", digest_size=32).digest()


def test_zero_digests_are_those_of_zeroes() -> None:
    digests = checksum.ZeroDigests(checksum.hasher("sha256"))
    assert digests.of(5) == hashlib.sha256(bytes(5)).digest()
    assert digests.of(5) is digests.of(5)
