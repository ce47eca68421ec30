"""Decide what to do with a push: take it, or ask for everything.

Pure. A position is how far a node has been heard; a push goes on from there or
is refused with `resync`. From 0 on it is everything and replaces what was. A
push in several parts is gathered, and counts when its last part is here.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from node.model.feed import Delta


@dataclass(frozen=True, slots=True)
class Position:
    epoch: str
    rev: int
    boot_id: str
    events_acknowledged: int  # of that boot


class Verdict(StrEnum):
    REPLACE = "replace"  # it is everything
    ADVANCE = "advance"  # it goes on from where we are, or from before
    RESYNC = "resync"


@dataclass(frozen=True, slots=True)
class Gathering:
    """The parts of a push that are here; the next one is `count` + 1."""

    whole: Delta  # of the parts so far
    count: int


def judge(position: Position | None, delta: Delta) -> Verdict:
    """Say what a whole push is to us."""
    if delta.from_rev == 0:
        return Verdict.REPLACE
    if position is None or delta.epoch != position.epoch:
        return Verdict.RESYNC
    # A lost reply makes a node repeat itself: it may begin before, never after.
    # To end before where we are, its store must have gone back in time.
    if delta.from_rev > position.rev or delta.to_rev < position.rev:
        return Verdict.RESYNC
    return Verdict.ADVANCE


def gather(gathering: Gathering | None, part: Delta) -> Gathering | None:
    """Return what is gathered with this part; None if it does not fit."""
    if part.part == 1:
        return Gathering(part, 1)
    if gathering is None or part.part != gathering.count + 1:
        return None
    whole = gathering.whole
    if _identity(part) != _identity(whole):
        return None
    joined = replace(
        whole,
        changed=whole.changed + part.changed,
        gone=whole.gone + part.gone,
        events=whole.events + part.events,
        stats=part.stats or whole.stats,
    )
    return Gathering(joined, part.part)


def is_whole(gathering: Gathering) -> bool:
    """Say whether the last part is here."""
    return gathering.count == gathering.whole.parts


def acknowledged(position: Position | None, delta: Delta) -> int:
    """Return up to which of the boot's events we have all; 0: none."""
    if position is None or _origin(position) != _origin(delta):
        return 0
    return position.events_acknowledged


def advance(position: Position | None, delta: Delta) -> Position:
    """Return the position after a push was taken.

    Events of earlier boots are stored too, but only this one's are counted; a
    store that was made anew counts its own.
    """
    numbers = [each.number for each in delta.events if each.boot_id == delta.boot_id]
    return Position(
        delta.epoch,
        delta.to_rev,
        delta.boot_id,
        max([acknowledged(position, delta), *numbers]),
    )


def _origin(said: Position | Delta) -> tuple[str, str]:
    return said.epoch, said.boot_id


def _identity(delta: Delta) -> tuple[str, int, int, int, str]:
    return delta.epoch, delta.from_rev, delta.to_rev, delta.parts, delta.boot_id
