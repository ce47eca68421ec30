"""Keep the journals of a pool in their folder on the master storage domain.

A journal that cannot be read, or that bears a higher term than ours, is told of and
never touched; the images that it may be about stay locked.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from node.errors import Conflict, Error, NotFound, Unavailable
from node.storage.formats import journal as journals
from node.storage.formats import layout
from node.storage.formats.journal import Direction, Journal, JournalDamaged
from node.storage.formats.layout import FILE_MODE
from node.storage.guard import GuardFiles
from node.storage.process.file_operations import FileMissing

log = logging.getLogger(__name__)


class JournalGone(NotFound):
    code = "journal_gone"
    remedy = "The operation has ended; look at the disk."


class NotManager(Conflict):
    """A journal bears a higher term than ours: of a lease that was made anew."""

    code = "not_storage_manager"
    remedy = (
        "If another node manages the storage pool, ask that one. Else the lease or the "
        "pool's map was put back to an older state: check the disk (`skerry-node "
        "storage check`), then remove the journal by hand."
    )


@dataclass(frozen=True, slots=True)
class Unjudged:
    """A journal that nobody may act on, why, and what it may be about."""

    job_id: str
    error: Error
    places: frozenset[tuple[str, str]]  # (storage domain or ANYWHERE, image)


class JournalFolder:
    """The journals of one pool, as the manager of one term may change them."""

    def __init__(self, files: GuardFiles, root: str, number: int) -> None:
        """Work under the term of this number."""
        self._files = files
        self._folder = layout.Layout(PurePosixPath(root)).journals
        self._number = number

    def read_all(self) -> tuple[tuple[Journal, ...], tuple[Unjudged, ...]]:
        """Return the journals that are ours to end, and the others.

        What is half written stays: another job may be writing it now.
        """
        found: dict[str, Journal] = {}
        others: list[Unjudged] = []
        for job_id, direction in self._names():
            try:
                journal = self._judge(job_id, direction)
                if job_id in found:
                    raise JournalDamaged(f"job {job_id} has two journals")
            except JournalGone:
                continue  # its job has ended while we looked
            except Error as error:
                log.error("journal %s: %s", job_id, error)
                places = self._places(job_id, direction)
                if (twin := found.pop(job_id, None)) is not None:
                    places |= twin.places()
                others.append(Unjudged(job_id, error, places))
            else:
                found[job_id] = journal
        return tuple(found.values()), tuple(others)

    def find(self, job_id: str) -> Journal:
        """Return one; JournalGone, JournalDamaged, NewerJournal, NotManager."""
        direction = self._direction(layout.check_id(job_id))
        if direction is None:
            raise JournalGone(f"job {job_id} has no journal", job_id=job_id)
        return self._judge(job_id, direction)

    def write(self, journal: Journal) -> None:
        """Write it at once, in the place of the one before."""
        path = str(self._folder / journal.name)
        self._files.write_whole(path, journals.write(journal), FILE_MODE)

    def turn_back(self, journal: Journal) -> Journal:
        """Decide for good that an operation is undone; that takes no space."""
        back = replace(journal, direction=Direction.BACK)
        if back.name != journal.name:
            self._files.rename(
                str(self._folder / journal.name), str(self._folder / back.name)
            )
        return back

    def remove(self, journal: Journal) -> None:
        self._files.remove(str(self._folder / journal.name))

    def removal(self, journal: Journal) -> tuple[Mapping[str, Any], ...]:
        """Return what removes it in one go with the last step, after that."""
        path = str(self._folder / journal.name)
        return {"name": "settle"}, {"name": "remove", "path": path}

    def _names(self) -> Iterator[tuple[str, Direction]]:
        """Yield the jobs that have journals."""
        for entry in self._files.list(str(self._folder)):
            found = journals.read_name(entry.name)
            if found is not None:
                yield found

    def tidy(self, is_spared: Callable[[str], bool]) -> None:
        """Remove what writing a journal has left, unless its job may write it now."""
        for entry in self._files.list(str(self._folder)):
            if journals.read_name(entry.name) is not None:
                continue
            # In this order: a job that has ended since has left nothing.
            half = journals.read_name(entry.name.removesuffix(".new"))
            if half is not None and not is_spared(half[0]):
                self._files.remove(str(self._folder / entry.name))

    def _direction(self, job_id: str) -> Direction | None:
        """Return which way a job's journal goes by its name; None: there is none."""
        found = [direction for name, direction in self._names() if name == job_id]
        return Direction.BACK if Direction.BACK in found else next(iter(found), None)

    def _judge(self, job_id: str, direction: Direction) -> Journal:
        data = self._read(job_id, direction)
        journal = journals.parse(data)
        if journal.job_id != job_id:
            raise JournalDamaged(f"the journal is that of {journal.job_id}")
        if journal.lease_version > self._number:
            raise NotManager(
                f"job {job_id} is under term {journal.lease_version} of node "
                f"{journal.node_id}, ours is {self._number}",
                job_id=job_id,
            )
        return replace(journal, direction=direction)

    def _places(self, job_id: str, direction: Direction) -> frozenset[tuple[str, str]]:
        """Return what a journal that cannot be judged may be about."""
        try:
            data = self._read(job_id, direction)
        except Unavailable:
            raise
        except Error:
            return frozenset()  # too large to be one of ours
        return frozenset((journals.ANYWHERE, each) for each in journals.mentioned(data))

    def _read(self, job_id: str, direction: Direction) -> bytes:
        path = str(self._path(job_id, direction))
        try:
            return self._files.read(path, journals.SIZE_MAX)
        except Error as error:
            if error.code == FileMissing.code:
                raise JournalGone(f"job {job_id} has no journal") from error
            raise

    def _path(self, job_id: str, direction: Direction) -> PurePosixPath:
        suffix = journals.BACK_SUFFIX if direction is Direction.BACK else ""
        return self._folder / f"{job_id}{suffix}"
