"""Read and write the journal of an operation that is under way.

Pure. It lies on the master storage domain, so that the next manager (SPM) finishes
or undoes what this one could not. The file is one line of JSON and one line
`sha256=` with the digest of the first, without its newline; it is replaced as a
whole after each step. Once its name ends in `.back` the operation is being undone:
a rename needs no space. One that cannot be read is never touched.
Source: docs/formats/storage-domain.md.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Final

from node import wire
from node.errors import Failed, Invalid, Unsupported
from node.storage.formats import layout
from node.storage.operations import plan
from node.storage.operations.plan import Action, Plan, Step
from node.units import MiB

SCHEMA: Final = 2
UNASSIGNED: Final = 1  # the schema of those that no other node works on
SIZE_MAX: Final = 4 * MiB  # what is read of a file at once; a hundred volumes: 200 KiB
ANYWHERE: Final = ""  # for the storage domain of a place: nobody knows which
BACK_SUFFIX: Final = ".back"  # of the names of those that are being undone
_ID: Final = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DIGEST = re.compile(rb"(.*)\nsha256=([0-9a-f]{64})\n")
_SCHEMA = re.compile(rb'\{"schema":([0-9]{1,9})[,}]')


class JournalDamaged(Failed):
    """A journal does not hold what we write."""

    code = "journal_damaged"
    remedy = (
        "The operation it belongs to is neither finished nor undone. Check the disks "
        "(`skerry-node storage check`), then remove the journal by hand."
    )


class NewerJournal(Unsupported):
    """A newer version of the node began the operation."""

    code = "newer_journal"
    remedy = "Upgrade this node, or let an upgraded one become the manager."


class LongJournal(Invalid):
    code = "long_journal"
    remedy = "Merge some of the disk's snapshots first."


class Direction(StrEnum):
    FORWARD = "forward"
    BACK = "back"  # it is being undone


@dataclass(frozen=True, slots=True)
class Order:
    """An action that another node carries out; see docs/formats/data-jobs.md."""

    order_id: str  # of one attempt
    job_id: str
    action: Action
    lease_version: int  # of the volume's lease, when it was given
    generation: int  # of the volume; one higher when it is carried out


@dataclass(frozen=True, slots=True)
class Assignment:
    """Which node carries out an action of the step under way."""

    order: Order
    number: int  # of the action in its step
    node_id: str
    host_id: int
    tried: tuple[str, ...] = ()  # nodes that were asked before


@dataclass(frozen=True, slots=True)
class Journal:
    schema: int  # stays the first field: it is read before the others
    job_id: str
    verb: str
    object_id: str  # the disk
    node_id: str  # who does it
    lease_version: int  # the number of the manager's term: the higher one decides
    plan: Plan
    done: int = 0  # steps
    direction: Direction = Direction.FORWARD
    assigned: Assignment | None = None

    @property
    def is_committed(self) -> bool:
        """Whether it can only be finished."""
        return self.direction is Direction.FORWARD and self.done >= self.plan.commit

    @property
    def step(self) -> Step:
        """The step under way."""
        return self.plan.steps[self.done]

    @property
    def name(self) -> str:
        """The name of its file."""
        is_back = self.direction is Direction.BACK
        return f"{self.job_id}{BACK_SUFFIX if is_back else ''}"

    def pending(self) -> Iterator[Action]:
        """Yield every action that may still be done."""
        if self.direction is Direction.BACK:
            yield from self.plan.way_back(self.done)
        elif self.is_committed:
            for step in self.plan.steps[self.done :]:
                yield from step.do
            if self.step.may_refuse:
                yield from self.plan.way_back(self.done)
        else:
            yield from self.plan.actions()

    def places(self) -> frozenset[tuple[str, str]]:
        """Return the (storage domain, image) pairs that it may still touch."""
        return frozenset(
            (path.parts[1], found.image_id) for path, found in self._images()
        )

    def written_by_programs(self) -> frozenset[str]:
        """Return the storage domains to which the programs of the step write."""
        programs = (each for each in self.step.do if each.verb in plan.PROGRAMS)
        return frozenset(each.storage_domain_id for each in programs)

    def filled_elsewhere(self) -> frozenset[str]:
        """Return the storage domain to which another node may write, if one does."""
        found = self.assigned
        return frozenset([found.order.action.storage_domain_id] if found else [])

    def shown(self) -> frozenset[str]:
        """Return the images of which it touches more than remains."""
        return frozenset(
            found.image_id
            for _, found in self._images()
            if found.kind is layout.FolderKind.IMAGE
        )

    def _images(self) -> Iterator[tuple[PurePosixPath, layout.ImageFolder]]:
        for action in self.pending():
            for path in map(PurePosixPath, action.paths()):
                if len(path.parts) > 3 and path.parts[2] == "images":
                    found = layout.read_image_name(path.parts[3])
                    if found is not None:
                        yield path, found

    def assign(self, assigned: Assignment | None) -> "Journal":
        """Return the journal in which another node works, or none does."""
        schema = UNASSIGNED if assigned is None else SCHEMA
        return replace(self, schema=schema, assigned=assigned)

    def advance(self) -> "Journal":
        """Return the journal after one more step."""
        return replace(self.assign(None), done=self.done + 1)

    def rest(self, undo: Sequence[Action]) -> "Journal":
        """Return the journal of what could not be undone yet; who fills it, stays."""
        step = Step("rest", (), tuple(undo))
        return replace(self, plan=Plan((step,), 1), done=0, direction=Direction.BACK)


def read_name(name: str) -> tuple[str, Direction] | None:
    """Return the job of a journal's file, and its direction; None: no journal."""
    job_id = name.removesuffix(BACK_SUFFIX)
    if not layout.is_id(job_id):
        return None
    return job_id, Direction.FORWARD if job_id == name else Direction.BACK


def mentioned(data: bytes) -> frozenset[str]:
    """Return every id in a file that cannot be understood: what it may be about."""
    return frozenset(each.decode() for each in _ID.findall(data))


def parse(data: bytes) -> Journal:
    """Return the journal in a file; JournalDamaged or NewerJournal if it cannot be."""
    found = _DIGEST.fullmatch(data)
    if found is None:
        raise JournalDamaged("the file is no journal", size_bytes=len(data))
    body, digest = found[1], found[2].decode()
    if hashlib.sha256(body).hexdigest() != digest:
        raise JournalDamaged("the content does not have the digest that it names")
    schema = _SCHEMA.match(body)
    if schema and int(schema[1]) > SCHEMA:
        raise NewerJournal(f"the journal has schema {int(schema[1])}, we know {SCHEMA}")
    try:
        journal = wire.decode(Journal, body)
        _check(journal)
    except Invalid as error:
        raise JournalDamaged(f"the journal says what cannot be: {error}") from error
    return journal


def write(journal: Journal) -> bytes:
    """Return the file of a journal; LongJournal."""
    _check(journal)
    body = wire.encode(journal)
    data = b"%b\nsha256=%b\n" % (body, hashlib.sha256(body).hexdigest().encode())
    if len(data) > SIZE_MAX:
        raise LongJournal(f"the journal has {len(data)} bytes", size_bytes=len(data))
    return data


def _check(journal: Journal) -> None:
    layout.check_id(journal.job_id)
    plan.check(journal.plan)
    if not 0 <= journal.done < len(journal.plan.steps):
        raise plan.BadPlan(f"step {journal.done} is none of the plan's")
    if journal.assigned is not None:
        plan.check_action(journal.assigned.order.action)
        if not plan.may_be_assigned(journal.assigned.order.action):
            raise plan.BadPlan("an action is assigned that only the manager may do")
