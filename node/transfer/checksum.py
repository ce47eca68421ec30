"""Sum an image up as imageio does: the hash of the hashes of its blocks. Pure.

All blocks have one size, the last may be shorter. A block of zeroes need not be read:
its hash is known. So two images are equal whatever they take on their storage.
"""

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from node.transfer.extents import Extent
from node.units import KiB, MiB

ALGORITHM: Final = "blake2b"
BLOCK_BYTES: Final = 4 * MiB
BLOCK_BYTES_MIN: Final = 1 * MiB
BLOCK_BYTES_MAX: Final = 16 * MiB
BLOCK_STEP: Final = 4 * KiB
# imageio's choice where an algorithm leaves it open.
_DIGEST_BYTES: Final = 32

# Those whose digest has one length.
ALGORITHMS: Final = tuple(
    sorted(
        name for name in hashlib.algorithms_guaranteed if not name.startswith("shake_")
    )
)


@dataclass(frozen=True, slots=True)
class Block:
    start: int
    length: int
    is_zero: bool


def hasher(algorithm: str) -> Callable[[], Any]:
    """Return what makes a new hash; it has `update` and `digest`."""
    function = getattr(hashlib, algorithm)
    if algorithm.startswith("blake2"):
        return functools.partial(function, digest_size=_DIGEST_BYTES)
    return functools.partial(function)


def blocks(extents: Iterable[Extent], block_bytes: int) -> Iterator[Block]:
    """Yield the blocks of an image; one is zero if all extents in it are."""
    block = Block(0, 0, True)
    for extent in extents:
        start = extent.start
        while start < extent.end:
            length = min(extent.end - start, block_bytes - block.length)
            is_zero = block.is_zero and extent.is_zero
            block = Block(block.start, block.length + length, is_zero)
            start += length
            if block.length == block_bytes:
                yield block
                block = Block(start, 0, True)
    if block.length:
        yield block


class ZeroDigests:
    """What blocks of zeroes sum up to, computed once for each length."""

    def __init__(self, new: Callable[[], Any]) -> None:
        self._new = new
        self._known: dict[int, bytes] = {}

    def of(self, length: int) -> bytes:
        """Return the digest of so many zeroes."""
        if length not in self._known:
            hashed = self._new()
            hashed.update(bytes(length))
            self._known[length] = hashed.digest()
        return self._known[length]
