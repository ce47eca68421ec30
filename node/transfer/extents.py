"""Turn an NBD server's block status into what imageio's clients read. Pure.

A server describes the same bytes in several contexts, in pieces of its own choice:
    base:allocation         bit 0: takes no space, bit 1: reads as zeroes
    qemu:allocation-depth   0: neither in this file nor in those beneath
    qemu:dirty-bitmap:…     bit 0: changed since the checkpoint
Source: NBD's proto.md, QEMU's docs/interop/nbd.txt, docs/formats/transfers.md.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

ALLOCATION: Final = "base:allocation"
DEPTH: Final = "qemu:allocation-depth"
DIRTY: Final = "qemu:dirty-bitmap:"  # followed by the bitmap's name

_ZERO: Final = 2
_CHANGED: Final = 1

# Of one context: (length, what the context says of it).
Status = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Extent:
    start: int
    length: int
    is_zero: bool
    is_hole: bool = False  # shows what lies beneath the chain that was opened
    is_dirty: bool = False

    @property
    def end(self) -> int:
        return self.start + self.length

    def is_like(self, other: "Extent") -> bool:
        """Tell whether both could be one."""
        return (self.is_zero, self.is_hole, self.is_dirty) == (
            other.is_zero,
            other.is_hole,
            other.is_dirty,
        )


def read(start: int, end: int, statuses: Mapping[str, Status]) -> Iterator[Extent]:
    """Yield the extents from start, as far as all contexts reach, before the end."""
    lists = {name: list(reversed(status)) for name, status in statuses.items()}
    while start < end and all(lists.values()):
        length = min(min(pieces[-1][0] for pieces in lists.values()), end - start)
        says = {name: pieces[-1][1] for name, pieces in lists.items()}
        yield _extent(start, length, says)
        start += length
        for pieces in lists.values():
            left, value = pieces.pop()
            if left > length:
                pieces.append((left - length, value))


def join(extents: Iterable[Extent]) -> Iterator[Extent]:
    """Yield neighbours that say the same as one."""
    current: Extent | None = None
    for extent in extents:
        if current is not None and current.is_like(extent):
            current = replace(current, length=current.length + extent.length)
            continue
        if current is not None:
            yield current
        current = extent
    if current is not None:
        yield current


def to_json(extents: Iterable[Extent], is_dirty: bool) -> Iterator[bytes]:
    """Yield the pieces of imageio's list."""
    opening = b"["
    for extent in extents:
        said = {"start": extent.start, "length": extent.length, "zero": extent.is_zero}
        kind = {"dirty": extent.is_dirty} if is_dirty else {"hole": extent.is_hole}
        yield opening + json.dumps({**said, **kind}).encode()
        opening = b", "
    yield b"]\n" if opening == b", " else b"[]\n"


def _extent(start: int, length: int, says: Mapping[str, int]) -> Extent:
    changed = [value for name, value in says.items() if name.startswith(DIRTY)]
    return Extent(
        start,
        length,
        bool(says[ALLOCATION] & _ZERO),
        says.get(DEPTH, 1) == 0,
        any(value & _CHANGED for value in changed),
    )
