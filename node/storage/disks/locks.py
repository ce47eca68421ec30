"""Let one job at a time work on a disk; many may read one, as a template's.

A lock belongs to a job and ends with it, however that ends: so a claim counts only
while its job is alive, and nobody has to give it back. A journal that has not ended
keeps what it may still touch: images on storage domains, for the rest is free.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from node.errors import Busy, Error
from node.model.ids import JobId
from node.storage.formats.journal import ANYWHERE


class DiskLocked(Busy):
    """Another job works on the disk."""

    code = "disk_locked"
    remedy = "Wait until the job that the message names has ended, then try again."


class DiskUnfinished(Busy):
    """An operation was interrupted, and its journal waits to be ended."""

    code = "disk_unfinished"
    remedy = (
        "The manager ends it when the storage domains it needs are active again; "
        "activate them, or do what the message says."
    )


@dataclass(frozen=True, slots=True)
class Claim:
    job_id: JobId
    changed: frozenset[str]  # disks
    read: frozenset[str]
    places: frozenset[tuple[str, str]]  # their (storage domain, image) pairs
    within: JobId | None = None  # it works for whoever made that claim

    def is_of(self, other: "Claim") -> bool:
        """Tell whether the two do not stand in each other's way."""
        return other.job_id in (self.job_id, self.within) or self.job_id == other.within

    def forbids(self, disk_id: str, *, is_change: bool) -> bool:
        return disk_id in self.changed or (is_change and disk_id in self.read)


@dataclass(frozen=True, slots=True)
class Left:
    """What a journal keeps until it is ended, and why that waits."""

    places: frozenset[tuple[str, str]]  # (storage domain or ANYWHERE, image)
    shown: frozenset[str] = frozenset()  # the disks that are told to be locked
    error: Error | None = None  # None: it is being ended
    may_retry: bool = True  # False: a person has to look

    def holds(self, place: tuple[str, str]) -> bool:
        return place in self.places or (ANYWHERE, place[1]) in self.places


class DiskLocks:
    """Who works on which disk. Any thread may call."""

    def __init__(self, is_alive: Callable[[JobId], bool]) -> None:
        """`is_alive` tells whether a job waits or runs."""
        self._is_alive = is_alive
        self._lock = threading.Lock()
        self._claims: dict[JobId, Claim] = {}
        self._asked: set[JobId] = set()  # which become jobs in a moment
        self._left: dict[JobId, Left] = {}
        self._turn = threading.Condition()
        self._taken: set[JobId] = set()  # journals that somebody goes on with

    def claim(self, claim: Claim) -> None:
        """Lock disks for a job that is about to be taken on. DiskLocked.

        Tell `settle` when it was taken on, or not. Until then it counts as alive: what
        is no job, a transfer, tells it at its end.
        """
        with self._lock:
            self._drop_ended()
            for other in self._claims.values():
                if not claim.is_of(other):
                    _check(claim, other)
            for job_id, left in self._left.items():
                if job_id not in (claim.job_id, claim.within):
                    _check_left(claim, job_id, left)
            self._claims[claim.job_id] = claim
            self._asked.add(claim.job_id)

    def settle(self, job_id: JobId) -> None:
        """Hear that a job is alive by now, or was refused."""
        with self._lock:
            self._asked.discard(job_id)

    def owners(self) -> Mapping[str, JobId]:
        """Return the jobs that change disks, by the disks."""
        with self._lock:
            self._drop_ended()
            found = {
                disk_id: claim.job_id
                for claim in self._claims.values()
                for disk_id in claim.changed
            }
            left = {
                disk_id: job_id
                for job_id, each in self._left.items()
                for disk_id in each.shown
            }
        return {**left, **found}

    def leave(self, job_id: JobId, left: Left) -> None:
        """Keep what a journal may touch locked."""
        with self._lock:
            self._left[job_id] = left

    def end_left(self, job_id: JobId) -> None:
        with self._lock:
            self._left.pop(job_id, None)

    def left(self) -> Mapping[JobId, Left]:
        """Return the jobs whose journals have not ended."""
        with self._lock:
            return dict(self._left)

    def take_turn(self, job_id: JobId, timeout_s: float = 0.0) -> bool:
        """Be the only one who goes on with a journal, until `end_turn`.

        False: another one still does.
        """
        with self._turn:
            if not self._turn.wait_for(lambda: job_id not in self._taken, timeout_s):
                return False
            self._taken.add(job_id)
            return True

    def end_turn(self, job_id: JobId) -> None:
        with self._turn:
            self._taken.discard(job_id)
            self._turn.notify_all()

    def _drop_ended(self) -> None:
        for job_id in tuple(self._claims):
            if job_id not in self._asked and not self._is_alive(job_id):
                del self._claims[job_id]


def _check_left(claim: Claim, job_id: JobId, left: Left) -> None:
    for place in sorted(claim.places):
        if left.holds(place):
            why = f": {left.error}" if left.error is not None else ""
            raise DiskUnfinished(
                f"job {job_id} has not ended its work on disk {place[1]}{why}",
                disk_id=place[1],
                job_id=job_id,
            )


def _check(claim: Claim, other: Claim) -> None:
    wanted: Final = [(each, True) for each in claim.changed]
    wanted.extend((each, False) for each in claim.read)
    for disk_id, is_change in sorted(wanted):
        if other.forbids(disk_id, is_change=is_change):
            raise DiskLocked(
                f"job {other.job_id} works on disk {disk_id}",
                disk_id=disk_id,
                job_id=other.job_id,
            )
